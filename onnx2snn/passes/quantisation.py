"""Files with QuantizeLinear and DequantizeLinear become the float network they stand for."""

import numpy as np
import onnx_ir as ir

from onnx2snn.passes.base import Array, Pass
from onnx2snn.passes.graph import (
    add_constant,
    constant,
    drop_unused,
    graph_of,
    input_at,
    is_op,
    label,
    redirect,
    remove,
)

NONNEGATIVE = ("Relu", "Sigmoid", "Softmax", "HardSigmoid", "Abs", "Exp", "Softplus")
KEEPS_SIGN = (
    "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Reshape", "Flatten",
    "Transpose", "Concat", "Squeeze", "Unsqueeze", "ReduceMean", "Slice", "Split", "Identity",
)  # fmt: skip
NUMBERS = {
    ir.DataType.UINT8: (0, 255), ir.DataType.INT8: (-128, 127),
    ir.DataType.UINT16: (0, 65535), ir.DataType.INT16: (-32768, 32767),
    ir.DataType.UINT4: (0, 15), ir.DataType.INT4: (-8, 7),
}  # fmt: skip


class StripQuantisation(Pass):
    """Weights are (q − zero)·scale; Dequantize(Quantize(x)) of an activation is x without rounding.

    Where zero is the lowest integer the pair is a rectifier as well: it becomes
    Clip(x, 0, (highest − zero)·scale) unless x is never negative.
    """

    name = "strip-quantisation"

    def run(self, model: ir.Model) -> ir.Model:
        """Weights first, then activations in order."""
        weights = sum(self.weight(node) for node in list(model.graph))
        pairs = sum(self.activation(node) for node in list(model.graph))
        if weights or pairs:
            self.note(
                "",
                f"{weights} quantised weights became float32 and {pairs} quantisations of "
                "activations were removed: results differ from the file's by its rounding",
            )
        for node in model.graph:
            if is_op(node, "QuantizeLinear", "DequantizeLinear"):
                self.note(node.name, f"{node.op_type} {label(node)} kept: no pair to remove")
        return model

    def weight(self, node: ir.Node) -> bool:
        """Evaluate QuantizeLinear and DequantizeLinear of constants."""
        if not is_op(node, "DequantizeLinear", "QuantizeLinear"):
            return False
        array, scale = constant(node.inputs[0]), constant(node.inputs[1])
        zero_value = input_at(node, 2)
        zero = constant(zero_value)
        if array is None or scale is None or (zero_value is not None and zero is None):
            return False
        scale, shift = _aligned(node, array, scale), np.asarray(0.0)
        if zero is not None:
            shift = _aligned(node, array, zero.astype(np.float64))
        result = node.outputs[0]
        name = label(node.inputs[0]).removesuffix("_quantized")
        if node.op_type == "DequantizeLinear":
            numbers: Array = ((array.astype(np.float64) - shift) * scale).astype(np.float32)
        else:
            kind = zero_value.dtype if zero_value is not None else result.dtype
            if kind not in NUMBERS:
                return False
            low, high = NUMBERS[kind]
            rounded = np.clip(np.rint(array / scale) + shift, low, high)
            numbers = rounded.astype(kind.numpy())
        graph = graph_of(node)
        if result.is_graph_output():
            return False
        source = node.inputs[0]
        replaced = add_constant(graph, f"{name}.float" if name == label(source) else name, numbers)
        result.replace_all_uses_with(replaced)
        remove(node)
        drop_unused(source)
        return node.op_type == "DequantizeLinear"

    def activation(self, node: ir.Node) -> bool:
        """Remove a QuantizeLinear whose readers are all DequantizeLinear."""
        if not is_op(node, "QuantizeLinear") or node.inputs[0] is None:
            return False
        pairs = [usage.node for usage in node.outputs[0].uses()]
        if not pairs or not all(is_op(pair, "DequantizeLinear") for pair in pairs):
            return False
        if node.outputs[0].is_graph_output():
            return False
        source = node.inputs[0]
        bound = self.rectifies(node)
        if bound is not None and may_be_negative(source):
            source = self.clip(node, source, bound)
        for pair in pairs:
            if redirect(pair.outputs[0], source):
                remove(pair)
        if not node.outputs[0].uses():
            remove(node)
        return True

    @staticmethod
    def rectifies(node: ir.Node) -> float | None:
        """The highest value of a quantisation whose zero is the lowest integer."""
        scale, zero_value = constant(node.inputs[1]), input_at(node, 2)
        zero = constant(zero_value)
        kind = zero_value.dtype if zero_value is not None else ir.DataType.UINT8
        if scale is None or kind not in NUMBERS:
            return None
        low, high = NUMBERS[kind]
        numbers = np.zeros(1) if zero is None else zero.astype(np.float64)
        if (numbers != low).any():
            return None
        return float((high - low) * scale.max())

    def clip(self, node: ir.Node, source: ir.Value, bound: float) -> ir.Value:
        """A Clip in front of the quantisation."""
        graph = graph_of(node)
        limits = [
            add_constant(graph, f"{label(node)}.{side}", np.array(number, np.float32))
            for side, number in (("min", 0.0), ("max", bound))
        ]
        clip = ir.node("Clip", [source, *limits], name=f"{label(node)}.clip")
        clip.outputs[0].name = f"{label(node.outputs[0])}.clip"
        clip.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        graph.insert_before(node, clip)
        self.note(node.name, f"QuantizeLinear {label(node)} is a rectifier: Clip(0, {bound:g})")
        return clip.outputs[0]


def _aligned(node: ir.Node, array: Array, parameter: Array) -> Array:
    """Scale or zero point, broadcast along its axis; blocks are repeated."""
    if parameter.size == 1:
        return parameter.reshape(()).astype(np.float64)
    axis = node.attributes.get_int("axis", 1) % array.ndim
    if parameter.ndim == 1:
        return parameter.astype(np.float64).reshape(
            [-1 if k == axis else 1 for k in range(array.ndim)]
        )
    block = node.attributes.get_int("block_size", 0) or 1
    repeated = np.repeat(parameter.astype(np.float64), block, axis=axis)
    return repeated.take(range(array.shape[axis]), axis=axis)


def may_be_negative(value: ir.Value) -> bool:
    """Whether a value can be below zero; images given as inputs count as non-negative here."""
    node = value.producer()
    if node is None:
        return False
    if is_op(node, *NONNEGATIVE):
        return False
    if is_op(node, "Clip"):
        low = constant(input_at(node, 1))
        return low is None or bool((low < 0).any())
    if is_op(node, "QuantizeLinear", "DequantizeLinear"):
        return node.inputs[0] is None or may_be_negative(node.inputs[0])
    if is_op(node, *KEEPS_SIGN):
        moving = node.inputs if node.op_type == "Concat" else node.inputs[:1]
        return any(item is not None and may_be_negative(item) for item in moving)
    return True
