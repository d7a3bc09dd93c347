"""Models beyond the 2 GiB of a protobuf message: weights are handed over beside the graph."""

import math
from typing import Any

import onnx
from onnx import TensorProto, numpy_helper

MESSAGE_BYTES = 3 * 2**29  # above this the weights leave the message
LARGE_TENSOR = 2**20


def split_weights(
    model: onnx.ModelProto, limit: int = MESSAGE_BYTES
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """A model that fits a message, and the weights that do not.

    Args:
        model: with all weights in it; it is not changed.
        limit: bytes of weights up to which the model is returned as it is.

    Returns:
        The model, in which large weights are declared as external, and these weights by name,
        as arrays.
    """
    weights = model.graph.initializer
    if sum(byte_count(item) for item in weights) <= limit:
        return model, {}
    skeleton = onnx.ModelProto()
    for message, copied, left_out in (
        (model, skeleton, "graph"),
        (model.graph, skeleton.graph, "initializer"),
    ):
        for field, value in message.ListFields():
            if field.name == left_out:
                continue
            target: Any = getattr(copied, field.name, None)
            if hasattr(target, "extend"):
                target.extend(value)
            elif hasattr(target, "CopyFrom"):
                target.CopyFrom(value)
            else:
                setattr(copied, field.name, value)
    arrays: dict[str, Any] = {}
    for item in weights:
        kept = skeleton.graph.initializer.add()
        size = byte_count(item)
        if size < LARGE_TENSOR:
            kept.CopyFrom(item)
            continue
        kept.name, kept.data_type = item.name, item.data_type
        kept.dims.extend(item.dims)
        kept.data_location = TensorProto.EXTERNAL
        entries = {"location": "beside", "offset": "0", "length": str(size)}
        for key, text in entries.items():
            kept.external_data.add(key=key, value=text)
        arrays[item.name] = numpy_helper.to_array(item)
    return skeleton, arrays


def byte_count(tensor: TensorProto) -> int:
    """Bytes of a tensor, from its shape: asking for its content would copy it."""
    item_bytes = int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    return int(math.prod(tensor.dims)) * item_bytes
