"""What all operators with a state have in common: parsing, base function, registry of families."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
from onnx import FunctionProto, ModelProto, NodeProto, TensorProto, helper

from onnx2snn_runtime.errors import ModelError
from onnx2snn_runtime.neurons.activations import ACTIVATIONS, Activation
from onnx2snn_runtime.neurons.body import Body

Array = Any
Evaluate = Callable[[Sequence[Array]], Array]
"""Applies the base function f of an operator: arrays of its inputs to its output."""

FAMILIES: dict[str, type["StatefulOperator"]] = {}


def family(name: str) -> Callable[[type["StatefulOperator"]], type["StatefulOperator"]]:
    """Register a class for nodes whose attribute ``family`` is ``name``."""

    def register(operator_class: type["StatefulOperator"]) -> type["StatefulOperator"]:
        if name in FAMILIES:
            raise ValueError(f"family {name} is registered twice")
        operator_class.family = name
        FAMILIES[name] = operator_class
        return operator_class

    return register


@dataclass(frozen=True)
class Signature:
    """What distinguishes one model-local function from another.

    Attributes:
        op: base operator f, for example ``Relu``, ``MaxPool`` or ``Mul``.
        inputs: number of inputs of f.
        moving: indices of the inputs of f that change over time; the others are constants.
    """

    op: str
    inputs: int = 1
    moving: tuple[int, ...] = (0,)


class Range(NamedTuple):
    """Where a number of a law must lie, ends included."""

    low: float
    high: float
    whole: bool = False

    def fault(self, name: str, value: Any) -> str:
        """What is wrong with a value, empty if nothing."""
        kind = "a whole number" if self.whole else "a number"
        is_inside = isinstance(value, int | float) and self.low <= value <= self.high
        if is_inside and (not self.whole or float(value).is_integer()):
            return ""
        return f"{name} must be {kind} in {self.low:g}..{self.high:g}, found {str(value)[:40]}"


class Place(NamedTuple):
    """Where outputs are to be written: columns of a larger array.

    Attributes:
        rows: the array, float32 [C,N,D].
        first: the first column.
    """

    rows: Array
    first: int


@dataclass
class Chunk:
    """Everything an operator sees of C timesteps of N images.

    Attributes:
        inputs: inputs of f; moving ones [C,N,*], constants as they are in the file.
        threshold: threshold broadcastable to [N,*], in units of the ANN's activation, or None.
        states: one array per state, [N,*]; after the chunk, new or changed arrays stand here.
        begins: what each state begins with, broadcastable to [N,*] or None for zero, where the
            arrays hold nothing yet; None where they hold the states. Only given to laws that know
            of it; `begin` does it for the others.
        first_step: number t of the first step of the chunk, from 1.
        evaluate: the base function f.
        counts: filled with spike counts [C,N,*] by spiking operators when ``record`` is set.
        reusable: nobody reads the input afterwards: the outputs may be written into its memory.
        block: channels that lie side by side in memory (see ``blocks``), 1 where none do.
        place: where the outputs are to be written, if not to an array of their own; only given to
            laws that know of it.
        scale: factor of the first input, broadcastable to [N,*] with one image, or None.
        bias: what is added to it then, likewise.
        residual: a second signal [C,N,*], added last: (x · scale + bias) + residual; or None.
        sends: type of the outputs, or None for that of the input; int8 stands for spike counts.

    The last four are for backends that say they take them (``Backend.fuses``, ``narrows``): the
    laws as they are written know nothing of them.
    """

    inputs: list[Array]
    threshold: Array | None
    states: list[Array]
    first_step: int
    evaluate: Evaluate
    begins: list[Array | None] | None = None
    record: bool = False
    counts: Array | None = field(default=None)
    reusable: bool = False
    block: int = 1
    place: Place | None = None
    scale: Array | None = None
    bias: Array | None = None
    residual: Array | None = None
    sends: Any = None

    def begin(self) -> None:
        """Fill states that hold nothing yet with what they begin with, in a pass of its own."""
        if self.begins is None:
            return
        for state, start in zip(self.states, self.begins, strict=True):
            state[...] = 0 if start is None else start
        self.begins = None

    def join(self) -> None:
        """Make the first input what a law as written takes, in passes of their own."""
        x = self.inputs[0]
        if x.dtype == np.float16:
            x = x.astype(np.float32)
        x = x if self.scale is None else x * self.scale
        x = x if self.bias is None else x + self.bias
        x = x if self.residual is None else x + self.residual
        self.inputs[0] = x
        self.scale = self.bias = self.residual = self.sends = None


class StatefulOperator(ABC):
    """A node of the domain ``ai.onnx2snn``.

    Function inputs, in order: inputs of f, ``stored`` ones such as the threshold, ``step.next``
    (where t is needed), states. Outputs: y, then the next value of each state.
    """

    family: ClassVar[str]
    spiking: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False  # every neuron by itself, wherever it lies in memory
    is_readout: ClassVar[bool] = False  # stands at the edge into the tail, is no layer
    sends_counts: ClassVar[bool] = False  # y is the spike count, not the count times the threshold
    sends_estimates: ClassVar[bool] = False  # y is all that was sent so far
    starts: ClassVar[Mapping[str, str]] = {}  # state to the stored input that it begins with
    state_type: ClassVar[int] = TensorProto.FLOAT
    activations: ClassVar[tuple[str, ...]] = ()  # that a spiking law knows; empty: all
    parameters: ClassVar[Mapping[str, Range]] = {}  # in the order in which the law takes them

    def __init__(self, signature: Signature, attributes: dict[str, Any] | None = None) -> None:
        self.signature = signature
        self.attributes = attributes or {}
        self.constant_types: dict[int, int] = {}  # element types of constant inputs, by index

    @property
    def activation(self) -> Activation:
        """Registry entry of f; an unknown function has no known range and is not homogeneous."""
        return ACTIVATIONS.get(self.signature.op, Activation(self.signature.op))

    @property
    def needs_step(self) -> bool:
        """Whether the law depends on t."""
        return not self.activation.homogeneous

    @property
    def stored(self) -> tuple[str, ...]:
        """Names of the inputs that are constants of the law, one number or one per neuron."""
        return (*(("threshold",) if self.spiking else ()), *self.starts.values())

    @property
    def expected_moving(self) -> tuple[int, ...]:
        """Inputs of f that change over time, of a law that spikes."""
        return (0,)

    def faults(self) -> Iterator[str]:
        """What is wrong with the numbers of a node that a file describes."""
        for name, allowed in self.parameters.items():
            why = allowed.fault(name, self.attributes[name])
            if why:
                yield why
        moving = self.signature.moving
        is_other = self.spiking and moving != self.expected_moving
        if not moving or len(set(moving)) < len(moving) or is_other:
            yield f"moving {list(moving)} does not fit the law"

    def state_sources(self, node: NodeProto) -> list[str]:
        """For every state the tensor of the node that has its shape."""
        return [node.output[0]] * len(self.state_names)

    @property
    @abstractmethod
    def state_names(self) -> tuple[str, ...]:
        """Suffixes of the states, in order."""

    @abstractmethod
    def write_law(self, body: Body, function_inputs: list[str]) -> None:
        """Write the law of one step into ``body``, making ``y`` and ``<state>_next``."""

    @abstractmethod
    def scan(self, xp: Any, chunk: Chunk) -> Array:
        """All steps of a chunk: returns y [C,N,*] and updates ``chunk.states``."""

    @property
    def function_name(self) -> str:
        """Name of the model-local function."""
        return self.family + self.signature.op + signature_suffix(self.signature)

    def base_inputs(self) -> list[str]:
        """Names of the inputs in front of the stored ones inside the function."""
        return [
            "x" if self.signature.inputs == 1 else f"x{i}" for i in range(self.signature.inputs)
        ]

    def inputs_of_base(self) -> list[str]:
        """Those of them that f itself sees."""
        return self.base_inputs()

    def function(self, opset: int) -> FunctionProto:
        """The model-local function that computes one step in standard operators."""
        inputs = [*self.base_inputs(), *self.stored]
        if self.needs_step:
            inputs.append("step")
        inputs.extend(self.state_names)
        body = Body(opset)
        self.write_law(body, inputs)
        outputs = ["y", *(f"{state}_next" for state in self.state_names)]
        attributes = ["family", "op", "moving", *self.parameters, *self.base_attributes(opset)]
        description = (self.__doc__ or "").strip().splitlines()[0]
        return body.function(self.function_name, inputs, outputs, attributes, description)

    def base_attributes(self, opset: int) -> list[str]:
        """Attributes of f that the function's node hands on."""
        return self.activation.attributes(opset)

    def write_base(self, body: Body, inputs: list[str]) -> str:
        """Write f itself into ``body``."""
        return self.activation.write(body, inputs)

    def base_model(self, opset: int) -> ModelProto:
        """f alone as a model, for backends that run it on many steps at once."""
        inputs = self.inputs_of_base()
        body = Body(opset)
        result = self.write_base(body, inputs)
        for node in body.nodes:
            resolved = []
            for attribute in node.attribute:
                if not attribute.ref_attr_name:
                    resolved.append(attribute)
                elif attribute.ref_attr_name in self.attributes:
                    value = self.attributes[attribute.ref_attr_name]
                    resolved.append(helper.make_attribute(attribute.name, value))
            del node.attribute[:]
            node.attribute.extend(resolved)
        graph = helper.make_graph(
            body.nodes,
            self.function_name,
            [
                helper.make_tensor_value_info(
                    name, self.constant_types.get(index, TensorProto.FLOAT), None
                )
                for index, name in enumerate(inputs)
            ],
            [helper.make_tensor_value_info(result, TensorProto.FLOAT, None)],
        )
        opsets = [helper.make_opsetid("", opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def signature_suffix(signature: Signature) -> str:
    """Empty for the usual case that every input of f moves, else says which do."""
    unary = signature.moving == (0,) and signature.op in ACTIVATIONS
    if unary or (signature.inputs == 1 and signature.moving == (0,)):
        return ""
    moving = "".join(str(index) for index in signature.moving)
    return f"_{moving}of{signature.inputs}"


def parse_node(node: NodeProto) -> StatefulOperator:
    """The operator that a node of our domain describes.

    Raises:
        ModelError: the node is of an unknown family or lacks an attribute.
    """
    attributes = _decoded(node)
    name = attributes.pop("family", "")
    if not isinstance(name, str) or name not in FAMILIES:
        raise ModelError(
            f"node {node.name!r} ({node.domain}::{node.op_type}) has no known family: {name!r}",
            advice="the file was written by a newer onnx2snn, or was changed",
        )
    try:
        moving = tuple(int(index) for index in attributes.pop("moving"))
        op = str(attributes.pop("op"))
    except KeyError as missing:
        raise ModelError(f"node {node.name!r} lacks the attribute {missing}") from None
    except (TypeError, ValueError):
        raise ModelError(f"node {node.name!r}: moving must be a list of numbers") from None
    operator_class = FAMILIES[name]
    lacking = [item for item in operator_class.parameters if item not in attributes]
    if lacking:
        raise ModelError(f"node {node.name!r} lacks the attributes {', '.join(lacking)}")
    trial = operator_class(Signature(op, 1, moving), attributes)
    extra = len(trial.state_names) + len(trial.stored) + int(trial.needs_step)
    inputs = len(node.input) - extra
    if inputs < 1 or any(not 0 <= index < inputs for index in moving):
        raise ModelError(f"node {node.name!r} has {len(node.input)} inputs, too few for {name}")
    return operator_class(Signature(op, inputs, moving), attributes)


def _decoded(node: NodeProto) -> dict[str, Any]:
    """The attributes of a node by name."""
    attributes: dict[str, Any] = {}
    for item in node.attribute:
        if item.name in attributes:
            raise ModelError(f"node {node.name!r} has the attribute {item.name!r} twice")
        try:
            attributes[item.name] = _plain(helper.get_attribute_value(item))
        except ValueError as problem:
            raise ModelError(f"node {node.name!r}: {item.name!r}: {problem}") from problem
    return attributes


def _plain(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


__all__ = [
    "FAMILIES",
    "Array",
    "Chunk",
    "Evaluate",
    "Place",
    "Range",
    "Signature",
    "StatefulOperator",
    "family",
    "parse_node",
]
