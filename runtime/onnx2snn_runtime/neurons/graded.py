"""Operators that send graded values: exact for any function of the mean input.

    F_t = t · f(X_t / t),  F_0 = 0;    y_t = F_t − F_(t−1)

so that y_1 + … + y_T = T · f(mean input). Lateral-inhibition pooling (Li & Zeng, IJCAI 2022,
section 3.3) is this law for max, y_t = MaxPool(X_t) − MaxPool(X_(t−1)), for every geometry.
"""

from typing import Any

from onnx import NodeProto

from onnx2snn_runtime.neurons.body import Body
from onnx2snn_runtime.neurons.burst import running_sum, step_numbers
from onnx2snn_runtime.neurons.operator import Array, Chunk, StatefulOperator, family


@family("Graded")
class Graded(StatefulOperator):
    """Graded operator: y = F - total with F = t * f(mean input so far)."""

    @property
    def sum_names(self) -> tuple[str, ...]:
        """One sum for each moving input."""
        moving = self.signature.moving
        if len(moving) == 1:
            return ("input_sum",)
        return tuple(f"input_sum_{index}" for index in moving)

    @property
    def state_names(self) -> tuple[str, ...]:
        """Sums of the moving inputs, and F of the step before."""
        return (*self.sum_names, "total")

    def state_sources(self, node: NodeProto) -> list[str]:
        """Sums are shaped like the inputs, the total like the output."""
        return [*(node.input[index] for index in self.signature.moving), node.output[0]]

    def write_law(self, body: Body, function_inputs: list[str]) -> None:
        """One step in standard operators; where F is not finite, the last F is kept."""
        del function_inputs
        inputs = self.base_inputs()
        time = body.cast_to_float("step") if self.needs_step else ""
        for index, name in zip(self.signature.moving, self.sum_names, strict=True):
            total = body.call("Add", name, inputs[index], output=f"{name}_next")
            inputs[index] = body.call("Div", total, time) if self.needs_step else total
        result = self.write_base(body, inputs)
        if not self.needs_step:
            body.call("Identity", result, output="total_next")
        else:
            result = body.call("Mul", result, time)
            bad = body.call("Or", body.call("IsNaN", result), body.call("IsInf", result))
            body.call("Where", bad, "total", result, output="total_next")
        body.call("Sub", "total_next", "total", output="y")

    def scan(self, xp: Any, chunk: Chunk) -> Array:
        """Sum the inputs, evaluate f on all steps at once, take differences."""
        inputs = list(chunk.inputs)
        time: Array = None
        for state, index in enumerate(self.signature.moving):
            sums = running_sum(xp, chunk.states[state], inputs[index])
            chunk.states[state] = sums[-1]
            if self.needs_step:
                time = step_numbers(xp, chunk.first_step, sums)
                sums = sums / time
            inputs[index] = sums
        totals = chunk.evaluate(inputs)
        before = chunk.states[-1]
        if self.needs_step:
            totals = totals * step_numbers(xp, chunk.first_step, totals)
            keep_finite(xp, totals, before)
        outputs = xp.empty_like(totals)
        outputs[0] = totals[0] - before
        xp.subtract(totals[1:], totals[:-1], out=outputs[1:])
        chunk.states[-1] = totals[-1]
        return outputs


@family("LIPool")
class LIPool(Graded):
    """Lateral-inhibition pooling: y = max(sum of inputs) - the same one step before."""

    @property
    def function_name(self) -> str:
        """``LIPool`` is the pooling of the paper; other maxima add their name."""
        return "LIPool" if self.signature.op == "MaxPool" else super().function_name

    @property
    def needs_step(self) -> bool:
        """A maximum is positively homogeneous."""
        return False


def pools_pictures(operator: StatefulOperator) -> bool:
    """Whether this is lateral-inhibition pooling over height and width."""
    sides = len(operator.attributes.get("kernel_shape", ()))
    return operator.family == "LIPool" and operator.signature.op == "MaxPool" and sides == 2


def keep_finite(xp: Any, totals: Array, before: Array) -> None:
    """Replace what is not finite by the value of the step before, in place.

    Not asked whether there is any: the answer of a device would have to be waited for.
    """
    for t in range(len(totals)):
        totals[t] = xp.where(xp.isfinite(totals[t]), totals[t], before)
        before = totals[t]
