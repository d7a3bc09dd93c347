"""Channel-affine maps y = scale · x + shift: recognising them, carrying them past layout changes.

A map is held as one scale and one shift per element of a sample, [1, …] in the shape of the value
it belongs to. Reshape and Transpose are then plain array operations, and whether a map is one per
channel is asked only where weights take it up.
"""

from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from onnx2snn.passes.base import Array
from onnx2snn.passes.graph import constant, dims, is_op, label, sample_dims

LAYOUT = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose")


@dataclass(frozen=True)
class Affine:
    """y = scale · x + shift, element by element.

    Attributes:
        scale: float64, [1, …] in the shape of a sample.
        shift: float64, the same shape.
    """

    scale: Array
    shift: Array

    def then(self, outer: "Affine") -> "Affine":
        """The map that applies this one first, then ``outer``."""
        return Affine(self.scale * outer.scale, self.shift * outer.scale + outer.shift)

    def reshaped(self, sample: tuple[int, ...]) -> "Affine":
        """The same map on reshaped samples."""
        shape = (1, *sample)
        return Affine(self.scale.reshape(shape), self.shift.reshape(shape))

    def transposed(self, permutation: list[int]) -> "Affine":
        """The same map on transposed samples."""
        return Affine(self.scale.transpose(permutation), self.shift.transpose(permutation))

    def along(self, axis: int) -> tuple[Array, Array] | None:
        """Scale and shift per index of one axis, or None where they differ along another."""
        scale, shift = _along(self.scale, axis), _along(self.shift, axis)
        return None if scale is None or shift is None else (scale, shift)

    @property
    def is_scale(self) -> bool:
        """Whether nothing is added."""
        return not self.shift.any()

    @property
    def is_shift(self) -> bool:
        """Whether nothing is scaled."""
        return bool((self.scale == 1).all())


def _along(array: Array, axis: int) -> Array | None:
    first = array[tuple(slice(None) if k == axis else slice(0, 1) for k in range(array.ndim))]
    if not (array == first).all():
        return None
    return np.ascontiguousarray(first).reshape(-1)


def recognise(node: ir.Node) -> tuple[ir.Value, Affine] | str | None:
    """The input and the map of an affine node; why it cannot be used; or None for other nodes."""
    if not is_op(node, "BatchNormalization", "Mul", "Add", "Sub", "Div", "Neg"):
        return None
    result = node.outputs[0]
    sample = sample_dims(result)
    if sample is None or result.dtype != ir.DataType.FLOAT:
        return None
    if node.op_type == "BatchNormalization":
        found = _batch_normalization(node, sample)
    elif node.op_type == "Neg":
        found = _arithmetic(node.inputs[0], "Mul", np.array(-1.0), sample)
    else:
        found = _binary(node, sample)
    if found is None or isinstance(found, str):
        return found
    source, affine = found
    if dims(source) != dims(result):
        return None
    if not (np.isfinite(affine.scale).all() and np.isfinite(affine.shift).all()):
        return "its constants give infinite factors"
    return source, affine


def _batch_normalization(
    node: ir.Node, sample: tuple[int, ...]
) -> tuple[ir.Value, Affine] | str | None:
    if node.attributes.get_int("training_mode", 0):
        return "it is in training mode"
    arrays = [constant(value) for value in node.inputs[1:5]]
    if any(array is None for array in arrays):
        return "its parameters are computed"
    gamma, beta, mean, variance = (np.asarray(array, np.float64) for array in arrays)
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = gamma / np.sqrt(variance + epsilon)
        shift = beta - mean * scale
    shape = (1, -1, *([1] * (len(sample) - 1)))
    source = node.inputs[0]
    if source is None:
        return None
    return source, Affine(
        _spread(scale.reshape(shape), sample), _spread(shift.reshape(shape), sample)
    )


def _binary(node: ir.Node, sample: tuple[int, ...]) -> tuple[ir.Value, Affine] | None:
    left, right = node.inputs[0], node.inputs[1]
    before, behind = constant(left), constant(right)
    if (before is None) == (behind is None):
        return None
    if behind is not None:
        return _arithmetic(left, node.op_type, behind, sample)
    assert before is not None
    if node.op_type == "Div":
        return None
    if node.op_type == "Sub":
        found = _arithmetic(right, "Add", before, sample)
        return found and (found[0], Affine(-found[1].scale, found[1].shift))
    return _arithmetic(right, node.op_type, before, sample)


def _arithmetic(
    source: ir.Value | None, op_type: str, number: Array, sample: tuple[int, ...]
) -> tuple[ir.Value, Affine] | None:
    """``source op number`` as a map."""
    if source is None or number.ndim > len(sample) + 1:
        return None
    if number.ndim == len(sample) + 1 and number.shape[0] != 1:
        return None
    dense = _spread(number.astype(np.float64), sample)
    one, zero = _spread(np.array(1.0), sample), _spread(np.array(0.0), sample)
    with np.errstate(divide="ignore"):
        maps = {
            "Mul": lambda: Affine(dense, zero),
            "Div": lambda: Affine(1 / dense, zero),
            "Add": lambda: Affine(one, dense),
            "Sub": lambda: Affine(one, -dense),
        }
        return source, maps[op_type]()


def _spread(array: Array, sample: tuple[int, ...]) -> Array:
    return np.broadcast_to(array, (1, *sample))


def carry(affine: Affine, node: ir.Node, *, backward: bool) -> Affine | str:
    """The map on the other side of a layout node, or why it cannot be followed."""
    source, result = sample_dims(node.inputs[0]), sample_dims(node.outputs[0])
    if source is None or result is None:
        return f"it cannot be followed through {node.op_type} {label(node)}"
    if node.op_type == "Transpose":
        rank = len(source) + 1
        permutation = list(node.attributes.get_ints("perm", list(reversed(range(rank)))))
        if permutation[0] != 0:
            return f"Transpose {label(node)} moves the batch"
        if backward:
            permutation = [int(axis) for axis in np.argsort(permutation)]
        return affine.transposed(permutation)
    if prod(source) != prod(result):
        return f"it cannot be followed through {node.op_type} {label(node)}"
    return affine.reshaped(source if backward else result)
