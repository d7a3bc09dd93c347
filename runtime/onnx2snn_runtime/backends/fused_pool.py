"""Lateral-inhibition pooling of pictures in one pass over memory, compiled by numba.

Sums, window maxima and differences of a picture are made row by row while they are in the cache.
In channel blocks a pixel is a run of neighbouring channels, and all inner loops are vector
instructions.
"""

from typing import Any

import numpy as np

from onnx2snn_runtime.backends.fused_rows import Floats, compiled, copy_row, one_row_per_image
from onnx2snn_runtime.neurons import Chunk, StatefulOperator


def pool(operator: StatefulOperator, chunk: Chunk) -> Any:
    """All steps of a chunk [C,N,channels,H,W]; states are changed in place."""
    inputs, (sums, totals) = chunk.inputs[0], chunk.states
    steps, images, channels, height, width = inputs.shape
    planes, block = images * channels // chunk.block, chunk.block
    given = one_row_per_image(inputs)
    rows, columns = totals.shape[2:]
    outputs = np.empty((steps, *totals.shape), np.float32)
    sums, totals = (np.ascontiguousarray(state, dtype=np.float32) for state in (sums, totals))
    geometry = operator.attributes
    top, left = (int(size) for size in geometry.get("pads", (0, 0, 0, 0))[:2])
    _pool(
        given.reshape(len(given), planes, height, width * block),
        sums.reshape(planes, height, width * block),
        totals.reshape(planes, rows, columns * block),
        outputs.reshape(steps, planes, rows, columns * block),
        block, top, left, *_pair(geometry.get("kernel_shape")), *_pair(geometry.get("strides")),
        *_pair(geometry.get("dilations")),
    )  # fmt: skip
    chunk.states[:] = [sums, totals]
    return outputs


def _pair(values: Any) -> tuple[int, int]:
    first, second = values or (1, 1)
    return int(first), int(second)


@compiled  # type: ignore[untyped-decorator]
def _pool(
    inputs: Floats, sums: Floats, totals: Floats, outputs: Floats,
    block: int, top: int, left: int, tall: int, wide: int, down: int, across: int,
    apart_down: int, apart_across: int,
) -> None:  # fmt: skip
    steps, planes, rows, _ = outputs.shape
    height, length = sums.shape[1:]
    pixels, columns = length // block, outputs.shape[3] // block
    span = (columns - 1) * across + 1  # windows that start at every pixel, of which some are wanted
    best = np.empty(length, np.float32)
    widest = np.empty(span * block, np.float32)
    result = np.empty(outputs.shape[3], np.float32)
    for plane in range(planes):
        for t in range(steps):
            x = inputs[t if inputs.shape[0] > 1 else 0, plane]
            done = 0
            for row in range(rows):
                first = row * down - top
                last = min(first + (tall - 1) * apart_down, height - 1)
                while done <= last:
                    _add(sums[plane, done], x[done])
                    done += 1
                line = first + (max(0, -first) + apart_down - 1) // apart_down * apart_down
                copy_row(sums[plane, line], best)
                for other in range(line + apart_down, last + 1, apart_down):
                    _raise(best, sums[plane, other])
                widest[:] = -np.inf
                for k in range(wide):
                    shift = k * apart_across - left
                    begin, end = max(0, -shift), min(span, pixels - shift)
                    if begin < end:
                        _raise(widest[begin * block : end * block],
                               best[(begin + shift) * block :])  # fmt: skip
                _pick(widest, np.uint64(block), np.uint64(across * block), result)
                _difference(result, totals[plane, row], outputs[t, plane, row])
            for line in range(done, height):
                _add(sums[plane, line], x[line])


@compiled  # type: ignore[untyped-decorator]
def _add(sums: Floats, x: Floats) -> None:
    for i in range(len(sums)):
        sums[i] += x[i]


@compiled  # type: ignore[untyped-decorator]
def _raise(best: Floats, values: Floats) -> None:
    for i in range(len(best)):
        best[i] = np.maximum(values[i], best[i])  # a comparison would not be vectorised


@compiled  # type: ignore[untyped-decorator]
def _pick(values: Floats, block: Any, apart: Any, result: Floats) -> None:
    """Runs of ``block`` values that start ``apart`` apart; unsigned numbers index faster."""
    if block == np.uint64(1):
        result[:] = values[:: np.int64(apart)]
        return
    for run in range(np.uint64(len(result)) // block):
        for i in range(block):
            result[run * block + i] = values[run * apart + i]


@compiled  # type: ignore[untyped-decorator]
def _difference(result: Floats, totals: Floats, outputs: Floats) -> None:
    for i in range(len(result)):
        outputs[i] = result[i] - totals[i]
        totals[i] = result[i]
