"""From messages to the intermediate representation and back; large weights are never copied."""

import numpy as np
import onnx
import onnx_ir as ir

from onnx2snn_runtime.files import beside
from onnx2snn_runtime.files.attribute_checks import OPEN

BYTE = 8  # smaller numbers are packed in messages, and not in arrays


def from_proto(model: onnx.ModelProto) -> ir.Model:
    """A model as the passes take it; the message is the IR's from now on."""
    result = ir.from_proto(model)
    for tensor in model.graph.initializer:
        if beside.is_beside(tensor):
            value = result.graph.initializers[tensor.name]
            value.const_value = ir.Tensor(
                beside.array_of(tensor), ir.DataType(tensor.data_type), name=tensor.name
            )
    return result


def open_sizes(model: onnx.ModelProto) -> None:
    """Sizes of −1, as some writers have them, are left open as ONNX says it."""
    for value in [*model.graph.input, *model.graph.value_info, *model.graph.output]:
        for size in value.type.tensor_type.shape.dim:
            if size.dim_value == OPEN:
                size.Clear()


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """A model as a message; who keeps it must keep ``model``, or `beside.kept_alive` of it."""
    sizes = {
        value: value.const_value.nbytes
        for value in model.graph.initializers.values()
        if value.const_value is not None and value.const_value.dtype.bitwidth >= BYTE
    }
    swapped = {}
    for value in beside.leaving(sizes):
        tensor = value.const_value
        assert tensor is not None, "it has a size"
        array = np.ascontiguousarray(tensor.numpy())
        place, first = beside.put(array)
        swapped[value] = ir.Tensor(array, tensor.dtype, name=tensor.name)
        value.const_value = ir.ExternalTensor(
            place, first, array.nbytes, tensor.dtype, shape=ir.Shape(array.shape),
            name=tensor.name or "",
        )  # fmt: skip
    try:
        return ir.to_proto(model)
    finally:
        for value, tensor in swapped.items():
            value.const_value = tensor
