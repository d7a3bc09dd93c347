"""The burst integrate-and-fire neuron (Li & Zeng, IJCAI 2022, section 3.2) for every activation.

One law, with cumulative input X_t, spikes sent so far S_t, threshold θ, initial charge v0:

    F_t = t · f(X_t / t)                       (f(X_t) where f is positively homogeneous)
    n_t = clip(⌊v0 + F_t/θ⌋ − S_(t−1), lower_limit, burst_limit)
    S_t = S_(t−1) + n_t,    y_t = n_t · θ

For f = ReLU and lower_limit = 0 this is the paper's neuron: V ← V + x, n = clip(⌊V/θ⌋, 0, γ),
V ← V − n·θ with membrane V = v0·θ + X − θ·S; burst_limit γ = 1 is the IF neuron. With
lower_limit = −γ a neuron may take back spikes ("signed").
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from onnx2snn_runtime.neurons.body import Body
from onnx2snn_runtime.neurons.operator import Array, Chunk, Range, StatefulOperator, family

MAX_BURST_LIMIT = 65_535


@family("BurstIF")
class BurstIF(StatefulOperator):
    """Burst integrate-and-fire: n = clip(floor(v0 + F/threshold) - spikes, lower, burst_limit)."""

    spiking = True
    elementwise = True
    # rounding: factor on F/threshold, above 1 only where a cap is a multiple of the threshold
    parameters: ClassVar[Mapping[str, Range]] = {
        "v0": Range(0, 1),
        "burst_limit": Range(1, MAX_BURST_LIMIT, whole=True),
        "lower_limit": Range(-MAX_BURST_LIMIT, 0, whole=True),
        "rounding": Range(1, 1.001),
    }

    def faults(self) -> Iterator[str]:
        """Also: what is taken back in a step is at most what is sent in one."""
        yield from super().faults()
        low, high = self.attributes["lower_limit"], self.attributes["burst_limit"]
        if isinstance(low, float) and isinstance(high, float) and low < -high:
            yield f"lower_limit {low:g} is below -burst_limit, {-high:g}"

    @property
    def function_name(self) -> str:
        """``BurstIF`` is the paper's neuron; other activations add their name."""
        return "BurstIF" if self.signature.op == "Relu" else super().function_name

    @property
    def state_names(self) -> tuple[str, ...]:
        """Sum of the inputs, and spikes sent less those taken back."""
        return ("input_sum", "spikes")

    def write_law(self, body: Body, function_inputs: list[str]) -> None:
        """One step in standard operators."""
        del function_inputs
        base = self.base_inputs()
        body.call("Add", "input_sum", base[0], output="input_sum_next")
        if self.needs_step:
            time = body.cast_to_float("step")
            mean = body.call("Div", "input_sum_next", time)
            cumulative = body.call("Mul", self.write_base(body, [mean, *base[1:]]), time)
        else:
            cumulative = self.write_base(body, ["input_sum_next", *base[1:]])
        quotient = body.call("Div", cumulative, "threshold")
        scaled = body.call("Mul", quotient, body.attribute("rounding"))
        level = body.call("Floor", body.call("Add", scaled, body.attribute("v0")))
        wanted = body.call("Sub", level, "spikes")
        count = body.call(
            "Clip", wanted, body.attribute("lower_limit"), body.attribute("burst_limit")
        )
        body.call("Add", "spikes", count, output="spikes_next")
        body.call("Mul", count, "threshold", output="y")

    def scan(self, xp: Any, chunk: Chunk) -> Array:
        """Integrate, evaluate f on all steps at once, then fire step by step."""
        cumulative = self.cumulative(xp, chunk)
        counts = self.fire(xp, chunk, cumulative)
        if chunk.record:
            chunk.counts = counts
        return counts * chunk.threshold

    def cumulative(self, xp: Any, chunk: Chunk) -> Array:
        """F_t of all steps, [C,N,*]; leaves the last X_t in the states."""
        sums = running_sum(xp, chunk.states[0], chunk.inputs[0])
        chunk.states[0] = sums[-1]
        if not self.needs_step:
            return chunk.evaluate([sums, *chunk.inputs[1:]])
        time = step_numbers(xp, chunk.first_step, sums)
        return chunk.evaluate([sums / time, *chunk.inputs[1:]]) * time

    def fire(self, xp: Any, chunk: Chunk, cumulative: Array) -> Array:
        """The spiking law: n_t of all steps, [C,N,*]."""
        v0, burst_limit, lower_limit, rounding = (
            np.float32(self.attributes[name]) for name in self.parameters
        )
        spikes = chunk.states[1]
        counts = xp.empty_like(cumulative)
        for t in range(len(cumulative)):
            level = xp.floor(cumulative[t] / chunk.threshold * rounding + v0)
            counts[t] = xp.clip(level - spikes, lower_limit, burst_limit)
            spikes = spikes + counts[t]
        chunk.states[1] = spikes
        return counts


def running_sum(xp: Any, start: Array, inputs: Array) -> Array:
    """start + x_1 + … + x_t for every t, added in the order of t."""
    sums = xp.empty(inputs.shape, dtype=inputs.dtype)
    total = start
    for t in range(len(inputs)):
        total = xp.add(total, inputs[t], out=sums[t])
    return sums


def step_numbers(xp: Any, first_step: int, like: Array) -> Array:
    """t of every step of a chunk, float32 [C,1,…]."""
    numbers = xp.arange(first_step, first_step + len(like), dtype=xp.float32)
    return numbers.reshape((-1,) + (1,) * (like.ndim - 1))
