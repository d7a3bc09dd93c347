"""Launches the kernels of lateral-inhibition pooling."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import Any

import numpy as np

from onnx2snn_runtime.kernels.signals import (
    C_TYPES,
    LARGEST,
    Signal,
    Signals,
    dense_state,
    grid,
    signal_type,
)
from onnx2snn_runtime.kernels.source import Launch, kernel_source, layer_struct
from onnx2snn_runtime.kernels.table import Table
from onnx2snn_runtime.neurons import Chunk, StatefulOperator
from onnx2snn_runtime.ops.registry import Call
from onnx2snn_runtime.ops.windows import Windows, make_windows

Array = Any
AXES = 3
MOST_TAPS = 32  # of a window whose running sums fit into registers


@dataclass(frozen=True)
class Geometry:
    """Windows over three axes of the given sizes; hashable, for what is found out only once."""

    windows: Windows
    sizes: tuple[int, ...]

    def taps(self, axis: int, window: int) -> set[int]:
        """Elements that a window has along an axis, without padding."""
        windows = self.windows
        start = window * windows.strides[axis] - windows.before[axis]
        reach = (start + tap * windows.dilations[axis] for tap in range(windows.kernel[axis]))
        return {at for at in reach if 0 <= at < self.sizes[axis]}

    @cached_property
    def has_empty_windows(self) -> bool:
        """Whether a window lies in the padding alone."""
        counts = enumerate(self.windows.outputs)
        return any(not self.taps(axis, o) for axis, outputs in counts for o in range(outputs))

    @cached_property
    def has_gaps(self) -> bool:
        """Whether an element is in none of the windows that its owner looks at (pool.h)."""
        return any(
            not self.owned(axis, o) <= self.taps(axis, o)
            for axis, outputs in enumerate(self.windows.outputs)
            for o in range(outputs)
        )

    def owned(self, axis: int, window: int) -> set[int]:
        """Elements along an axis whose sums a window keeps."""
        size, stride = self.sizes[axis], self.windows.strides[axis]
        start = window * stride - self.windows.before[axis]
        is_last = window + 1 == self.windows.outputs[axis]
        first, last = 0 if window == 0 else max(0, start), size if is_last else start + stride
        return set(range(first, min(last, size)))

    def numbers(self, *, with_kernel: bool) -> list[np.int32]:
        """Arguments that describe the axes, with the kernel or without it."""
        windows = self.windows
        fields = [self.sizes, windows.outputs, windows.strides, windows.dilations, windows.before]
        if with_kernel:
            fields.append(windows.kernel)
        return [np.int32(field[axis]) for axis in range(AXES) for field in fields]


def scan_pool(
    xp: Any, launch: Launch, operator: StatefulOperator, chunk: Chunk, channels_last: bool = False
) -> Array | None:
    """All steps of a chunk; see ``kernels.scan`` and ``order``."""
    given = chunk.inputs[0]
    block = given.shape[2] if channels_last else chunk.block
    if operator.signature.op != "MaxPool" or given.ndim - 3 > AXES:
        return None
    if any(asked is not None for asked in (chunk.scale, chunk.bias, chunk.residual)):
        return None
    sums, totals = chunk.states
    geometry = _geometry(xp, operator, given.shape[3:])
    if geometry.has_empty_windows or not 0 < max(sums.size, totals.size) < LARGEST:
        return None
    x = Signal(xp, given, signal_type(given))
    sums, totals = dense_state(xp, sums), dense_state(xp, totals)
    sent = x.values.dtype if chunk.sends is None else chunk.sends
    y = xp.empty((len(given), *totals.shape), dtype=sent)
    pool = _pool_small if prod(geometry.windows.kernel) <= MOST_TAPS else _pool_large
    sums = pool(xp, launch, geometry, block, x, sums, totals, y)
    chunk.states[:] = [sums, totals]
    return y


def _pool_small(
    xp: Any, launch: Launch, geometry: Geometry, block: int,
    x: Signal, sums: Array, totals: Array, y: Array,
) -> Array:  # fmt: skip
    """With the sums of a window in registers; returns the sums after the chunk."""
    layer = layer_struct(
        Input=C_TYPES[x.values.dtype],
        Output=C_TYPES[y.dtype],
        **{f"KERNEL{axis}": taps for axis, taps in enumerate(geometry.windows.kernel)},
    )
    following = xp.empty_like(sums)  # windows overlap: neighbours may still read the old sums
    arguments = [
        x.values, np.uint64(x.apart), y, sums, following, totals,
        np.uint32(totals.size), np.int32(len(y)), np.uint32(block), np.int32(geometry.has_gaps),
        *geometry.numbers(with_kernel=False),
    ]  # fmt: skip
    launch(kernel_source("pool", layer), *grid(totals.size), arguments)
    return following


def _pool_large(
    xp: Any, launch: Launch, geometry: Geometry, block: int,
    x: Signal, sums: Array, totals: Array, y: Array,
) -> Array:  # fmt: skip
    """With the running sums in memory; returns the sums after the chunk."""
    running = xp.empty((len(y), *sums.shape), dtype=np.float32)
    nothing = Table(xp.zeros((1, 1), dtype=np.float32), 1, 1)
    Signals(x, running, [sums], nothing).launch(launch, "running_sum")
    arguments = [
        running, np.uint64(sums.size), y, totals,
        np.uint32(totals.size), np.int32(len(y)), np.uint32(block),
        *geometry.numbers(with_kernel=True),
    ]  # fmt: skip
    layer = layer_struct(Output=C_TYPES[y.dtype])
    launch(kernel_source("pool_sums", layer), *grid(totals.size), arguments)
    return sums


def _geometry(xp: Any, operator: StatefulOperator, sizes: tuple[int, ...]) -> Geometry:
    """The windows of a pooling, with axes of one element in front up to three."""
    call = Call(xp, operator.attributes, opset=18)
    kernel, ceil_mode = operator.attributes["kernel_shape"], call.get("ceil_mode", 0)
    windows = make_windows(call, sizes, tuple(kernel), bool(ceil_mode))
    missing = AXES - len(sizes)
    ones, zeros = (1,) * missing, (0,) * missing
    return _known(
        Geometry(
            Windows(
                kernel=ones + tuple(windows.kernel),
                strides=ones + tuple(windows.strides),
                dilations=ones + tuple(windows.dilations),
                before=zeros + tuple(windows.before),
                after=zeros + tuple(windows.after),
                outputs=ones + tuple(windows.outputs),
            ),
            (1,) * missing + tuple(sizes),
        )
    )


@lru_cache(maxsize=1024)
def _known(geometry: Geometry) -> Geometry:
    """The first of equal geometries, which remembers what was found out about it."""
    return geometry
