"""The refining code: a layer holds an estimate of its activation and sends corrections to it.

    r_t = (f(I_t) − Y_(t−1)) / θ_t,   n_t = clip(round(r_t), −γ, γ),  0 where |r_t| ≤ dead_zone
    Y_t = clamp(Y_(t−1) + n_t·θ_t, range of f)
    θ_t = θ · 2^e,  e_0 = 0
    e ← clip(e + g, lowest, highest) with g = growth if |n| = γ, 0 if |n| > γ/2, else −decay

I_t is the ordinary input on the senders' Y_t. The receiver can follow e from the counts. Compare
"differential coding" (ICML 2025). A dead zone of 2/3 instead of the 1/2 of rounding makes the
digits of halving steps a non-adjacent form (Reitwiesner, 1960): a third fewer spikes for the same
last step, whose error grows from θ/2 to 2θ/3 at most.

Y_0 is zero, or a stored value of every channel (``RefineFrom``): what the channel usually answers
has not to be sent, and layers behind it see something near their usual input from step 1 on.

A neuron on a shortcut has a second output, Y + Z, finer than the first (``RefineFurther``): Z is an
estimate of what Y leaves, f(I) − Y, by the same law. Weights meet Y; where no weights are met, as
on the way around a residual block, a spike costs next to nothing, and rounding to Y would add up
from block to block.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from onnx2snn_runtime.neurons.body import Body
from onnx2snn_runtime.neurons.burst import MAX_BURST_LIMIT
from onnx2snn_runtime.neurons.operator import Array, Chunk, Range, StatefulOperator, family

HUGE = float(np.finfo(np.float32).max)


@family("Refine")
class Refine(StatefulOperator):
    """Refining neuron: sends corrections of its estimate, in units of an adaptive threshold."""

    spiking = True
    elementwise = True
    sends_estimates = True
    parameters: ClassVar[Mapping[str, Range]] = {
        "burst_limit": Range(1, MAX_BURST_LIMIT, whole=True),
        "growth": Range(0, 16, whole=True),
        "decay": Range(0, 16, whole=True),
        "dead_zone": Range(0, 1),
        "lowest": Range(-126, 0, whole=True),
        "highest": Range(0, 126, whole=True),
        "low": Range(-HUGE, HUGE),
        "high": Range(-HUGE, HUGE),
    }

    def faults(self) -> Iterator[str]:
        """Also: the range of f is no empty one."""
        yield from super().faults()
        low, high = self.attributes["low"], self.attributes["high"]
        if isinstance(low, float) and isinstance(high, float) and not low < high:
            yield f"the range {low:g}..{high:g} of the estimate is empty"

    @property
    def needs_step(self) -> bool:
        """The law never depends on t."""
        return False

    @property
    def state_names(self) -> tuple[str, ...]:
        """The estimate Y, and the exponent e of the threshold."""
        return ("estimate", "exponent")

    def write_law(self, body: Body, function_inputs: list[str]) -> None:
        """One step in standard operators."""
        del function_inputs
        target = self.write_target(body)
        estimate = self.write_estimate(body)
        limit = body.attribute("burst_limit")
        scale = body.call("Pow", body.constant(2.0), "exponent")
        threshold = body.call("Mul", "threshold", scale)
        wanted = body.call("Div", body.call("Sub", target, estimate), threshold)
        spoken = body.call("Greater", body.call("Abs", wanted), body.attribute("dead_zone"))
        whole = body.call("Where", spoken, body.call("Round", wanted), body.constant(0.0))
        count = body.call("Clip", whole, body.call("Neg", limit), limit)
        moved = body.call("Add", estimate, body.call("Mul", count, threshold))
        low, high = body.attribute("low"), body.attribute("high")
        body.call("Clip", moved, low, high, output="estimate_next")
        self.write_answer(body)
        size = body.call("Abs", count)
        half = body.call("Mul", limit, body.constant(0.5))
        decay = body.call("Neg", body.attribute("decay"))
        quiet = body.call("Where", body.call("Greater", size, half), body.constant(0.0), decay)
        full = body.call("GreaterOrEqual", size, limit)
        change = body.call("Where", full, body.attribute("growth"), quiet)
        body.call(
            "Clip",
            body.call("Add", "exponent", change),
            body.attribute("lowest"),
            body.attribute("highest"),
            output="exponent_next",
        )

    def write_target(self, body: Body) -> str:
        """Name of what is estimated inside the function."""
        return self.write_base(body, self.inputs_of_base())

    def write_estimate(self, body: Body) -> str:
        """Name of Y_(t−1) inside the function."""
        del body
        return "estimate"

    def write_answer(self, body: Body) -> None:
        """What is handed on, ``y``."""
        body.call("Identity", "estimate_next", output="y")

    def scan(self, xp: Any, chunk: Chunk) -> Array:
        """Evaluate f on all steps at once, then correct step by step."""
        return self.correct(xp, chunk, chunk.evaluate(chunk.inputs))

    def correct(self, xp: Any, chunk: Chunk, target: Array) -> Array:
        """The refining law: Y_t of all steps, [C,N,*]."""
        limit, growth, decay, dead_zone, lowest, highest, low, high = (
            np.float32(self.attributes[name]) for name in self.parameters
        )
        estimate, exponent = chunk.states
        estimates = xp.empty_like(target)
        counts = xp.empty_like(target) if chunk.record else None
        for t in range(len(target)):
            threshold = chunk.threshold * xp.exp2(exponent)
            wanted = (target[t] - estimate) / threshold
            whole = xp.where(xp.abs(wanted) > dead_zone, xp.rint(wanted), np.float32(0))
            count = xp.clip(whole, -limit, limit)
            estimate = xp.clip(estimate + count * threshold, low, high)
            size = xp.abs(count)
            quiet = xp.where(size > limit * np.float32(0.5), np.float32(0), -decay)
            change = xp.where(size >= limit, growth, quiet)
            exponent = xp.clip(exponent + change, lowest, highest)
            estimates[t] = estimate
            if counts is not None:
                counts[t] = count
        chunk.states[:] = [estimate, exponent]
        chunk.counts = counts
        return estimates


@family("RefineFrom")
class RefineFrom(Refine):
    """Refining neuron whose estimate begins at a stored value instead of zero."""

    starts: ClassVar[Mapping[str, str]] = {"estimate": "start"}

    @property
    def needs_step(self) -> bool:
        """The first step is told from the others."""
        return True

    def write_estimate(self, body: Body) -> str:
        """The stored value at step 1: a file's states all begin at zero."""
        is_first = body.call("LessOrEqual", body.cast_to_float("step"), body.constant(1.0))
        return body.call("Where", is_first, "start", "estimate")


@family("RefineFurther")
class RefineFurther(Refine):
    """Finer output of a refining neuron: adds an estimate of what its first estimate leaves.

    That first estimate is the last input; f itself does not see it.
    """

    @property
    def expected_moving(self) -> tuple[int, ...]:
        """The input of f, and the first estimate."""
        return (0, self.first_estimate)

    @property
    def first_estimate(self) -> int:
        """Which input is the first estimate."""
        return self.signature.inputs - 1

    def inputs_of_base(self) -> list[str]:
        """All but the first estimate."""
        return self.base_inputs()[:-1]

    def write_target(self, body: Body) -> str:
        """What the first estimate leaves."""
        return body.call("Sub", super().write_target(body), self.base_inputs()[-1])

    def write_answer(self, body: Body) -> None:
        """Both estimates together."""
        body.call("Add", self.base_inputs()[-1], "estimate_next", output="y")

    def scan(self, xp: Any, chunk: Chunk) -> Array:
        """Evaluate f on all steps at once, then correct step by step what is left."""
        *inputs, coarse = chunk.inputs
        return coarse + self.correct(xp, chunk, chunk.evaluate(inputs) - coarse)
