"""Axes, integers and types that operators need on the host."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from onnx2snn_runtime.ops.registry import Array

NARROW = ("float16", "bfloat16")


def integers(values: Array | None) -> list[int]:
    """The values of an integer tensor as Python numbers; none for None."""
    if values is None:
        return []
    return [int(value) for value in values.reshape(-1).tolist()]


def number(value: Array) -> Any:
    """The only element of a tensor as a Python number."""
    return value.reshape(-1)[0].item()


def positive_axes(axes: Iterable[int], ndim: int) -> tuple[int, ...]:
    """Axes counted from the front, in the order given.

    Raises:
        IndexError: an axis lies outside of the tensor.
    """
    found = []
    for axis in axes:
        if not -ndim <= axis < max(ndim, 1):
            raise IndexError(f"axis {axis} is out of range for a tensor with {ndim} axes")
        found.append(axis % max(ndim, 1))
    return tuple(found)


def positive_axis(axis: int, ndim: int) -> int:
    """One axis counted from the front."""
    return positive_axes([axis], ndim)[0]


def is_integer(array: Array) -> bool:
    """Whether the elements are integers (not booleans)."""
    return array.dtype.kind in "iu"


def widened(array: Array) -> Array:
    """The array in a type that sums can be accumulated in: 16-bit floats become float32."""
    return array.astype(np.float32) if array.dtype.name in NARROW else array


def per_channel(values: Array, ndim: int, axis: int = 1) -> Array:
    """A vector [C] shaped so that it broadcasts along ``axis`` of a tensor with ``ndim`` axes."""
    return values.reshape((-1,) + (1,) * (ndim - axis - 1))
