"""Cuts a spiking network into static head, linear segments between stateful operators, and tail.

Every tensor has a level: the number of stateful operators on the longest way to it. Level 0 is the
head, constant for a constant image. Stateless nodes of one level form one segment, which runs on
all timesteps of a chunk as one batch. The tail is what no stateful operator can be reached from.
"""

from collections.abc import Collection, Sequence
from typing import Any

import onnx

from onnx2snn_runtime.files.beside import array_of
from onnx2snn_runtime.files.wiring import node_reads
from onnx2snn_runtime.format import DOMAIN, NEXT
from onnx2snn_runtime.neurons import parse_node
from onnx2snn_runtime.ops.behaviour import is_affine
from onnx2snn_runtime.planning.plan import Plan, Segment, Shape, Stateful, last_uses, tensor_shape
from onnx2snn_runtime.planning.spiking_checks import check_spiking
from onnx2snn_runtime.planning.spiking_shapes import with_shapes
from onnx2snn_runtime.planning.weighted import is_weighted, tensors_of_values, values_at_weights
from onnx2snn_runtime.planning.whole_inputs import with_float_inputs

FLOAT = onnx.TensorProto.FLOAT


def make_plan(model: onnx.ModelProto) -> Plan:
    """Cut a spiking network into the parts that the engine runs.

    Raises:
        ModelError: the model is not a spiking network as `check_spiking` expects it.
    """
    return plan_of(accepted(model))


def accepted(model: onnx.ModelProto) -> onnx.ModelProto:
    """A spiking network that has been checked, with inputs of floats and all shapes stated.

    Raises:
        ModelError: the model is not a spiking network as `check_spiking` expects it.
    """
    model = with_float_inputs(model)
    check_spiking(model)
    return with_shapes(model)


def plan_of(model: onnx.ModelProto) -> Plan:
    """The plan of a network that has been `accepted`."""
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
        graded, sums = self.values([node for i, node in enumerate(nodes) if i not in tail_nodes])
        units: list[Segment | Stateful] = []
        highest = max(levels.values(), default=0)
        head = None
        for level in range(highest + 1):
            members = [
                i for i, node in enumerate(nodes)
                if node.domain != DOMAIN and levels[i] == level and i not in tail_nodes
            ]  # fmt: skip
            if members:
                segment = self.segment(level, members, *((graded, sums) if level else ()))
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

    def values(self, nodes: Sequence[onnx.NodeProto]) -> tuple[set[str], set[str]]:
        """Outputs of nodes that are not affine in what moves, and values that meet weights."""
        graded = {node.output[0] for node in nodes if self.is_nonlinear(node)}

        def sends_values(node: onnx.NodeProto) -> bool | None:
            if node.domain == DOMAIN or not self.moving(node):
                return False
            weighted = is_weighted(node, self.initializers)
            return weighted or node.output[0] in graded or None

        values = tensors_of_values(nodes, sends_values)
        sums = values_at_weights(nodes, self.initializers, values)
        return set(filter(self.is_batch, graded)), set(filter(self.is_batch, sums))

    def is_nonlinear(self, node: onnx.NodeProto) -> bool:
        """Whether a stateless node is not affine in what moves."""
        moving = self.moving(node)
        return node.domain != DOMAIN and bool(moving) and not is_affine(node, moving, self.is_float)

    def moving(self, node: onnx.NodeProto) -> list[int]:
        """Indices of the inputs that change from step to step."""
        return [i for i, name in enumerate(node.input) if self.level_of.get(name, 0) > 0]

    def is_batch(self, name: str) -> bool:
        """Whether a tensor holds images along its first axis, N or k·N."""
        return isinstance(next(iter(self.shapes.get(name, ())), None), str)

    def is_float(self, name: str) -> bool:
        """Whether a tensor is float32, or nothing is known about it."""
        return self.types.get(name, FLOAT) in (FLOAT, 0)

    def segment(
        self,
        level: int,
        members: Sequence[int],
        graded: Collection[str] = (),
        sums: Collection[str] = (),
    ) -> Segment:
        """The stateless nodes with these indices as a model of their own."""
        chosen = set(members)
        nodes = [self.graph.node[i] for i in members]
        made = {name for node in nodes for name in node.output if name}
        read = {name for node in nodes for name in node_reads(node)}
        inputs = sorted(read - made - self.initializers.keys() - {""})
        outside = {
            name
            for i, node in enumerate(self.graph.node)
            if i not in chosen
            for name in node_reads(node)
        } | set(self.outputs)
        graded, sums = sorted(made.intersection(graded)), sorted(made.intersection(sums))
        outputs = sorted((made & outside).union(graded, sums))
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
        return Segment(level, tuple(inputs), tuple(outputs), model, tuple(graded), tuple(sums))

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
