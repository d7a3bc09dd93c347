"""The geometry that convolution and pooling share: sliding windows over spatial axes.

Window o along an axis covers the elements o·stride − before + k·dilation for k = 0 … kernel − 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from onnx2snn_runtime.ops.registry import Array, Call


@dataclass(frozen=True)
class Windows:
    """Sliding windows over the spatial axes; every field has one number per axis.

    Attributes:
        kernel: number of taps.
        strides: distance of neighbouring windows, in elements.
        dilations: distance of neighbouring taps, in elements.
        before: padding in front.
        after: padding behind.
        outputs: number of windows.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    outputs: tuple[int, ...]

    def behind(self, sizes: Sequence[int]) -> list[int]:
        """Elements beyond these sizes that the last windows touch, per axis."""
        found = []
        for axis, size in enumerate(sizes):
            reach = spread(self.kernel[axis], self.dilations[axis])
            last = (self.outputs[axis] - 1) * self.strides[axis] + reach
            found.append(max(0, last - self.before[axis] - size))
        return found

    def has_empty(self, sizes: Sequence[int]) -> bool:
        """Whether a window lies in the padding of elements of these sizes altogether."""
        return any(
            all(
                not 0 <= window * stride - before + tap * dilation < size
                for tap in range(kernel)
            )
            for size, kernel, stride, dilation, before, outputs in zip(
                sizes, self.kernel, self.strides, self.dilations, self.before, self.outputs,
                strict=True,
            )
            for window in range(outputs)
        )  # fmt: skip

    def taps(self, axis: int) -> list[slice]:
        """For every tap along a spatial axis, the elements it sees in all windows."""
        stride, dilation = self.strides[axis], self.dilations[axis]
        span = (self.outputs[axis] - 1) * stride + 1
        starts = (tap * dilation for tap in range(self.kernel[axis]))
        return [slice(start, start + span, stride) for start in starts]


def spread(kernel: int, dilation: int) -> int:
    """Elements from the first to the last tap of a window."""
    return (kernel - 1) * dilation + 1


def per_axis(call: Call, name: str, axes: int, default: int) -> tuple[int, ...]:
    """An attribute with one integer for each spatial axis."""
    return tuple(call.get(name) or (default,) * axes)


def same_padding(total: int, upper: bool) -> tuple[int, int]:
    """Padding in front and behind; the odd element goes behind for SAME_UPPER."""
    small = total // 2
    return (small, total - small) if upper else (total - small, small)


def make_windows(
    call: Call, sizes: Sequence[int], kernel: Sequence[int], ceil_mode: bool = False
) -> Windows:
    """Windows over axes of the given sizes, from the attributes of a convolution or a pooling.

    With ``ceil_mode`` a last window may reach beyond the padding, but must start before the
    padding behind.

    Raises:
        ValueError: a window is larger than what it moves over.
    """
    axes = len(kernel)
    strides = per_axis(call, "strides", axes, 1)
    dilations = per_axis(call, "dilations", axes, 1)
    pads = per_axis(call, "pads", 2 * axes, 0)
    auto_pad = call.get("auto_pad", "NOTSET")
    before, after, outputs = [], [], []
    for axis, size in enumerate(sizes):
        stride, reach = strides[axis], spread(kernel[axis], dilations[axis])
        front, back = pads[axis], pads[axis + axes]
        if auto_pad.startswith("SAME"):
            count = -(-size // stride)
            total = max(0, (count - 1) * stride + reach - size)
            front, back = same_padding(total, auto_pad == "SAME_UPPER")
        else:
            if auto_pad == "VALID":
                front = back = 0
            free = size + front + back - reach
            count = (-(-free // stride) if ceil_mode else free // stride) + 1
            if ceil_mode and (count - 1) * stride >= size + front:
                count -= 1
        if count < 1:
            raise ValueError(f"a window of {reach} elements does not fit into {size} elements")
        before.append(front)
        after.append(back)
        outputs.append(count)
    return Windows(tuple(kernel), strides, dilations, tuple(before), tuple(after), tuple(outputs))


def padded(call: Call, x: Array, windows: Windows, value: float) -> Array:
    """The input [N,C,*] with all elements that the windows touch; ``value`` outside."""
    behind = windows.behind(x.shape[2:])
    widths = [(0, 0), (0, 0), *zip(windows.before, behind, strict=True)]
    if not any(front or back for front, back in widths):
        return x
    sizes = (size + sum(width) for size, width in zip(x.shape, widths, strict=True))
    result = call.xp.full(tuple(sizes), value, dtype=x.dtype)
    inside = tuple(
        slice(front, front + size) for size, (front, _) in zip(x.shape, widths, strict=True)
    )
    result[inside] = x
    return result
