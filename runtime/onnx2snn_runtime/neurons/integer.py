"""Neuron and readout on whole numbers: what every engine computes alike, to the bit.

A signal is a count of spikes or a sum of counts times integer weights, held in float32. The
converter proves that every partial sum of one step stays below 2^24, where float32 adds whole
numbers exactly in any order, and that sums over time stay inside int32 for a stated number of
steps. With Θ a whole number for each neuron, and bounds a, b that are whole numbers:

    X_t = x_1 + … + x_t                                      (int32)
    F_t = max(X_t, 0) for ReLU, min(max(X_t, a·t), b·t) for Clip
    n_t = clip(⌊(F_t + ⌊v0·Θ⌋) / Θ⌋ − S_(t−1), lower_limit, burst_limit)
    S_t = S_(t−1) + n_t,    y_t = n_t

The output is the count itself: Θ is folded into the weights behind.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from onnx import TensorProto

from onnx2snn_runtime.neurons.body import Body
from onnx2snn_runtime.neurons.burst import MAX_BURST_LIMIT, running_sum, step_numbers
from onnx2snn_runtime.neurons.operator import Array, Chunk, Range, StatefulOperator, family
from onnx2snn_runtime.neurons.readout import Readout

EXACT_LIMIT = 2**24  # float32 holds every whole number below, and adds them in any order
SUM_LIMIT = 2**31  # of int32


@family("IntegerIF")
class IntegerIF(StatefulOperator):
    """Integer burst neuron: n = clip(floor((F + offset) / threshold) - spikes, lower, upper)."""

    spiking = True
    elementwise = True
    sends_counts = True
    state_type = TensorProto.INT32
    activations = ("Relu", "Clip")
    parameters: ClassVar[Mapping[str, Range]] = {
        "v0": Range(0, 1),
        "burst_limit": Range(1, MAX_BURST_LIMIT, whole=True),
        "lower_limit": Range(-MAX_BURST_LIMIT, 0, whole=True),
    }

    @property
    def function_name(self) -> str:
        """``IntegerIF`` is the neuron of ReLU."""
        return "IntegerIF" if self.signature.op == "Relu" else super().function_name

    @property
    def state_names(self) -> tuple[str, ...]:
        """Sum of the inputs, and spikes sent less those taken back."""
        return ("input_sum", "spikes")

    def faults(self) -> Iterator[str]:
        """Also: only activations that stay in whole numbers."""
        yield from super().faults()
        if self.signature.op not in self.activations:
            yield f"{self.signature.op} has no integer form"

    def write_law(self, body: Body, function_inputs: list[str]) -> None:
        """One step in standard operators, int32 but for the signals."""
        del function_inputs
        inputs = self.base_inputs()
        total = body.call("Add", "input_sum", body.cast_to_int(inputs[0]), output="input_sum_next")
        threshold = body.cast_to_int("threshold")
        part = body.call("Mul", "threshold", body.attribute("v0"))
        offset = body.cast_to_int(body.call("Floor", part))
        if self.needs_step:
            time = body.cast_to_int("step")
            low, high = (body.call("Mul", body.cast_to_int(name), time) for name in inputs[1:])
            charged = body.call("Min", body.call("Max", total, low), high)
            charged = body.call("Add", charged, offset)
            rest = body.call("Mod", charged, threshold)  # of the sign of the threshold
            level = body.call("Div", body.call("Sub", charged, rest), threshold)
        else:
            zero = body.cast_to_int(body.constant(0.0))
            charged = body.call("Add", body.call("Max", total, zero), offset)
            level = body.call("Div", charged, threshold)
        lowest, highest = (
            body.cast_to_int(body.attribute(name)) for name in ("lower_limit", "burst_limit")
        )
        count = body.call("Clip", body.call("Sub", level, "spikes"), lowest, highest)
        body.call("Add", "spikes", count, output="spikes_next")
        body.call("Cast", count, output="y", to=TensorProto.FLOAT)

    def scan(self, xp: Any, chunk: Chunk) -> Array:
        """Sum all steps, then fire step by step."""
        sums = running_sum(xp, chunk.states[0], chunk.inputs[0].astype(xp.int32))
        chunk.states[0] = sums[-1]
        charged = self.bounded(xp, chunk, sums)
        threshold, offset = integer_threshold(xp, self, chunk.threshold)
        lowest, highest = (
            np.int32(self.attributes[name]) for name in ("lower_limit", "burst_limit")
        )
        spikes = chunk.states[1]
        counts = xp.empty(sums.shape, dtype=xp.float32)
        for t in range(len(sums)):
            level = (charged[t] + offset) // threshold
            count = xp.clip(level - spikes, lowest, highest)
            spikes = spikes + count
            counts[t] = count
        chunk.states[1] = spikes
        if chunk.record:
            chunk.counts = counts
        return counts

    def bounded(self, xp: Any, chunk: Chunk, sums: Array) -> Array:
        """F_t of all steps, int32 [C,N,*]."""
        if not self.needs_step:
            return xp.maximum(sums, np.int32(0))
        time = step_numbers(xp, chunk.first_step, sums).astype(xp.int32)
        low, high = (xp.asarray(bound).astype(xp.int32) for bound in chunk.inputs[1:3])
        return xp.minimum(xp.maximum(sums, low * time), high * time)


def integer_threshold(xp: Any, operator: StatefulOperator, threshold: Array) -> tuple[Array, Array]:
    """Θ and ⌊v0·Θ⌋ as int32; the product is rounded to float32 first, as in the file."""
    whole = xp.asarray(threshold, dtype=xp.float32)
    offset = xp.floor(whole * np.float32(operator.attributes["v0"]))
    return whole.astype(xp.int32), offset.astype(xp.int32)


@family("IntegerReadout")
class IntegerReadout(Readout):
    """Running mean of whole numbers in units of the answer: y = (x_1 + ... + x_t) / t * scale."""

    state_type = TensorProto.INT32

    def write_law(self, body: Body, function_inputs: list[str]) -> None:
        """One step in standard operators: whole numbers up to the last line."""
        del function_inputs
        signal, scale = self.base_inputs()
        body.call("Add", "sum", body.cast_to_int(signal), output="sum_next")
        mean = body.call("Div", body.cast_to_float("sum_next"), body.cast_to_float("step"))
        body.call("Mul", mean, scale, output="y")

    def scan(self, xp: Any, chunk: Chunk) -> Array:
        """The answer after every step of the chunk."""
        signal, scale = chunk.inputs
        sums = running_sum(xp, chunk.states[0], signal.astype(xp.int32))
        chunk.states[0] = sums[-1]
        sums = sums.astype(xp.float32)
        return sums / step_numbers(xp, chunk.first_step, sums) * xp.asarray(scale)
