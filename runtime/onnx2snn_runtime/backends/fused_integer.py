"""The integer neuron as one pass over memory, compiled by numba; equal to the NumPy law.

Quotients are taken in float64: of whole numbers below 2^31 and 2^24 it is further from the next
whole number (2^-24 at least) than its rounding reaches (2^-22 / Θ), so its floor is exact.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx2snn_runtime.backends.fused_rows import (
    BLOCK,
    Floats,
    compiled,
    copy_row,
    finish,
    make_buffers,
    one_row_per_image,
    per_neuron,
    states_as_rows,
)
from onnx2snn_runtime.neurons import Chunk
from onnx2snn_runtime.neurons.integer import IntegerIF, integer_threshold

Integers = NDArray[np.int32]


def scan(operator: IntegerIF, chunk: Chunk) -> Any:
    """All steps of a chunk; the same contract as ``StatefulOperator.scan``.

    States are changed in place, and so is the input where ``chunk.reusable`` allows it.
    """
    features = chunk.inputs[0].shape[2:]
    flat = one_row_per_image(chunk.inputs[0])
    threshold, offset = integer_threshold(np, operator, chunk.threshold)
    bounds = chunk.inputs[1:3] if operator.needs_step else (0, 0)
    numbers = [per_neuron(v, features, np.int32) for v in (threshold, offset, *bounds)]
    held = states_as_rows(chunk)
    outputs, column, counts = make_buffers(chunk, flat)
    limits = [np.int32(operator.attributes[name]) for name in ("lower_limit", "burst_limit")]
    _count(flat, *numbers, operator.needs_step, chunk.first_step, *limits,
           *held, outputs, column, counts)  # fmt: skip
    return finish(chunk, outputs, column, counts)


@compiled  # type: ignore[untyped-decorator]
def _count(
    inputs: Floats, threshold: Integers, offset: Integers, low: Integers, high: Integers,
    bounded: bool, first: int, lower_limit: Any, burst_limit: Any,
    sums: Integers, spikes: Integers, outputs: Floats, column: int, counts: Floats,
) -> None:  # fmt: skip
    steps, (images, size) = len(outputs), sums.shape
    moves, records = inputs.shape[0] > 1, counts.shape[0] > 0
    blocks = (size + BLOCK - 1) // BLOCK
    for job in range(images * blocks):
        n = job // blocks
        start = (job % blocks) * BLOCK
        stop = min(start + BLOCK, size)
        charged = np.empty(stop - start, np.float64)
        given = np.empty(stop - start, np.float32)
        for t in range(steps):
            # the outputs may lie over the inputs: a loop over both would not be vectorised
            copy_row(inputs[t if moves else 0, n, start:stop], given)
            _charge(given, low[start:stop], high[start:stop], bounded, first + t,
                    offset[start:stop], sums[n, start:stop], charged)  # fmt: skip
            sent = outputs[t, n, column + start : column + stop]
            _fire(charged, threshold[start:stop], lower_limit, burst_limit,
                  spikes[n, start:stop], sent)  # fmt: skip
            if records:
                counts[t, n, start:stop] = sent


@compiled  # type: ignore[untyped-decorator]
def _charge(
    x: Floats, low: Integers, high: Integers, bounded: bool, time: int,
    offset: Integers, sums: Integers, charged: NDArray[np.float64],
) -> None:  # fmt: skip
    if bounded:
        for i in range(len(x)):
            sums[i] += np.int32(x[i])
            charged[i] = min(max(sums[i], low[i] * time), high[i] * time) + offset[i]
    else:
        for i in range(len(x)):
            sums[i] += np.int32(x[i])
            charged[i] = max(sums[i], np.int32(0)) + offset[i]


@compiled  # type: ignore[untyped-decorator]
def _fire(
    charged: NDArray[np.float64], threshold: Integers, lower_limit: Any, burst_limit: Any,
    spikes: Integers, outputs: Floats,
) -> None:  # fmt: skip
    for i in range(len(charged)):
        level = np.int32(np.floor(charged[i] / threshold[i]))
        count = min(max(level - spikes[i], lower_limit), burst_limit)
        spikes[i] += count
        outputs[i] = count
