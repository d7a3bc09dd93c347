"""The spiking laws as one pass over memory, compiled by numba; bit-equal to the NumPy laws.

Handles the piecewise linear activations, f(x) = clip(x ≥ 0 ? x : slope·x, low, high). Work
is cut into blocks of neurons that stay in the cache over all steps of a chunk.
"""

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from onnx2snn_runtime.neurons import Chunk, StatefulOperator

Floats = NDArray[np.float32]
BLOCK = 1024
HANDLED = ("Relu", "LeakyRelu", "PRelu", "Clip")


def handles(operator: StatefulOperator) -> bool:
    """Whether there is a fused kernel for this operator."""
    return operator.family in ("BurstIF", "Refine") and operator.signature.op in HANDLED


def scan(operator: StatefulOperator, chunk: Chunk) -> Any:
    """All steps of a chunk; the same contract as ``StatefulOperator.scan``."""
    inputs = chunk.inputs[0]
    steps, images, features = inputs.shape[0], inputs.shape[1], inputs.shape[2:]
    static = inputs.strides[0] == 0
    source = inputs[:1] if static else inputs
    flat = np.ascontiguousarray(source, dtype=np.float32).reshape(len(source), images, -1)
    size = flat.shape[2]
    threshold = _per_neuron(chunk.threshold, features)
    slope, low, high = _activation(operator, chunk, features)
    states = [np.array(state, dtype=np.float32).reshape(images, size) for state in chunk.states]
    outputs = np.empty((steps, images, size), dtype=np.float32)
    counts = np.empty((steps if chunk.record else 0, images, size), dtype=np.float32)
    attributes = operator.attributes
    numbers = [np.float32(attributes[name]) for name in operator.parameters]
    if operator.family == "BurstIF":
        first = np.float32(chunk.first_step)
        arguments = (flat, threshold, slope, np.float32(low), np.float32(high), first)
        bounded = operator.signature.op == "Clip"
        _burst(*arguments, bounded, *numbers, *states, outputs, counts)
    else:
        _refine(flat, threshold, slope, np.float32(low), np.float32(high), *numbers, *states,
                outputs, counts)  # fmt: skip
    shape = (images, *features)
    chunk.states[:] = [state.reshape(shape) for state in states]
    if chunk.record:
        chunk.counts = counts.reshape(steps, *shape)
    return outputs.reshape(steps, *shape)


def _per_neuron(values: Any, features: tuple[int, ...]) -> Floats:
    """Values broadcastable to [N,*] as one number a neuron, [D]."""
    array = np.asarray(values, dtype=np.float32)
    if array.ndim == len(features) + 1:
        array = array[0]
    return np.ascontiguousarray(np.broadcast_to(array, features)).reshape(-1)


def _activation(
    operator: StatefulOperator, chunk: Chunk, features: tuple[int, ...]
) -> tuple[Floats, float, float]:
    """Slope of the negative side per neuron, and the bounds."""
    op = operator.signature.op
    none = np.zeros((), dtype=np.float32)
    if op == "Relu":
        return _per_neuron(none, features), 0.0, np.inf
    if op == "LeakyRelu":
        alpha = np.float32(operator.attributes.get("alpha", 0.01))
        return _per_neuron(alpha, features), -np.inf, np.inf
    if op == "PRelu":
        return _per_neuron(chunk.inputs[1], features), -np.inf, np.inf
    low, high = (np.asarray(value).item() for value in chunk.inputs[1:3])
    return _per_neuron(none + 1, features), low, high


@njit(cache=True, parallel=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _burst(
    inputs: Floats, threshold: Floats, slope: Floats, low: Any, high: Any, first: Any,
    bounded: bool, v0: Any, burst_limit: Any, lower_limit: Any, rounding: Any,
    sums: Floats, spikes: Floats, outputs: Floats, counts: Floats,
) -> None:  # fmt: skip
    steps, images, size = outputs.shape
    moving = inputs.shape[0] > 1
    record = counts.shape[0] > 0
    blocks = (size + BLOCK - 1) // BLOCK
    for job in prange(images * blocks):
        n = job // blocks
        start = (job % blocks) * BLOCK
        stop = min(start + BLOCK, size)
        for t in range(steps):
            source = t if moving else 0
            time = np.float32(first + np.float32(t))
            for i in range(start, stop):
                total = sums[n, i] + inputs[source, n, i]
                sums[n, i] = total
                if bounded:
                    mean = np.float32(total / time)
                    value = np.float32(min(max(mean, low), high) * time)
                else:
                    value = total if total >= 0 else np.float32(slope[i] * total)
                level = np.floor(np.float32(np.float32(value / threshold[i]) * rounding) + v0)
                count = min(max(np.float32(level - spikes[n, i]), lower_limit), burst_limit)
                spikes[n, i] += count
                outputs[t, n, i] = count * threshold[i]
                if record:
                    counts[t, n, i] = count


@njit(cache=True, parallel=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _refine(
    inputs: Floats, threshold: Floats, slope: Floats, floor: Any, ceiling: Any,
    limit: Any, growth: Any, lowest: Any, highest: Any, low: Any, high: Any,
    estimate: Floats, exponent: Floats, outputs: Floats, counts: Floats,
) -> None:  # fmt: skip
    steps, images, size = outputs.shape
    moving = inputs.shape[0] > 1
    record = counts.shape[0] > 0
    blocks = (size + BLOCK - 1) // BLOCK
    half = np.float32(limit * np.float32(0.5))
    for job in prange(images * blocks):
        n = job // blocks
        start = (job % blocks) * BLOCK
        stop = min(start + BLOCK, size)
        for t in range(steps):
            source = t if moving else 0
            for i in range(start, stop):
                x = inputs[source, n, i]
                value = x if x >= 0 else np.float32(slope[i] * x)
                value = min(max(value, floor), ceiling)
                step = np.float32(threshold[i] * np.float32(np.exp2(exponent[n, i])))
                count = np.rint(np.float32(np.float32(value - estimate[n, i]) / step))
                count = min(max(count, -limit), limit)
                moved = np.float32(estimate[n, i] + np.float32(count * step))
                estimate[n, i] = min(max(moved, low), high)
                reach = abs(count)
                change = np.float32(-1)
                if reach >= limit:
                    change = growth
                elif reach > half:
                    change = np.float32(0)
                exponent[n, i] = min(max(np.float32(exponent[n, i] + change), lowest), highest)
                outputs[t, n, i] = estimate[n, i]
                if record:
                    counts[t, n, i] = count
