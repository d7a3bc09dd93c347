"""What the output that decides tells: scores of classes, or one probability of two."""

from typing import Any

import numpy as np
import onnx

Array = Any
_MOVES = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity")


def is_probability(model: onnx.ModelProto, output: str) -> bool:
    """Whether an output is one number for each image, which a Sigmoid makes: of class 1 of two."""
    makers = {name: node for node in model.graph.node for name in node.output}
    maker = makers.get(output)
    while maker is not None and maker.op_type in _MOVES:
        maker = makers.get(maker.input[0])
    (value,) = (item for item in model.graph.output if item.name == output)
    batch, *sizes = [size.dim_value for size in value.type.tensor_type.shape.dim] or [0, 0]
    del batch
    return maker is not None and maker.op_type == "Sigmoid" and all(size == 1 for size in sizes)


def class_scores(output: Array, is_binary: bool) -> Array:
    """An output, or of a probability p for each image the scores of both classes, [N,2]."""
    if not is_binary:
        return output
    ones = np.asarray(output).reshape(len(output), 1)
    return np.concatenate([1 - ones, ones], axis=1)
