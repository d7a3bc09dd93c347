"""Reductions over axes, cumulative sums, and positions of extremes."""

from collections.abc import Callable
from typing import Any

import numpy as np

from onnx2snn_runtime.ops.bookkeeping import integers, is_integer, number, positive_axes, widened
from onnx2snn_runtime.ops.registry import Array, Call, Law, operator

Reduce = Callable[..., Array]


def _axes(call: Call, x: Array, axes: Array | None) -> tuple[int, ...]:
    """Axes to reduce: the given ones, else all, or none where the node says so."""
    chosen = integers(axes)
    if not chosen and not call.get("noop_with_empty_axes", 0):
        chosen = list(range(x.ndim))
    return positive_axes(chosen, x.ndim)


def _register(name: str, law: Law, summary: str, compute: Callable[..., Array]) -> None:
    """Register a reduction; ``compute(xp, x, axis=…, keepdims=…)`` reduces over given axes."""

    def function(call: Call, x: Array, axes: Array | None = None) -> Array:
        keep = bool(call.get("keepdims", 1))
        result = compute(call.xp, widened(x), axis=_axes(call, x, axes), keepdims=keep)
        return call.xp.asarray(result).astype(x.dtype, copy=False)

    function.__doc__ = summary
    operator(name, law)(function)


def _extreme(xp: Array, x: Array, lowest: bool, axis: tuple[int, ...], keepdims: bool) -> Array:
    """Minimum or maximum; of no elements it is the highest or the lowest number of the type."""
    if all(x.shape[i] for i in axis):
        return (xp.min if lowest else xp.max)(x, axis=axis, keepdims=keepdims)
    limits: tuple[Any, Any] = (-np.inf, np.inf)
    if x.dtype.kind == "b":
        limits = (False, True)
    elif is_integer(x):
        limits = (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
    sizes = (1 if i in axis else size for i, size in enumerate(x.shape))
    kept = tuple(size for i, size in enumerate(sizes) if keepdims or i not in axis)
    return xp.full(kept, limits[lowest], dtype=x.dtype)


def _log_sum_exp(xp: Array, x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    """ln(sum e^x) without overflow: the largest element is taken out and added back."""
    largest = _extreme(xp, x, False, axis, True)
    largest = xp.where(xp.isfinite(largest), largest, xp.zeros_like(largest))
    result = xp.log(xp.sum(xp.exp(x - largest), axis=axis, keepdims=True)) + largest
    return result if keepdims else xp.squeeze(result, axis=axis)


_register("ReduceSum", Law.AFFINE_FIRST, "Sum over axes.",
          lambda xp, x, **where: xp.sum(x, **where))  # fmt: skip
_register("ReduceMean", Law.AFFINE_FIRST, "Mean over axes.",
          lambda xp, x, **where: xp.mean(x, **where))  # fmt: skip
_register("ReduceMax", Law.MAXIMUM, "Largest element over axes.",
          lambda xp, x, **where: _extreme(xp, x, False, **where))  # fmt: skip
_register("ReduceMin", Law.NONLINEAR, "Smallest element over axes.",
          lambda xp, x, **where: _extreme(xp, x, True, **where))  # fmt: skip
_register("ReduceProd", Law.NONLINEAR, "Product over axes.",
          lambda xp, x, **where: xp.prod(x, **where))  # fmt: skip
_register("ReduceL1", Law.NONLINEAR, "Sum of magnitudes over axes.",
          lambda xp, x, **where: xp.sum(xp.abs(x), **where))  # fmt: skip
_register("ReduceL2", Law.NONLINEAR, "Euclidean norm over axes.",
          lambda xp, x, **where: xp.sqrt(xp.sum(x * x, **where)))  # fmt: skip
_register("ReduceSumSquare", Law.NONLINEAR, "Sum of squares over axes.",
          lambda xp, x, **where: xp.sum(x * x, **where))  # fmt: skip
_register("ReduceLogSum", Law.NONLINEAR, "Logarithm of the sum over axes.",
          lambda xp, x, **where: xp.log(xp.sum(x, **where)))  # fmt: skip
_register("ReduceLogSumExp", Law.NONLINEAR, "Logarithm of the sum of exponentials over axes.",
          _log_sum_exp)  # fmt: skip


def _cumulative(call: Call, x: Array, axis: Array, accumulate: Reduce, empty: int) -> Array:
    """Running totals, backwards or without the element itself on request."""
    along = positive_axes([number(axis)], x.ndim)[0]
    flip = (slice(None),) * along + (slice(None, None, -1),)
    source = x[flip] if call.get("reverse", 0) else x
    result = accumulate(source, axis=along, dtype=x.dtype)
    if call.get("exclusive", 0):
        shifted = call.xp.full_like(result, empty)
        ahead = (slice(None),) * along
        shifted[(*ahead, slice(1, None))] = result[(*ahead, slice(None, -1))]
        result = shifted
    return result[flip] if call.get("reverse", 0) else result


@operator("CumSum", Law.AFFINE_FIRST)
def cumulative_sum(call: Call, x: Array, axis: Array) -> Array:
    """Running sum along an axis."""
    return _cumulative(call, x, axis, call.xp.cumsum, 0)


@operator("CumProd", Law.NONLINEAR)
def cumulative_product(call: Call, x: Array, axis: Array) -> Array:
    """Running product along an axis."""
    return _cumulative(call, x, axis, call.xp.cumprod, 1)


def _position(call: Call, x: Array, find: Reduce) -> Array:
    axis, keep = int(call.get("axis", 0)), bool(call.get("keepdims", 1))
    if call.get("select_last_index", 0):
        found = x.shape[axis] - 1 - find(call.xp.flip(x, axis), axis=axis)
    else:
        found = find(x, axis=axis)
    found = call.xp.asarray(found).astype("int64", copy=False)
    return call.xp.expand_dims(found, axis) if keep else found


@operator("ArgMax", Law.NONLINEAR)
def position_of_maximum(call: Call, x: Array) -> Array:
    """Index of the largest element along an axis."""
    return _position(call, x, call.xp.argmax)


@operator("ArgMin", Law.NONLINEAR)
def position_of_minimum(call: Call, x: Array) -> Array:
    """Index of the smallest element along an axis."""
    return _position(call, x, call.xp.argmin)
