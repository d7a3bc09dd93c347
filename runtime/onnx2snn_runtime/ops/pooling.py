"""Pooling over windows and over whole images, 1-D to N-D.

A window is a box, so both maximum and sum are taken along one axis after the other, each as a loop
over the taps of the kernel.
"""

from collections.abc import Callable

import numpy as np

from onnx2snn_runtime.errors import BackendError
from onnx2snn_runtime.ops.bookkeeping import is_integer, widened
from onnx2snn_runtime.ops.registry import Array, Call, Law, operator
from onnx2snn_runtime.ops.windows import Windows, make_windows, padded


@operator("MaxPool", Law.MAXIMUM)
def max_pool(call: Call, x: Array) -> Array:
    """Largest element of every window of x [N,C,*]; padding never wins.

    Raises:
        BackendError: indices are asked for.
    """
    if call.outputs > 1:
        raise BackendError("MaxPool with its second output, Indices, is not supported")
    windows = make_windows(call, x.shape[2:], call.attributes["kernel_shape"], _ceil_mode(call))
    lowest = np.iinfo(x.dtype).min if is_integer(x) else -np.inf
    return _along_axes(padded(call, x, windows, lowest), windows, call.xp.maximum)


@operator("AveragePool", Law.AFFINE_FIRST)
def average_pool(call: Call, x: Array) -> Array:
    """Mean of every window of x [N,C,*], with or without the padding.

    Without ``count_include_pad`` the sum is divided by the number of real elements; with it the
    padding counts, but what a window of ``ceil_mode`` sees beyond the padding does not.
    """
    windows = make_windows(call, x.shape[2:], call.attributes["kernel_shape"], _ceil_mode(call))
    sums = _along_axes(padded(call, widened(x), windows, 0), windows, call.xp.add)
    for axis, counts in enumerate(_element_counts(call, x, windows)):
        shape = [1] * x.ndim
        shape[axis + 2] = -1
        sums /= call.xp.asarray(counts, dtype=sums.dtype).reshape(shape)
    return sums.astype(x.dtype, copy=False)


def _ceil_mode(call: Call) -> bool:
    return bool(call.get("ceil_mode", 0))


def _along_axes(source: Array, windows: Windows, combine: Callable[..., Array]) -> Array:
    """Combine the elements of every window, axis by axis."""
    result = source
    for axis in range(len(windows.kernel)):
        ahead = (slice(None),) * (axis + 2)
        first, *others = (result[(*ahead, tap)] for tap in windows.taps(axis))
        result = first.copy()
        for other in others:
            combine(result, other, out=result)
    return result


def _element_counts(call: Call, x: Array, windows: Windows) -> list[list[int]]:
    """How many elements count in each window, for every spatial axis."""
    include = bool(call.get("count_include_pad", 0))
    counts = []
    for axis, size in enumerate(x.shape[2:]):
        front = windows.before[axis]
        low, high = (-front, size + windows.after[axis]) if include else (0, size)
        starts = (index * windows.strides[axis] - front for index in range(windows.outputs[axis]))
        reach = range(windows.kernel[axis])
        dilation = windows.dilations[axis]
        counts.append(
            [max(1, sum(low <= start + k * dilation < high for k in reach)) for start in starts]
        )
    return counts


def _spatial(x: Array) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


@operator("GlobalMaxPool", Law.MAXIMUM)
def global_max_pool(call: Call, x: Array) -> Array:
    """Largest element of every channel of x [N,C,*]."""
    return call.xp.max(x, axis=_spatial(x), keepdims=True)


@operator("GlobalAveragePool", Law.AFFINE_FIRST)
def global_average_pool(call: Call, x: Array) -> Array:
    """Mean of every channel of x [N,C,*]."""
    return call.xp.mean(widened(x), axis=_spatial(x), keepdims=True).astype(x.dtype, copy=False)


@operator("LpPool", Law.NONLINEAR)
def lp_pool(call: Call, x: Array) -> Array:
    """Norm of every window of x [N,C,*]: (sum |x|^p)^(1/p)."""
    p = int(call.get("p", 2))
    windows = make_windows(call, x.shape[2:], call.attributes["kernel_shape"], _ceil_mode(call))
    powers = call.xp.power(call.xp.abs(widened(x)), p)
    sums = _along_axes(padded(call, powers, windows, 0), windows, call.xp.add)
    return (sums if p == 1 else call.xp.power(sums, 1 / p)).astype(x.dtype, copy=False)
