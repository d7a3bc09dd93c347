"""Interpolation along axes: Resize with all its modes.

Interpolation is separable: for every axis a table of taps (which elements an output element reads)
and weights is made on the host, in the float32 arithmetic of the usual engines, and applied.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx2snn_runtime.ops.bookkeeping import integers, is_integer, positive_axes, widened
from onnx2snn_runtime.ops.registry import Array, Call, Law, operator

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Scaling:
    """How one axis changes.

    Attributes:
        axis: the axis.
        size: elements before.
        output: elements after.
        scale: ratio of the lengths, not always output / size.
        region: start and end of the region of interest, as fractions of the axis.
    """

    axis: int
    size: int
    output: int
    scale: float
    region: tuple[float, float]

    @property
    def trivial(self) -> bool:
        """Whether the axis stays as it is."""
        return self.size == self.output and self.scale == 1 and self.region == (0, 1)


@operator("Resize", Law.AFFINE_FIRST)
def resize(
    call: Call,
    x: Array,
    region: Array | None = None,
    scales: Array | None = None,
    sizes: Array | None = None,
) -> Array:
    """Interpolate to another size: nearest, linear or cubic, with or without antialiasing."""
    mode = call.get("mode", "nearest")
    result = x if mode == "nearest" else widened(x).astype(_working_type(x), copy=False)
    for scaling in _scalings(call, x.shape, region, scales, sizes):
        if scaling.trivial:
            continue
        positions = _source_positions(call, scaling)
        if mode == "nearest":
            taps = _nearest(call, positions)[:, None]
            result = _apply(call, result, scaling, taps, None)
        else:
            taps, weights = _filter_taps(call, positions, scaling.scale)
            if call.get("exclude_outside", 0):
                inside = (taps >= 0) & (taps < scaling.size)
                weights = np.where(inside, weights, 0)
                weights = weights / weights.sum(axis=1, keepdims=True)
            result = _apply(call, result, scaling, taps, weights.astype(np.float32))
        result = _extrapolate(call, result, scaling, positions)
    if is_integer(x) and mode != "nearest":
        limits = np.iinfo(x.dtype)
        result = call.xp.clip(call.xp.rint(result), limits.min, limits.max)
    return result.astype(x.dtype, copy=False)


def _working_type(x: Array) -> Any:
    return np.float64 if x.dtype == np.float64 else np.float32


def _given(values: Array | None) -> bool:
    return values is not None and values.size > 0


def _scalings(
    call: Call,
    shape: Sequence[int],
    region: Array | None,
    scales: Array | None,
    sizes: Array | None,
) -> list[Scaling]:
    """What happens to each axis that the node names."""
    axes = positive_axes(call.get("axes") or range(len(shape)), len(shape))
    if _given(sizes):
        outputs = integers(sizes)
        factors = [np.float32(new) / np.float32(shape[axis])
                   for new, axis in zip(outputs, axes, strict=True)]  # fmt: skip
        policy = call.get("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            factor = min(factors) if policy == "not_larger" else max(factors)
            factors = [factor] * len(axes)
            outputs = [int(factor * shape[axis] + np.float32(0.5)) for axis in axes]
    else:
        assert scales is not None
        factors = [np.float32(value) for value in scales.reshape(-1).tolist()]
        outputs = [
            int(np.floor(f * np.float32(shape[a]))) for f, a in zip(factors, axes, strict=True)
        ]
    regions = [(0.0, 1.0)] * len(axes)
    if _given(region) and call.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        assert region is not None
        bounds = region.reshape(-1).tolist()
        regions = list(zip(bounds[: len(axes)], bounds[len(axes) :], strict=True))
    return [
        Scaling(axis, int(shape[axis]), output, float(factor), bounds)
        for axis, output, factor, bounds in zip(axes, outputs, factors, regions, strict=True)
    ]


def _source_positions(call: Call, scaling: Scaling) -> Floats:
    """Where in the input each output element lies, in elements; float32 throughout."""
    mode = call.get("coordinate_transformation_mode", "half_pixel")
    x = np.arange(scaling.output, dtype=np.float32)
    half, scale = np.float32(0.5), np.float32(scaling.scale)
    last, size = np.float32(scaling.size - 1), np.float32(scaling.size)
    single = scaling.output == 1
    steps = np.float32(max(scaling.output - 1, 1))
    if mode == "align_corners":
        return np.zeros_like(x) if single else x * last / steps
    if mode == "asymmetric":
        return x / scale
    if mode == "tf_crop_and_resize":
        start, end = (np.float32(value) for value in scaling.region)
        if single:
            return x + half * (start + end) * last
        return start * last + x * (end - start) * last / steps
    if mode == "pytorch_half_pixel" and single:
        return np.zeros_like(x)
    if mode == "half_pixel_symmetric":
        adjustment = np.float32(scaling.output) / (scale * size)
        return size * half * (1 - adjustment) + (x + half) / scale - half
    if mode not in ("half_pixel", "pytorch_half_pixel"):
        raise ValueError(f"unknown coordinate_transformation_mode {mode!r}")
    return (x + half) / scale - half


def _nearest(call: Call, positions: Floats) -> NDArray[np.int64]:
    """The one element that each output element copies."""
    roundings: dict[str, Callable[[Floats], Any]] = {
        "round_prefer_floor": lambda x: np.ceil(x - np.float32(0.5)),
        "round_prefer_ceil": lambda x: np.floor(x + np.float32(0.5)),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    found = roundings[call.get("nearest_mode", "round_prefer_floor")](positions)
    return np.asarray(found, dtype=np.int64)


def _filter_taps(
    call: Call, positions: Floats, scale: float
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Elements that each output element reads, [output,taps], and their weights."""
    cubic = call.get("mode") == "cubic"
    shrink = min(scale, 1.0) if call.get("antialias", 0) else 1.0
    reach = int(np.ceil((2 if cubic else 1) / shrink))
    taps = np.floor(positions).astype(np.int64)[:, None] + np.arange(1 - reach, reach + 1)
    distance = np.abs(taps - positions[:, None]) * shrink
    weights = _cubic(distance, call.get("cubic_coeff_a", -0.75)) if cubic else (
        np.maximum(1 - distance, 0)
    )  # fmt: skip
    return taps, weights / weights.sum(axis=1, keepdims=True)


