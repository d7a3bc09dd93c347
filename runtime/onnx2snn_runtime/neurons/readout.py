"""The edge into the tail: running means, and the count of steps.

    mean_t = (x_1 + … + x_t) / t

The tail sees what the network has sent so far as the rate of Li & Zeng (IJCAI 2022), so that what
is not linear there, such as Softmax, acts on the mean and not on single steps.
"""

from typing import Any

from onnx import TensorProto

from onnx2snn_runtime.neurons.body import Body
from onnx2snn_runtime.neurons.burst import running_sum, step_numbers
from onnx2snn_runtime.neurons.operator import Array, Chunk, StatefulOperator, family


@family("Readout")
class Readout(StatefulOperator):
    """Running mean of a signal: mean = (x_1 + ... + x_t) / t."""

    elementwise = True
    is_readout = True

    @property
    def function_name(self) -> str:
        """There is one of a family."""
        return self.family

    @property
    def needs_step(self) -> bool:
        """The mean divides by t."""
        return True

    @property
    def state_names(self) -> tuple[str, ...]:
        """Sum of the inputs."""
        return ("sum",)

    def write_law(self, body: Body, function_inputs: list[str]) -> None:
        """One step in standard operators."""
        del function_inputs
        body.call("Add", "sum", "x", output="sum_next")
        body.call("Div", "sum_next", body.cast_to_float("step"), output="y")

    def scan(self, xp: Any, chunk: Chunk) -> Array:
        """The mean after every step of the chunk."""
        sums = running_sum(xp, chunk.states[0], chunk.inputs[0])
        chunk.states[0] = sums[-1]
        return sums / step_numbers(xp, chunk.first_step, sums)


@family("Tick")
class Tick(StatefulOperator):
    """Counts the steps: step.next = step + 1."""

    state_type = TensorProto.INT64

    @property
    def function_name(self) -> str:
        """There is one clock."""
        return "Tick"

    @property
    def needs_step(self) -> bool:
        """It makes t."""
        return False

    @property
    def state_names(self) -> tuple[str, ...]:
        """None besides its input, which is the state itself."""
        return ()

    def write_law(self, body: Body, function_inputs: list[str]) -> None:
        """One step in standard operators."""
        del function_inputs
        one = body.call("CastLike", body.constant(1.0), "x")
        body.call("Add", "x", one, output="y")

    def scan(self, xp: Any, chunk: Chunk) -> Array:
        """The engine counts; a chunk never meets this node."""
        raise NotImplementedError
