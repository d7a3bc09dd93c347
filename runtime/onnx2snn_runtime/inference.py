"""Strict shape inference without the weights: what does not fit is found before it runs."""

from collections.abc import Iterable, Sequence

import onnx
from onnx import helper

from onnx2snn_runtime.disk import shown
from onnx2snn_runtime.errors import ModelError
from onnx2snn_runtime.format import DOMAIN
from onnx2snn_runtime.tensor_checks import byte_count

# Of one image: an input, all states together, any one tensor.
MAX_IMAGE_BYTES = 4 * 2**30
_SMALL_BYTES = 1024  # weights up to this size may be the shapes that operators read


def skeleton(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    inputs: Iterable[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    """These nodes as a model whose large weights are inputs, without stated shapes inside.

    Args:
        model: gives weights, outputs and operator sets.
        nodes: in the order of execution.
        inputs: the inputs besides the weights.
    """
    graph = model.graph
    made = {name for node in nodes for name in node.output}
    small = [tensor for tensor in graph.initializer if byte_count(tensor) <= _SMALL_BYTES]
    large = [
        helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in graph.initializer
        if byte_count(tensor) > _SMALL_BYTES
    ]
    outputs = [onnx.ValueInfoProto(name=value.name) for value in graph.output if value.name in made]
    bare = helper.make_graph(nodes, "skeleton", [*inputs, *large], outputs, small)
    opsets = [item for item in model.opset_import if item.domain != DOMAIN]
    return helper.make_model(bare, opset_imports=opsets, ir_version=model.ir_version)


def infer(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the shapes that follow from its operators.

    Raises:
        ModelError: something does not fit together.
    """
    try:
        return onnx.shape_inference.infer_shapes(
            model, check_type=True, strict_mode=True, data_prop=True
        )
    except (
        onnx.shape_inference.InferenceError,
        onnx.checker.ValidationError,
        RuntimeError,
        ValueError,
    ) as problem:
        text = shown(problem, 600)
        raise ModelError(f"the shapes of the model do not fit together: {text}") from problem
