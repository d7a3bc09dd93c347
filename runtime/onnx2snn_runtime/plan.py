"""Cuts a spiking network into static head, linear segments between stateful operators, and tail.

Every tensor has a level: the number of stateful operators on the longest way to it. Level 0 is the
head, constant for a constant image. Stateless nodes of one level form one segment, which runs on
all timesteps of a chunk as one batch. The tail is what no stateful operator can be reached from.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import onnx

from onnx2snn_runtime.beside import array_of
from onnx2snn_runtime.format import BATCH, DOMAIN, NEXT
from onnx2snn_runtime.neurons import StatefulOperator, parse_node
from onnx2snn_runtime.ops.behaviour import is_affine
from onnx2snn_runtime.schedule import Footprint
from onnx2snn_runtime.spiking_checks import check_spiking

Shape = tuple[int | str, ...]
FLOAT_BYTES = 4
FLOAT = onnx.TensorProto.FLOAT


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
    """

    level: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    model: onnx.ModelProto
    graded: tuple[str, ...] = ()

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
            states, peak, sum(sizes) // len(sizes), sum(weights) // max(1, len(weights) - 1)
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


def make_plan(model: onnx.ModelProto) -> Plan:
    """Cut a spiking network into the parts that the engine runs.

    Raises:
        ModelError: the model is not a spiking network as `check_spiking` expects it.
    """
    check_spiking(model)
    return _Planner(model).plan()


