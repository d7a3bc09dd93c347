"""How a spiking network is run: static head, segments between stateful operators, and tail.

``planner`` makes a plan of a file; the engine follows it.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import onnx

from onnx2snn_runtime.format import BATCH
from onnx2snn_runtime.neurons import StatefulOperator
from onnx2snn_runtime.planning.schedule import Footprint

Shape = tuple[int | str, ...]
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Segment:
    """A stateless part of the network, as a model of its own.

    Attributes:
        level: number of stateful operators before it.
        inputs: tensors it reads from other parts.
        outputs: tensors that other parts read.
        model: the part as a stateless ONNX model, batch first.
        graded: outputs of nonlinear operators, which stand between neurons in the refining code
            only; what they hand on are values, not spikes.
        sums: values, too: tensors at weights that hold sums over weights.
    """

    level: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    model: onnx.ModelProto
    graded: tuple[str, ...] = ()
    sums: tuple[str, ...] = ()

    @property
    def values(self) -> tuple[str, ...]:
        """Tensors that hold values instead of spikes and cost multiplications, each once."""
        return tuple(dict.fromkeys([*self.graded, *self.sums]))

    @property
    def reads(self) -> tuple[str, ...]:
        """Tensors of other parts."""
        return self.inputs


@dataclass(frozen=True)
class Share:
    """Where an operator writes its output: a part of a joint tensor (see ``joins``).

    Attributes:
        tensor: name of the joint tensor.
        first: its values in front of this part, for one image and one step.
    """

    tensor: str
    first: int


@dataclass(frozen=True)
class Stateful:
    """One node of our domain with the tensors it is wired to.

    Attributes:
        name: name of the node.
        operator: the law it follows.
        inputs: names of the inputs of f; constants are in ``constants``.
        constants: input index to array, for the inputs of f that do not move.
        threshold: threshold array broadcastable to [N,*], or None.
        starts: state to the array, broadcastable to [N,*], that it begins with instead of zero.
        states: names of the states.
        state_shapes: shapes of the states, batch first as ``N``.
        output: name of the output.
        level: number of stateful operators before it.
        bias: what is added to the first input, or None (see ``fusing``).
        residual: name of the tensor that is added then, or empty.
        scale: what the first input is multiplied by before, or None (see ``narrowing``).
        share: part of a joint tensor that stands for the output, or None.
    """

    name: str
    operator: StatefulOperator
    inputs: tuple[str, ...]
    constants: dict[int, Any]
    threshold: Any
    starts: dict[str, Any]
    states: tuple[str, ...]
    state_shapes: tuple[Shape, ...]
    output: str
    level: int
    share: Share | None = None
    bias: Any = None
    residual: str = ""
    scale: Any = None

    @property
    def reads(self) -> tuple[str, ...]:
        """Tensors of other parts, and constants."""
        return (*self.inputs, self.residual) if self.residual else self.inputs

    @property
    def written(self) -> str:
        """Name of the tensor that the output is written to."""
        return self.share.tensor if self.share else self.output


@dataclass(frozen=True)
class Plan:
    """How one spiking network is run.

    Attributes:
        inputs: name and shape of the inputs that are images.
        outputs: names of the answers, the source's outputs in their order.
        head: stateless part before the first neuron, or None.
        units: segments and stateful operators in the order of execution.
        tail: stateless part behind the last neuron, or None.
        opset: version of the default operator set.
        shapes: shape of every tensor, batch first as ``N``.
        last_use: tensor to the index of the last unit that reads it.
        narrow: tensors that are held in 16 bits.
    """

    inputs: dict[str, Shape]
    outputs: tuple[str, ...]
    head: Segment | None
    units: tuple[Segment | Stateful, ...]
    tail: Segment | None
    opset: int
    shapes: dict[str, Shape]
    last_use: dict[str, int] = field(default_factory=dict)
    narrow: frozenset[str] = frozenset()

    @property
    def stateful(self) -> list[Stateful]:
        """The stateful operators in order."""
        return [unit for unit in self.units if isinstance(unit, Stateful)]

    @cached_property
    def footprint(self) -> Footprint:
        """Memory of one image, from the shapes of states and tensors."""
        states = sum(_bytes(shape) for unit in self.stateful for shape in unit.state_shapes)
        alive: dict[str, int] = {}
        peak = 0
        sizes, weights = [], [0]
        for index, unit in enumerate(self.units):
            made = unit.outputs if isinstance(unit, Segment) else (unit.output,)
            written = made if isinstance(unit, Segment) else (unit.written,)
            for name in (*unit.reads, *written):
                alive[name] = self.bytes_of(name)
            counts = 0 if isinstance(unit, Segment) else _bytes(self.shapes.get(unit.output, ()))
            peak = max(peak, sum(alive.values()) + counts)
            sizes += [_bytes(self.shapes.get(name, ())) for name in made]
            if isinstance(unit, Segment):
                weights.append(sum(tensor_bytes(item) for item in unit.model.graph.initializer))
            alive = {
                name: size for name, size in alive.items() if self.last_use.get(name, -1) > index
            }
        return Footprint(
            states, peak, sum(sizes) // max(1, len(sizes)), sum(weights) // max(1, len(weights) - 1)
        )

    def bytes_of(self, name: str) -> int:
        """Bytes of a tensor for one image and one step."""
        return _bytes(self.shapes.get(name, ())) // (2 if name in self.narrow else 1)

    @property
    def answers(self) -> tuple[str, ...]:
        """Tensors of the units and the head that the tail or the caller reads."""
        wanted = [*(self.tail.inputs if self.tail else ()), *self.outputs]
        made = set(self.tail.outputs) if self.tail else set()
        return tuple(dict.fromkeys(name for name in wanted if name not in made))


def tensor_shape(value: onnx.ValueInfoProto) -> Shape:
    """Shape with numbers and symbols; an unknown dimension is ``?``."""
    return tuple(
        dimension.dim_value if dimension.HasField("dim_value") else dimension.dim_param or "?"
        for dimension in value.type.tensor_type.shape.dim
    )


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of an initializer of 32-bit numbers."""
    return FLOAT_BYTES * math.prod(int(size) for size in tensor.dims)


def _bytes(shape: Shape) -> int:
    """Bytes of a float32 tensor without its batch axis."""
    return FLOAT_BYTES * math.prod(size for size in shape if isinstance(size, int))


def last_uses(plan: Plan) -> dict[str, int]:
    """Index of the last unit that reads each tensor; answers are kept to the end."""
    uses: dict[str, int] = {}
    for index, unit in enumerate(plan.units):
        uses.update(dict.fromkeys(unit.reads, index))
    uses.update(dict.fromkeys(plan.answers, len(plan.units)))
    return uses


__all__ = [
    "BATCH",
    "Plan",
    "Segment",
    "Shape",
    "Share",
    "Stateful",
    "tensor_shape",
]