def _cubic(distance: NDArray[Any], a: float) -> NDArray[Any]:
    """Keys' cubic convolution kernel with parameter a."""
    d = distance
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def _apply(
    call: Call, x: Array, scaling: Scaling, taps: NDArray[np.int64], weights: Floats | None
) -> Array:
    """Weighted sum of the taps along an axis; beyond an end the last element counts."""
    xp = call.xp
    columns = xp.asarray(np.clip(taps, 0, scaling.size - 1).T)
    if weights is None:
        return xp.take(x, columns[0], axis=scaling.axis)
    shape = (-1,) + (1,) * (x.ndim - scaling.axis - 1)
    result = None
    for column, weight in zip(columns, weights.T, strict=True):
        if not weight.any():
            continue
        factor = xp.asarray(weight).reshape(shape)
        part = xp.take(x, column, axis=scaling.axis) * factor
        result = part if result is None else result + part
    return result


def _extrapolate(call: Call, x: Array, scaling: Scaling, positions: Floats) -> Array:
    """With tf_crop_and_resize, what lies outside of the input is one constant."""
    if call.get("coordinate_transformation_mode") != "tf_crop_and_resize":
        return x
    outside = (positions < 0) | (positions > scaling.size - 1)
    if not outside.any():
        return x
    mask = call.xp.asarray(outside).reshape((-1,) + (1,) * (x.ndim - scaling.axis - 1))
    value = np.asarray(call.get("extrapolation_value", 0.0), dtype=x.dtype)
    return call.xp.where(mask, call.xp.asarray(value), x)
