"""Convolution and transposed convolution, 1-D to N-D, grouped and depthwise."""

import itertools
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from onnx2snn_runtime.ops.bookkeeping import per_channel, widened
from onnx2snn_runtime.ops.registry import Array, Call, Law, operator
from onnx2snn_runtime.ops.windows import (
    Windows,
    make_windows,
    padded,
    per_axis,
    same_padding,
    spread,
)

Product = Callable[..., Array]
COLUMN_BYTES = 16 * 2**20  # windows are copied out in blocks of images of about this size


@operator("Conv", Law.AFFINE_ONE)
def convolution(call: Call, x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Convolution of x [N,C,*] with weights [M,C/group,*], plus a bias [M].

    Raises:
        ValueError: channels and groups do not fit.
    """
    groups = int(call.get("group", 1))
    if x.shape[1] != weight.shape[1] * groups:
        raise ValueError(
            f"the input has {x.shape[1]} channels, the weights expect {weight.shape[1] * groups}"
        )
    windows = make_windows(call, x.shape[2:], weight.shape[2:])
    source = padded(call, widened(x), windows, 0)
    kernel = widened(weight)
    if weight.shape[1] == 1 and groups > 1:
        result = depthwise(call.xp, source, kernel, windows)
    else:
        result = by_columns(call.xp, source, kernel, windows, groups)
    if bias is not None:
        result += per_channel(widened(bias), x.ndim)
    return result.astype(x.dtype, copy=False)


def depthwise(xp: Any, source: Array, weight: Array, windows: Windows) -> Array:
    """Every channel has its own filters: sum over the taps, no matrix product."""
    channels = source.shape[1]
    filters = weight.shape[0] // channels
    shape = (source.shape[0], channels, filters, *windows.outputs)
    result = xp.zeros(shape, dtype=source.dtype)
    axes = range(len(windows.kernel))
    for index in itertools.product(*(range(size) for size in windows.kernel)):
        taps = tuple(windows.taps(axis)[index[axis]] for axis in axes)
        factors = weight[(slice(None), 0, *index)].reshape((channels, filters) + (1,) * len(axes))
        result += source[(slice(None), slice(None), None, *taps)] * factors
    return result.reshape((source.shape[0], -1, *windows.outputs))


def by_columns(
    xp: Any,
    source: Array,
    weight: Array,
    windows: Windows,
    groups: int,
    product: Product | None = None,
    column_bytes: int = COLUMN_BYTES,
) -> Array:
    """Copy the windows into columns (im2col), then one matrix product per block of images.

    Args:
        xp: array module.
        source: padded input [N,C,*].
        weight: [M,C/groups,*].
        windows: where the windows lie.
        groups: parts that channels and filters fall into.
        product: the matrix product, called as ``xp.matmul`` is; default that one.
        column_bytes: size of the columns of a block of images.
    """
    images, channels = source.shape[:2]
    filters, depth = weight.shape[0], prod(weight.shape[1:])
    positions = prod(windows.outputs)
    matrix = weight.reshape(groups, filters // groups, depth)
    result = xp.empty((images, groups, filters // groups, positions), dtype=source.dtype)
    per_image = channels * prod(windows.kernel) * positions * source.dtype.itemsize
    block = max(1, column_bytes // max(1, per_image))
    for start in range(0, images, block):
        part = source[start : start + block]
        columns = _columns(xp, part, windows).reshape(len(part), groups, depth, positions)
        (product or xp.matmul)(matrix, columns, out=result[start : start + block])
    return result.reshape(images, filters, *windows.outputs)


def _columns(xp: Any, source: Array, windows: Windows) -> Array:
    """All windows of x [N,C,*] as columns [N,C,kernel,outputs]."""
    axes = len(windows.kernel)
    if prod(windows.kernel) == 1:
        taps = tuple(windows.taps(axis)[0] for axis in range(axes))
        return source[(slice(None), slice(None), *taps)]
    shape = (*source.shape[:2], *windows.kernel, *windows.outputs)
    columns = xp.empty(shape, dtype=source.dtype)
    for index in itertools.product(*(range(size) for size in windows.kernel)):
        taps = tuple(windows.taps(axis)[index[axis]] for axis in range(axes))
        columns[(slice(None), slice(None), *index)] = source[(slice(None), slice(None), *taps)]
    return columns


@operator("ConvTranspose", Law.AFFINE_ONE)
def transposed_convolution(call: Call, x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Transposed convolution of x [N,C,*] with weights [C,M/group,*], plus a bias [M].

    Every input element adds its weights, scaled by its value, to the window it stands for.
    """
    groups = int(call.get("group", 1))
    images, channels = x.shape[:2]
    filters, kernel = weight.shape[1], weight.shape[2:]
    windows, sizes = _transposed_windows(call, x.shape[2:], kernel)
    matrix = widened(weight).reshape(groups, channels // groups, -1).swapaxes(1, 2)
    columns = call.xp.matmul(matrix, widened(x).reshape(images, groups, channels // groups, -1))
    columns = columns.reshape(images, groups * filters, *kernel, *x.shape[2:])
    full = [
        max(front + size, (count - 1) * stride + spread(taps, dilation))
        for front, size, count, stride, taps, dilation in zip(
            windows.before, sizes, windows.outputs, windows.strides, kernel, windows.dilations,
            strict=True,
        )
    ]  # fmt: skip
    canvas = call.xp.zeros((images, groups * filters, *full), dtype=columns.dtype)
    for index in itertools.product(*(range(size) for size in kernel)):
        taps_here = tuple(windows.taps(axis)[index[axis]] for axis in range(len(kernel)))
        canvas[(slice(None), slice(None), *taps_here)] += columns[
            (slice(None), slice(None), *index)
        ]
    inside = (slice(f, f + size) for f, size in zip(windows.before, sizes, strict=True))
    result = canvas[(slice(None), slice(None), *inside)]
    if bias is not None:
        result = result + per_channel(widened(bias), x.ndim)
    return result.astype(x.dtype, copy=False)


def _transposed_windows(
    call: Call, inputs: Sequence[int], kernel: Sequence[int]
) -> tuple[Windows, list[int]]:
    """Windows of the forward convolution, and the sizes of its input, our output."""
    axes = len(kernel)
    strides = per_axis(call, "strides", axes, 1)
    dilations = per_axis(call, "dilations", axes, 1)
    pads = per_axis(call, "pads", 2 * axes, 0)
    extra = per_axis(call, "output_padding", axes, 0)
    auto_pad = call.get("auto_pad", "NOTSET")
    wanted = list(call.get("output_shape") or ())[-axes:]
    if not wanted and auto_pad.startswith("SAME"):
        wanted = [size * stride for size, stride in zip(inputs, strides, strict=True)]
    before, after, sizes = [], [], []
    for axis, count in enumerate(inputs):
        full = (count - 1) * strides[axis] + spread(kernel[axis], dilations[axis]) + extra[axis]
        front, back = pads[axis], pads[axis + axes]
        if wanted:
            total = max(0, full - wanted[axis])
            front, back = same_padding(total, auto_pad == "SAME_UPPER")
        elif auto_pad == "VALID":
            front = back = 0
        before.append(front)
        after.append(back)
        sizes.append(wanted[axis] if wanted else full - front - back)
    windows = Windows(tuple(kernel), strides, dilations, tuple(before), tuple(after), tuple(inputs))
    return windows, sizes
