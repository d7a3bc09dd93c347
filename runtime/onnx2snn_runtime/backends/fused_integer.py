"""The integer neuron as one pass over memory, compiled by numba; equal to the NumPy law.

Quotients are taken in float64: of whole numbers below 2^31 and 2^24 it is further from the next
whole number (2^-24 at least) than its rounding reaches (2^-22 / Θ), so its floor is exact.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from onnx2snn_runtime.neurons import Chunk
from onnx2snn_runtime.neurons.integer import IntegerIF, integer_threshold

Floats = NDArray[np.float32]
Integers = NDArray[np.int32]
BLOCK = 1024

_compiled = njit(cache=True, error_model="numpy", nogil=True)  # batches run on several threads


def scan(operator: IntegerIF, chunk: Chunk) -> Any:
    """All steps of a chunk; the same contract as ``StatefulOperator.scan``.

    States are changed in place, and so is the input where ``chunk.reusable`` allows it.
    """
    inputs = chunk.inputs[0]
    steps, images, features = inputs.shape[0], inputs.shape[1], inputs.shape[2:]
    source = inputs[:1] if inputs.strides[0] == 0 else inputs
    flat = np.ascontiguousarray(source, dtype=np.float32).reshape(len(source), images, -1)
    size = flat.shape[2]
    threshold, offset = integer_threshold(np, operator, chunk.threshold)
    bounds = chunk.inputs[1:3] if operator.needs_step else (0, 0)
    numbers = [_per_neuron(value, features) for value in (threshold, offset, *bounds)]
    sums, spikes = (np.ascontiguousarray(state).reshape(images, size) for state in chunk.states)
    reuse = chunk.reusable and len(flat) == steps
    outputs = flat if reuse else np.empty((steps, images, size), dtype=np.float32)
    counts = np.empty((steps if chunk.record else 0, images, size), dtype=np.float32)
    limits = [np.int32(operator.attributes[name]) for name in ("lower_limit", "burst_limit")]
    _count(flat, *numbers, operator.needs_step, chunk.first_step, *limits,
           sums, spikes, outputs, counts)  # fmt: skip
    shape = (images, *features)
    chunk.states[:] = [sums.reshape(shape), spikes.reshape(shape)]
    if chunk.record:
        chunk.counts = counts.reshape(steps, *shape)
    return outputs.reshape(steps, *shape)


def _per_neuron(values: Any, features: tuple[int, ...]) -> Integers:
    """Whole numbers broadcastable to [N,*] as one a neuron, [D]."""
    array = np.asarray(values).astype(np.int32)
    if array.ndim == len(features) + 1:
        array = array[0]
    return np.ascontiguousarray(np.broadcast_to(array, features)).reshape(-1)


@_compiled  # type: ignore[untyped-decorator]
def _count(
    inputs: Floats, threshold: Integers, offset: Integers, low: Integers, high: Integers,
    bounded: bool, first: int, lower_limit: Any, burst_limit: Any,
    sums: Integers, spikes: Integers, outputs: Floats, counts: Floats,
) -> None:  # fmt: skip
    steps, images, size = outputs.shape
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
            given[:] = inputs[t if moves else 0, n, start:stop]
            _charge(given, low[start:stop], high[start:stop], bounded, first + t,
                    offset[start:stop], sums[n, start:stop], charged)  # fmt: skip
            _fire(charged, threshold[start:stop], lower_limit, burst_limit,
                  spikes[n, start:stop], outputs[t, n, start:stop])  # fmt: skip
            if records:
                counts[t, n, start:stop] = outputs[t, n, start:stop]


@_compiled  # type: ignore[untyped-decorator]
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


@_compiled  # type: ignore[untyped-decorator]
def _fire(
    charged: NDArray[np.float64], threshold: Integers, lower_limit: Any, burst_limit: Any,
    spikes: Integers, outputs: Floats,
) -> None:  # fmt: skip
    for i in range(len(charged)):
        level = np.int32(np.floor(charged[i] / threshold[i]))
        count = min(max(level - spikes[i], lower_limit), burst_limit)
        spikes[i] += count
        outputs[i] = count
