"""Which nodes work on whole numbers, and which cannot: found before any number is rounded."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import onnx
from onnx import NodeProto

from onnx2snn.integer.registry import MOVES, RULES
from onnx2snn.rewriting.classify import Placed, Role
from onnx2snn_runtime.errors import Finding
from onnx2snn_runtime.neurons.integer import IntegerIF
from onnx2snn_runtime.ops import OPERATORS, Law
from onnx2snn_runtime.ops.behaviour import WEIGHTED, is_affine

# In front of the first weights these stay in float: they round alike on every engine, if at all.
IN_FRONT = (*MOVES, "Add", "Sub", "Mul", "Div", "Neg", "Concat", "Pad", "Clip")
FLOAT_ADVICE = "leave out --precision int8"


@dataclass
class Roles:
    """What becomes of the nodes of a float network.

    Attributes:
        placed: the nodes; affine nodes and poolings of the tail that can are moved to the body.
        front: indices of the nodes that stay in float in front of the whole numbers.
        quantised: tensors that become whole numbers, in order.
        readouts: tensors in whole numbers that become answers or are read by the float tail.
        findings: nodes that have no integer form.
    """

    placed: list[Placed]
    front: set[int] = field(default_factory=set)
    quantised: list[str] = field(default_factory=list)
    readouts: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def layers(self) -> list[str]:
        """Output tensors of neurons and poolings."""
        return [
            item.node.output[0] for item in self.placed if item.role in (Role.NEURON, Role.POOL)
        ]


def place(network: onnx.ModelProto, placed: list[Placed]) -> Roles:
    """Sort the nodes; findings stand in the result."""
    return _Placer(network, placed).run()


class _Placer:
    def __init__(self, network: onnx.ModelProto, placed: list[Placed]) -> None:
        graph = network.graph
        values = [*graph.value_info, *graph.input, *graph.output]
        self.types = {value.name: value.type.tensor_type.elem_type for value in values}
        self.arrays = {item.name for item in graph.initializer}
        self.outputs = [value.name for value in graph.output]
        self.analog = {value.name for value in graph.input} - self.arrays
        self.whole: set[str] = set()
        self.roles = Roles([])
        self.given = placed

    def run(self) -> Roles:
        for index, item in enumerate(self.given):
            role = self.role(item)
            node = item.node
            self.roles.placed.append(Placed(node, role, item.moving))
            if role is Role.TAIL or not item.moving:
                self.refuse(item, role)
                continue
            if role is Role.HEAD and self.stays_in_front(item):
                self.roles.front.add(index)
                self.analog.update(node.output)
                continue
            self.roles.quantised += [
                name
                for name in dict.fromkeys(node.input)
                if name in self.analog and name not in self.roles.quantised
            ]
            self.refuse(item, role)
            self.whole.update(node.output)
        self.find_readouts()
        return self.roles

    def role(self, item: Placed) -> Role:
        """The tail goes on in whole numbers as far as it can."""
        moving = [item.node.input[k] for k in item.moving]
        if item.role is not Role.TAIL or not moving:
            return item.role
        if not all(name in self.whole | self.analog for name in moving):
            return Role.TAIL
        if item.node.op_type not in RULES:
            return Role.TAIL
        if OPERATORS[item.node.op_type].law is Law.MAXIMUM:
            return Role.POOL if len(moving) == len(item.node.input) else Role.TAIL
        return Role.LINEAR if is_affine(item.node, item.moving, self.is_float) else Role.TAIL

    def is_float(self, name: str) -> bool:
        return self.types.get(name, onnx.TensorProto.FLOAT) in (onnx.TensorProto.FLOAT, 0)

    def stays_in_front(self, item: Placed) -> bool:
        """Whether a node sees nothing but the image, and weighs nothing."""
        moving = [item.node.input[k] for k in item.moving]
        return item.node.op_type in IN_FRONT and all(name in self.analog for name in moving)

    def refuse(self, item: Placed, role: Role) -> None:
        """Note why a node has no integer form, where it has none."""
        for why, advice in self.reasons(item, role):
            self.roles.findings.append(Finding(why, advice, item.node.name, item.node.op_type))

    def reasons(self, item: Placed, role: Role) -> Iterator[tuple[str, str]]:
        node, op = item.node, item.node.op_type
        if not item.moving:
            return
        if role is Role.TAIL:
            if op in WEIGHTED:
                yield "weights behind an operator that is not linear", FLOAT_ADVICE
            if any(name in self.analog for name in node.input):
                yield "the tail reads the image itself", FLOAT_ADVICE
        elif role is Role.NEURON:
            if op not in IntegerIF.activations:
                yield (
                    "an activation that leaves the whole numbers",
                    "train with ReLU or ReLU6, or leave out --precision int8",
                )
        elif role is Role.GRADED:
            yield "it would send graded values, no whole numbers", FLOAT_ADVICE
        elif op not in RULES:
            yield why_not(node), FLOAT_ADVICE
        elif op in WEIGHTED and node.input[1] not in self.arrays:
            yield "its weights are computed", FLOAT_ADVICE

    def find_readouts(self) -> None:
        """Whole numbers that the float tail or the caller reads."""
        wanted = [
            name for item in self.roles.placed if item.role is Role.TAIL for name in item.node.input
        ]
        names = dict.fromkeys([*wanted, *self.outputs])
        self.roles.readouts = [name for name in names if name in self.whole]
        for item in self.roles.placed:
            if item.role is Role.HEAD and item.moving and set(item.node.output) & set(self.outputs):
                why = "an answer in front of the first neuron"
                self.roles.findings.append(
                    Finding(why, FLOAT_ADVICE, item.node.name, item.node.op_type)
                )


def why_not(node: NodeProto) -> str:
    """Why a linear operator between whole numbers is none of them."""
    if node.op_type == "Mean":
        return "it mixes signals by fractions"
    return "it has no form in whole numbers"
