"""What every neuron has of its own, such as its threshold, as one small array for the kernels."""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from onnx2snn_runtime.neurons import StatefulOperator

Array = Any


class Table(NamedTuple):
    """Neuron i of all images has entry (i // inner) % entries of every row.

    Attributes:
        values: [rows, entries] float32.
        inner: neurons side by side that share an entry.
        entries: how many there are.
    """

    values: Array
    inner: int
    entries: int


class _Known(NamedTuple):
    """A table, and what it was made from."""

    xp: Any
    rows: tuple[Array, ...]
    features: tuple[int, ...]
    channels_last: bool
    table: Table

    def is_for(
        self, xp: Any, rows: Sequence[Array], features: tuple[int, ...], channels_last: bool
    ) -> bool:
        """Whether it would be made from the very same arrays again."""
        return (
            self.xp is xp
            and (self.features, self.channels_last) == (features, channels_last)
            and len(self.rows) == len(rows)
            and all(ours is row for ours, row in zip(self.rows, rows, strict=True))
        )


_known: "WeakKeyDictionary[StatefulOperator, _Known]" = WeakKeyDictionary()


def table_of(
    xp: Any,
    operator: StatefulOperator,
    rows: Sequence[Array],
    features: Sequence[int],
    channels_last: bool = False,
) -> Table | None:
    """The table of a layer; made once, as long as the rows are the same arrays.

    Args:
        xp: array module to put it on.
        operator: the layer it belongs to.
        rows: arrays that broadcast to ``features``, or to [1,*features].
        features: shape of the neurons of one image.
        channels_last: the first axis of the features is the last one in memory.

    Returns:
        The table, or None where a row differs between images.
    """
    known, shape = _known.get(operator), tuple(features)
    if known is not None and known.is_for(xp, rows, shape, channels_last):
        return known.table
    arrays = [xp.asarray(row, dtype=np.float32) for row in rows]
    if any(array.ndim > len(shape) and len(array) != 1 for array in arrays):
        return None
    aligned = [_aligned(array, len(shape)) for array in arrays]
    if channels_last:
        aligned = [xp.moveaxis(array, 0, -1) for array in aligned]
    lying = (*shape[1:], shape[0]) if channels_last else shape
    table = _table(xp, aligned, lying)
    _known[operator] = _Known(xp, tuple(rows), shape, channels_last, table)
    return table


def _aligned(array: Array, rank: int) -> Array:
    """With exactly ``rank`` axes."""
    shape = array.shape[-rank:] if rank else ()
    return array.reshape((1,) * (rank - len(shape)) + tuple(shape))


def _table(xp: Any, rows: list[Array], features: Sequence[int]) -> Table:
    """The smallest table: over all axes between the first and the last along which a row varies."""
    varying = [axis for axis in range(len(features)) if any(row.shape[axis] > 1 for row in rows)]
    if not rows or not varying:
        values = [row.reshape(1) for row in rows] or [xp.zeros(1, dtype=np.float32)]
        return Table(xp.stack(values), 1, 1)
    first, last = varying[0], varying[-1] + 1
    shape = tuple(features[first:last])
    spread = [xp.broadcast_to(row.reshape(row.shape[first:last]), shape) for row in rows]
    return Table(xp.stack([row.reshape(-1) for row in spread]), prod(features[last:]), prod(shape))