class _Planner:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.graph = model.graph
        self.initializers = {item.name: item for item in self.graph.initializer}
        output_names = [output.name for output in self.graph.output]
        self.states = {
            value.name: tensor_shape(value)
            for value in self.graph.input
            if value.name + NEXT in output_names and value.name not in self.initializers
        }
        following = {name + NEXT for name in self.states}
        self.outputs = tuple(name for name in output_names if name not in following)
        self.inputs = {
            value.name: tensor_shape(value)
            for value in self.graph.input
            if value.name not in self.states and value.name not in self.initializers
        }
        self.opset = next((item.version for item in model.opset_import if not item.domain), 18)
        self.level_of: dict[str, int] = {}
        self.types = {
            value.name: value.type.tensor_type.elem_type
            for value in [*self.graph.value_info, *self.graph.input, *self.graph.output]
        }
        self.shapes = self.infer_shapes()

    def infer_shapes(self) -> dict[str, Shape]:
        """Shapes of all tensors, as far as the file or inference tells them."""
        known = [*self.graph.input, *self.graph.output, *self.graph.value_info]
        shapes = {value.name: tensor_shape(value) for value in known}
        shapes.update({name: tuple(item.dims) for name, item in self.initializers.items()})
        return shapes

    def plan(self) -> Plan:
        """The whole plan."""
        levels, tail_nodes = self.place()
        nodes = self.graph.node
        units: list[Segment | Stateful] = []
        highest = max(levels.values(), default=0)
        head = None
        for level in range(highest + 1):
            members = [
                i for i, node in enumerate(nodes)
                if node.domain != DOMAIN and levels[i] == level and i not in tail_nodes
            ]  # fmt: skip
            if members:
                segment = self.segment(level, members, self.graded(members) if level else ())
                if level == 0:
                    head = segment
                else:
                    units.append(segment)
            for i, node in enumerate(nodes):
                if node.domain == DOMAIN and levels[i] == level and not self.is_clock(node):
                    units.append(self.stateful(node, level))
        tail = self.segment(highest + 1, sorted(tail_nodes)) if tail_nodes else None
        plan = Plan(self.inputs, self.outputs, head, tuple(units), tail, self.opset, self.shapes)
        plan.last_use.update(last_uses(plan))
        return plan

    @staticmethod
    def is_clock(node: onnx.NodeProto) -> bool:
        """Whether the node counts the steps."""
        return node.op_type == "Tick"

    def place(self) -> tuple[dict[int, int], set[int]]:
        """Level of every node, and the nodes of the tail, by index."""
        level_of = self.level_of
        levels: dict[int, int] = {}
        nodes = self.graph.node
        for i, node in enumerate(nodes):
            level = max((level_of.get(name, 0) for name in node.input), default=0)
            levels[i] = level
            raised = node.domain == DOMAIN and not self.is_clock(node)
            level_of.update(dict.fromkeys(node.output, level + raised))
        reaches: set[str] = set()
        tail = set()
        for i in reversed(range(len(nodes))):
            node = nodes[i]
            if node.domain == DOMAIN or any(name in reaches for name in node.output):
                reaches.update(node.input)
            elif levels[i] > 0:
                tail.add(i)
        # what only the tail reads of the head may stay in the head: it is computed once
        return levels, tail

    def graded(self, members: Sequence[int]) -> tuple[str, ...]:
        """Outputs of those nodes that are not affine in what moves."""
        found = []
        for node in (self.graph.node[i] for i in members):
            moving = [i for i, name in enumerate(node.input) if self.level_of.get(name, 0) > 0]
            batched = self.shapes.get(node.output[0], ())[:1] == (BATCH,)
            if moving and batched and not is_affine(node, moving, self.is_float):
                found.append(node.output[0])
        return tuple(found)

    def is_float(self, name: str) -> bool:
        """Whether a tensor is float32, or nothing is known about it."""
        return self.types.get(name, FLOAT) in (FLOAT, 0)

    def segment(self, level: int, members: Sequence[int], graded: tuple[str, ...] = ()) -> Segment:
        """The stateless nodes with these indices as a model of their own."""
        chosen = set(members)
        nodes = [self.graph.node[i] for i in members]
        made = {name for node in nodes for name in node.output if name}
        read = {name for node in nodes for name in reads_of(node)}
        inputs = sorted(read - made - self.initializers.keys() - {""})
        outside = {
            name
            for i, node in enumerate(self.graph.node)
            if i not in chosen
            for name in reads_of(node)
        } | set(self.outputs)
        outputs = sorted((made & outside) | set(graded))
        weights = [item for name, item in self.initializers.items() if name in read]
        graph = onnx.helper.make_graph(
            nodes,
            f"segment_{level}",
            [self.value(name) for name in inputs],
            [self.value(name) for name in outputs],
            weights,
        )
        opsets = [item for item in self.model.opset_import if item.domain != DOMAIN]
        model = onnx.helper.make_model(
            graph, opset_imports=opsets, ir_version=self.model.ir_version
        )
        return Segment(level, tuple(inputs), tuple(outputs), model, graded)

    def value(self, name: str) -> onnx.ValueInfoProto:
        """Type and shape of a tensor at the border of a segment."""
        shape = self.shapes.get(name)
        element = self.types.get(name, FLOAT) or FLOAT
        return onnx.helper.make_tensor_value_info(name, element, shape)

    def stateful(self, node: onnx.NodeProto, level: int) -> Stateful:
        """The stateful operator that a node describes."""
        operator = parse_node(node)
        names = list(node.input)
        base, rest = names[: operator.signature.inputs], names[operator.signature.inputs :]
        stored = {name: self.constant(rest.pop(0)) for name in operator.stored}
        if operator.needs_step:
            rest.pop(0)
        constants = {
            index: self.constant(name)
            for index, name in enumerate(base)
            if index not in operator.signature.moving
        }
        operator.constant_types.update(
            (index, self.initializers[base[index]].data_type) for index in constants
        )
        return Stateful(
            name=node.name,
            operator=operator,
            inputs=tuple(base),
            constants=constants,
            threshold=stored.get("threshold"),
            starts={
                rest[operator.state_names.index(state)]: stored[name]
                for state, name in operator.starts.items()
            },
            states=tuple(rest),
            state_shapes=tuple(self.states[name] for name in rest),
            output=node.output[0],
            level=level,
        )

    def constant(self, name: str) -> Any:
        """The array of an initializer that a stateful node reads."""
        return array_of(self.initializers[name])


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


def reads_of(node: onnx.NodeProto) -> list[str]:
    """Tensors that a node, or a graph inside it, reads."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        if attribute.HasField("g"):
            for inner in attribute.g.node:
                names.extend(reads_of(inner))
    return names


__all__ = [
    "BATCH",
    "Plan",
    "Segment",
    "Shape",
    "Share",
    "Stateful",
    "make_plan",
    "reads_of",
    "tensor_shape",
]
