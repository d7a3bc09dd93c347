"""Signals whose channels lie last in memory, shown as the kernels see them.

An array [C,N,channels,*] or [N,channels,*] may lie as if its channels were the last axis, as tensor
cores want it: it is a view whose strides say so. For a kernel the same memory is shown in the usual
shape, which is what ``blocks`` calls one block of all channels; what it makes is shown as such a
view again.
"""

from typing import Any

Array = Any


def lies_last(xp: Any, signal: Array) -> bool:
    """Whether the channels of a signal [C,N,channels,*] lie side by side in memory."""
    frame = signal[0]
    if frame.ndim < 3 or frame.flags.c_contiguous:
        return False
    return bool(xp.moveaxis(frame, 1, -1).flags.c_contiguous)


def as_it_lies(xp: Any, array: Array, axis: int) -> Array:
    """The memory of an array with its channels last, in the usual shape.

    Args:
        xp: array module.
        array: it is copied if it lies otherwise; steps that are one memory stay so.
        axis: of the channels.
    """
    stands = axis > 1 and array.strides[0] == 0
    part = array[:1] if stands else array
    lying = xp.ascontiguousarray(xp.moveaxis(part, axis, -1)).reshape(part.shape)
    return xp.broadcast_to(lying, array.shape) if stands else lying


def as_it_means(xp: Any, array: Array, axis: int) -> Array:
    """The inverse of ``as_it_lies``: a view that reads the same memory channels first."""
    sizes = array.shape
    lying = array.reshape((*sizes[:axis], *sizes[axis + 1 :], sizes[axis]))
    return xp.moveaxis(lying, -1, axis)
