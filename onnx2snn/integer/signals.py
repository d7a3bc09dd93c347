"""Signals in whole numbers: real value = unit · integer, with bounds that hold at every step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx2snn_runtime.neurons.integer import EXACT_LIMIT

Array = NDArray[np.float64]
LEVELS = (127, 63, 31)  # largest weight of 8 to 6 bits
SMALLEST_SCALE = 2.0**-12  # of the largest scale of a layer: finer would make huge thresholds
LARGEST_BIAS = 2.0**20


class NoIntegerFormError(Exception):
    """A node cannot be written in whole numbers; carries the reason and the advice."""


@dataclass(frozen=True)
class Signal:
    """What is known of a tensor, every array [1,*] as the tensor of one image.

    Attributes:
        unit: real value of the integer 1.
        low: least integer at any step.
        high: largest integer at any step.
    """

    unit: Array
    low: Array
    high: Array

    @property
    def bound(self) -> float:
        """Largest magnitude at any step."""
        return float(max(np.abs(self.low).max(), np.abs(self.high).max()))

    @property
    def is_zero(self) -> NDArray[np.bool_]:
        """Where it never is anything but zero, as in padding: any unit will do."""
        zero: NDArray[np.bool_] = (self.low == 0) & (self.high == 0)
        return zero

    def mapped(self, function: Any) -> "Signal":
        """The same with all three arrays moved alike."""
        return Signal(function(self.unit), function(self.low), function(self.high))

    def scaled(self, count: float) -> "Signal":
        """Sums of at most ``count`` elements, whose mean is what is meant."""
        low, high = count * np.minimum(self.low, 0), count * np.maximum(self.high, 0)
        return Signal(self.unit / count, low, high)


def filled(shape: Sequence[int], unit: Any, low: Any, high: Any) -> Signal:
    """A signal of this shape from arrays that broadcast to it."""
    return Signal(*(np.broadcast_to(np.asarray(v, np.float64), shape) for v in (unit, low, high)))


def compact(array: Array) -> Array:
    """The array with every axis of equal slices shortened to one."""
    for axis in range(1, array.ndim):
        first = array.take([0], axis)
        if np.array_equal(np.broadcast_to(first, array.shape), array):
            array = first
    return np.ascontiguousarray(array)


def per_channel(signal: Signal) -> tuple[Array, Array, Array] | None:
    """Unit, low and high of each channel (axis 1), or None where units differ in a channel."""
    shape = signal.unit.shape
    units = signal.unit.reshape(shape[1], -1)
    if not np.array_equal(np.broadcast_to(units[:, :1], units.shape), units):
        return None
    low, high = (part.reshape(shape[1], -1) for part in (signal.low, signal.high))
    return units[:, 0], low.min(axis=1), high.max(axis=1)


def spread(values: Array, shape: Sequence[int], axis: int = 1) -> Array:
    """A vector along ``axis`` of a tensor of this shape."""
    sizes = [1] * len(shape)
    sizes[axis] = -1
    return np.broadcast_to(values.reshape(sizes), shape)


@dataclass(frozen=True)
class Quantised:
    """Integer weights of one operator, outputs first.

    Attributes:
        weight: whole numbers, [O,K].
        bias: whole numbers, [O].
        scale: real value of the integer 1 of each output, [O].
        low: least sum, [O].
        high: largest sum, [O].
        partial: largest magnitude of any partial sum, in any order.
        bits: of the weights.
        loss: of the real weights by rounding, relative, weighed by the bounds of their inputs.
    """

    weight: Array
    bias: Array
    scale: Array
    low: Array
    high: Array
    partial: float
    bits: int
    loss: float


def quantise(
    weight: Array, bias: Array, ends: Array, levels: int, known: Array | None
) -> Quantised:
    """Round the weights of an operator to integers of at most ``levels``.

    Args:
        weight: in real units per integer of the input, [O,K].
        bias: in real units, [O].
        ends: least and largest input, [2,O,K].
        levels: largest magnitude of a weight.
        known: scales [O] that must be kept where they are large enough, or None.
    """
    scale = own_scale(weight, bias, levels)
    if known is not None:
        scale = np.where(scale <= known * SLACK, known, scale)
    whole = np.clip(np.rint(weight / scale[:, np.newaxis]), -levels, levels)
    shift = np.rint(bias / scale)
    one, other = whole * ends
    least = np.minimum(np.minimum(one, other), 0).sum(axis=1)
    most = np.maximum(np.maximum(one, other), 0).sum(axis=1)
    partial = float((np.maximum(most, -least) + np.abs(shift)).max())
    reach = np.abs(ends).max(axis=0)
    missing = ((weight - whole * scale[:, np.newaxis]) * reach) ** 2
    loss = float(np.sqrt(missing.sum() / max(((weight * reach) ** 2).sum(), 1e-300)))
    bits = levels.bit_length() + 1
    return Quantised(whole, shift, scale, least + shift, most + shift, partial, bits, loss)


SLACK = 1 + 2.0**-8  # a weight may exceed a scale that others need by this: it is cut by so little


def own_scale(weight: Array, bias: Array, levels: int) -> Array:
    """The finest scale of each output that holds its weights and its bias."""
    scale = np.abs(weight).max(axis=1) / levels
    scale = np.maximum(scale, scale.max() * SMALLEST_SCALE)
    scale = np.maximum(scale, np.abs(bias) / LARGEST_BIAS)
    return np.where(scale > 0, scale, 1.0)


def fits(partial: float) -> bool:
    """Whether float32 adds up to this magnitude exactly, in any order."""
    return partial < EXACT_LIMIT
