"""How weighted operators take up an affine map of their output or of their input.

Conv:          s·(W∗x + b) + t = (s·W)∗x + (s·b + t),   W∗(s·x + t) + b = (W·s)∗x + (b + ΣW·t)
Gemm, MatMul:  the same with a matrix product. Computed in float64, stored in float32.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from onnx2snn.passes.affine import Affine
from onnx2snn.passes.base import Array
from onnx2snn.passes.graph import (
    add_constant,
    constant,
    graph_of,
    input_at,
    is_op,
    label,
    replace_input,
    rewritten_constant,
)

PER_CHANNEL = "its constant is not one per channel"
PIECE = 2**22  # weights that are in float64 together


def weight_of(node: ir.Node) -> Array | None:
    """The constant weights in float64."""
    array = constant(input_at(node, 1))
    return None if array is None else array.astype(np.float64)


def bias_of(node: ir.Node, channels: int) -> Array | None:
    """The bias as a vector in float64, zeros where there is none, None where it is no vector."""
    value = input_at(node, 2)
    if value is None:
        return np.zeros(channels)
    array = constant(value)
    if array is None or array.size not in (1, channels) or array.shape[-1:] not in (
        (), (1,), (channels,),
    ):  # fmt: skip
        return None
    beta = node.attributes.get_float("beta", 1.0) if node.op_type == "Gemm" else 1.0
    return np.broadcast_to(array.reshape(-1).astype(np.float64) * beta, (channels,))


def store(node: ir.Node, weight: Array, bias: Array | None) -> None:
    """Put new weights, and a bias where there is or must be one, into the node."""
    name = label(node.inputs[1])
    rewritten_constant(node, 1, weight.astype(np.float32, copy=False), label(node))
    if bias is None or (not bias.any() and input_at(node, 2) is None):
        return
    if node.op_type == "Gemm":
        node.attributes.pop("beta", None)
    numbers = bias.astype(np.float32)
    if input_at(node, 2) is not None:
        rewritten_constant(node, 2, numbers, label(node))
        return
    stem = name.removesuffix(".weight").removesuffix("_weight")
    replace_input(node, 2, add_constant(graph_of(node), f"{stem}.bias", numbers))


def absorb_behind(node: ir.Node, affine: Affine) -> str:
    """Take up a map of the output; returns why not, or an empty string."""
    weight = constant(input_at(node, 1))
    if weight is None:
        return f"its producer {label(node)} has no constant weights"
    per_channel = affine.along(affine.scale.ndim - 1 if node.op_type == "MatMul" else 1)
    if per_channel is None:
        return PER_CHANNEL
    scale, shift = per_channel
    if node.op_type == "MatMul":
        if weight.ndim != 2 or shift.any():
            return f"its producer {label(node)} is a MatMul without bias"
        store(node, scaled(weight, scale), None)
        return ""
    bias = bias_of(node, scale.size)
    if bias is None:
        return f"the bias of its producer {label(node)} is not a constant vector"
    factors = _FACTORS[node.op_type](node, weight.shape, scale)
    store(node, scaled(weight, factors), scale * bias + shift)
    return ""


def scaled(weight: Array, factors: Array) -> Array:
    """Weights times factors, in float64 and rounded once; a piece at a time, as both may be large.

    Args:
        weight: [A,*].
        factors: what broadcasts to the shape of the weights.
    """
    factors = np.broadcast_to(factors, weight.shape)
    result = np.empty(weight.shape, np.float32)
    rows = max(1, PIECE // max(1, weight[:1].size))
    for start in range(0, len(weight), rows):
        part = slice(start, start + rows)
        result[part] = weight[part].astype(np.float64) * factors[part]
    return result


def _conv_factors(_: ir.Node, shape: tuple[int, ...], scale: Array) -> Array:
    return scale.reshape(-1, *([1] * (len(shape) - 1)))


def _transpose_factors(node: ir.Node, shape: tuple[int, ...], scale: Array) -> Array:
    group = node.attributes.get_int("group", 1)
    parts = scale.reshape(group, 1, shape[1], *([1] * (len(shape) - 2)))
    return np.broadcast_to(parts, (group, shape[0] // group, *shape[1:])).reshape(shape)


def _gemm_factors(node: ir.Node, _: tuple[int, ...], scale: Array) -> Array:
    return scale[:, None] if node.attributes.get_int("transB", 0) else scale


_FACTORS: dict[str, Callable[[ir.Node, tuple[int, ...], Array], Array]] = {
    "Conv": _conv_factors,
    "ConvTranspose": _transpose_factors,
    "Gemm": _gemm_factors,
}


def absorb_ahead(node: ir.Node, value: ir.Value, affine: Affine) -> str:
    """Take up a map of the data input; returns why not, or an empty string."""
    weight = weight_of(node)
    if weight is None or node.inputs[0] is not value:
        return f"its reader {label(node)} has no constant weights"
    axis = affine.scale.ndim - 1 if node.op_type == "MatMul" else 1
    per_channel = affine.along(axis)
    if per_channel is None:
        return PER_CHANNEL
    return _INPUT[node.op_type](node, weight, *per_channel)


def _conv_input(node: ir.Node, weight: Array, scale: Array, shift: Array) -> str:
    padded = any(node.attributes.get_ints("pads", ())) or node.attributes.get_string(
        "auto_pad", "NOTSET"
    ) not in ("NOTSET", "VALID")
    if padded and shift.any():
        return f"its reader {label(node)} pads with zeros, which the shift does not reach"
    group = node.attributes.get_int("group", 1)
    outputs, inputs = weight.shape[0], weight.shape[1]
    bias = bias_of(node, outputs)
    if bias is None:
        return f"the bias of its reader {label(node)} is not a constant vector"
    shape = (group, outputs // group, inputs, *weight.shape[2:])
    ones = [1] * (weight.ndim - 2)
    parts = weight.reshape(shape)
    added = parts * shift.reshape(group, 1, inputs, *ones)
    scaled = parts * scale.reshape(group, 1, inputs, *ones)
    store(node, scaled.reshape(weight.shape), bias + added.reshape(outputs, -1).sum(axis=1))
    return ""


def _transpose_input(node: ir.Node, weight: Array, scale: Array, shift: Array) -> str:
    if shift.any():
        return f"its reader {label(node)} is a ConvTranspose, whose windows are partial"
    store(node, weight * scale.reshape(-1, *([1] * (weight.ndim - 1))), None)
    return ""


def _gemm_input(node: ir.Node, weight: Array, scale: Array, shift: Array) -> str:
    if node.attributes.get_int("transA", 0):
        return f"its reader {label(node)} transposes its input"
    transposed = node.attributes.get_int("transB", 0)
    matrix = weight.T if transposed else weight
    bias = bias_of(node, matrix.shape[1])
    if bias is None:
        return f"the bias of its reader {label(node)} is not a constant vector"
    alpha = node.attributes.get_float("alpha", 1.0)
    scaled = matrix * scale[:, None]
    store(node, scaled.T if transposed else scaled, bias + alpha * (shift @ matrix))
    return ""


def _matmul_input(node: ir.Node, weight: Array, scale: Array, shift: Array) -> str:
    if weight.ndim != 2 or shift.any():
        return f"its reader {label(node)} is a MatMul without bias"
    store(node, weight * scale[:, None], None)
    return ""


_INPUT: dict[str, Callable[[ir.Node, Array, Array, Array], str]] = {
    "Conv": _conv_input,
    "ConvTranspose": _transpose_input,
    "Gemm": _gemm_input,
    "MatMul": _matmul_input,
}


def is_weighted(node: ir.Node | None) -> bool:
    """Whether the node multiplies its input by weights that can take up an affine map."""
    return is_op(node, *_INPUT)
