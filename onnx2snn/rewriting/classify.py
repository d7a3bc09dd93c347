"""Places every node of a normalised network: head, linear, neuron, pooling, graded or tail.

Head and tail are cut at neurons. What depends only on the image before the first neuron is constant
and belongs to the head; what no neuron can be reached from belongs to the tail and sees means.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import numpy as np
import onnx
from onnx import NodeProto

from onnx2snn.passes.check_operators import ORIGINAL, unsupported
from onnx2snn_runtime.errors import Finding, UnsupportedError
from onnx2snn_runtime.neurons import ACTIVATIONS
from onnx2snn_runtime.nodes import attributes_of
from onnx2snn_runtime.ops import OPERATORS, Call, Law
from onnx2snn_runtime.ops.behaviour import WEIGHTED, is_affine
from onnx2snn_runtime.ops.windows import make_windows
from onnx2snn_runtime.planning.plan import tensor_shape
from onnx2snn_runtime.planning.weighted import is_weighted, tensors_of_values, values_at_weights

QUANTISED = (
    "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear",
    "QuantizeLinear", "DequantizeLinear",
)  # fmt: skip


class Role(Enum):
    """What becomes of a node."""

    HEAD = "head"
    LINEAR = "linear"
    NEURON = "neuron"
    POOL = "pool"
    GRADED = "graded"
    TAIL = "tail"


@dataclass(frozen=True)
class Placed:
    """A node with its role and the indices of the inputs that move over time."""

    node: NodeProto
    role: Role
    moving: tuple[int, ...]


def values_met(model: onnx.ModelProto, placed: Iterable[Placed], *, pools: bool) -> set[str]:
    """Tensors between neurons that bring values to weights: sums over weights, graded outputs.

    Args:
        model: the network.
        placed: its nodes.
        pools: whether pooling hands on values, as in the refining code.
    """
    weights = {item.name: item for item in model.graph.initializer}
    roles = {item.node.name: item.role for item in placed}

    def sends_values(node: NodeProto) -> bool | None:
        role = roles[node.name]
        if role is Role.LINEAR:
            return is_weighted(node, weights) or None
        if role is Role.POOL:
            return pools or None
        return role is Role.GRADED

    body = [item.node for item in placed if item.role is not Role.TAIL]
    return values_at_weights(body, weights, tensors_of_values(body, sends_values))


def classify(
    model: onnx.ModelProto, *, strict: bool = False, allow_analog: bool = False
) -> list[Placed]:
    """Place every node of a normalised model, in its order.

    Args:
        model: normalised network.
        strict: refuse graded operators.
        allow_analog: accept a network in which nothing spikes.

    Raises:
        UnsupportedError: with all nodes that cannot be converted.
    """
    return _Classifier(model).place(strict=strict, allow_analog=allow_analog)


class _Classifier:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.constants = {item.name for item in model.graph.initializer}
        self.moving = {value.name for value in model.graph.input} - self.constants
        for node in self.nodes:
            shape_only = node.op_type in OPERATORS and OPERATORS[node.op_type].law is Law.SHAPE
            if not shape_only and any(name in self.moving for name in node.input):
                self.moving.update(name for name in node.output if name)
        graph = model.graph
        values = [*graph.value_info, *graph.input, *graph.output]
        self.types = {value.name: value.type.tensor_type.elem_type for value in values}
        self.shapes = {value.name: tensor_shape(value) for value in values}
        self.read = {name for node in self.nodes for name in node.input}
        self.outputs = [value.name for value in graph.output]
        self.read.update(self.outputs)
        self.changing: set[str] = set()  # from step to step
        self.findings: list[Finding] = []

    def place(self, *, strict: bool, allow_analog: bool) -> list[Placed]:
        self.refuse_constant_outputs()
        weights_after = self.backward(i for i, n in enumerate(self.nodes) if self.weighted(n))
        weights_before = self.forward(i for i, n in enumerate(self.nodes) if self.weighted(n))
        neurons = {
            i
            for i, node in enumerate(self.nodes)
            if self.is_neuron(node, before=i in weights_before, after=i in weights_after)
        }
        after_neuron, before_neuron = self.forward(neurons), self.backward(neurons)
        for i in neurons | after_neuron:
            self.changing.update(self.nodes[i].output)
        placed = []
        for i, node in enumerate(self.nodes):
            self.check_anywhere(node)
            moving = tuple(k for k, name in enumerate(node.input) if name in self.moving)
            if i in neurons:
                role = Role.NEURON
            elif i not in after_neuron or not moving:
                role = Role.HEAD
            elif i not in before_neuron:
                role = Role.TAIL
            else:
                role = self.body_role(node, moving)
                if strict and role is Role.GRADED:
                    self.refuse(node, "it would send graded values, not spikes (--strict)",
                                "leave out --strict, or replace the operator")  # fmt: skip
            placed.append(Placed(node, role, moving))
        if not neurons and not allow_analog and not self.findings:
            raise UnsupportedError(
                "nothing in this network would spike: it has no activation between layers",
                advice="convert a network with ReLU-like activations, or give --allow-analog",
            )
        if self.findings:
            raise unsupported(self.findings)
        return placed

    def refuse_constant_outputs(self) -> None:
        """What does not depend on the input has no row for each image, and no spike reaches it."""
        findings = [
            Finding("it does not depend on the input",
                    "leave it out: onnx.utils.extract_model", tensor=name)
            for name in self.outputs if name in self.constants
        ]  # fmt: skip
        if findings:
            raise UnsupportedError("the model has outputs that are constant", findings)

    def weighted(self, node: NodeProto) -> bool:
        return node.op_type in WEIGHTED and any(name in self.moving for name in node.input)

    def is_neuron(self, node: NodeProto, *, before: bool, after: bool) -> bool:
        """An activation that spikes: a rectifier anywhere, any other between weights."""
        if node.op_type not in ACTIVATIONS or node.input[0] not in self.moving:
            return False
        if any(name in self.moving for name in node.input[1:]):
            return False
        if node.op_type == "Clip" and len([name for name in node.input if name]) < 3:
            return False
        return ACTIVATIONS[node.op_type].rectifier or (before and after)

    def forward(self, sources: Iterable[int]) -> set[int]:
        """Nodes strictly behind these nodes."""
        start = {name for i in sources for name in self.nodes[i].output if name}
        found = set()
        for i, node in enumerate(self.nodes):
            if any(name in start for name in node.input):
                found.add(i)
                start.update(name for name in node.output if name)
        return found

    def backward(self, sources: Iterable[int]) -> set[int]:
        """Nodes strictly before these nodes."""
        start = {name for i in sources for name in self.nodes[i].input if name}
        found = set()
        for i in reversed(range(len(self.nodes))):
            if any(name in start for name in self.nodes[i].output):
                found.add(i)
                start.update(name for name in self.nodes[i].input if name)
        return found

    def check_anywhere(self, node: NodeProto) -> None:
        """What no role makes up for; it is refused before anything is run."""
        if any(attribute.HasField("g") for attribute in node.attribute):
            self.refuse(node, "control flow that does not fold to a constant",
                        "export the model without data-dependent control flow")  # fmt: skip
        elif "Sequence" in node.op_type and node.op_type != "ReverseSequence":
            self.refuse(node, "a sequence of tensors",
                        "export with tensors: torch.stack or torch.cat")  # fmt: skip
        elif node.op_type == "MaxPool":
            self.check_windows(node)
        elif node.op_type in WEIGHTED and 0 in self.shapes.get(node.output[0], ()):
            self.refuse(node, "it makes a tensor without elements",
                        "leave it out, or mend the Slice in front of it")  # fmt: skip

    def check_windows(self, node: NodeProto) -> None:
        """The maximum of a window without elements is −∞, which no spikes can tell."""
        attributes, shape = attributes_of(node), self.shapes.get(node.input[0], ())
        sizes = [size for size in shape[2:] if isinstance(size, int)]
        kernel = attributes.get("kernel_shape", [])
        if "auto_pad" in attributes or not sizes or len(sizes) != len(kernel):
            return
        call = Call(np, attributes, 0)
        if make_windows(call, sizes, kernel, bool(call.get("ceil_mode", 0))).has_empty(sizes):
            self.refuse(node, f"a window holds no element of a map of {'×'.join(map(str, sizes))}",
                        "pool with less padding or dilation")  # fmt: skip

    def body_role(self, node: NodeProto, moving: tuple[int, ...]) -> Role:
        """Role of a node between neurons."""
        entry = OPERATORS.get(node.op_type)
        if entry is not None and entry.law is Law.SHAPE:
            return Role.LINEAR  # a shape that depends on the batch only
        whole = {k for k in moving if not self.is_float(node.input[k])}
        varying = [k for k in moving if k not in whole or node.input[k] in self.changing]
        is_linear = entry is not None and is_affine(node, varying, self.is_float)
        if node.op_type in QUANTISED:
            self.refuse(node, "it computes in quantised numbers", ORIGINAL)
        elif any(name in self.read for name in node.output[1:] if name) and node.op_type != "Split":
            self.refuse(node, "it has several outputs and is not linear",
                        "use an operator with one output")  # fmt: skip
        elif not all(self.is_float(name) for name in node.output) or (whole and not is_linear):
            self.refuse(node, "a tensor between spiking layers is not float",
                        "integers and booleans may stand in front of the first neuron or behind "
                        "the last one only")  # fmt: skip
        if is_linear:
            return Role.LINEAR
        if entry is None:
            return Role.GRADED
        homogeneous = entry.law is Law.MAXIMUM and self.all_move(node, moving)
        return Role.POOL if homogeneous else Role.GRADED

    def is_float(self, name: str) -> bool:
        """Whether a tensor is float32, or nothing is known about it."""
        return self.types.get(name, onnx.TensorProto.FLOAT) in (onnx.TensorProto.FLOAT, 0)

    def all_move(self, node: NodeProto, moving: tuple[int, ...]) -> bool:
        """Whether a maximum has no constant among its operands (axes are no operands)."""
        return node.op_type != "Max" or len(moving) == len(node.input)

    def refuse(self, node: NodeProto, why: str, advice: str) -> None:
        self.findings.append(Finding(why, advice, node.name, node.op_type))
