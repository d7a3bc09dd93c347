"""What must hold for a spiking network before the runtime believes it.

A file may come from a stranger. The runtime computes the laws itself and never looks at the bodies
of the functions, so everything that it takes for granted is checked here: functions are those that
the converter writes, states pair and belong to one node each, numbers lie in their ranges, stated
shapes are those that follow from the weights. Every check returns all its findings.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import FunctionProto, NodeProto, TensorProto

from onnx2snn_runtime.errors import Finding, ModelError
from onnx2snn_runtime.files.beside import array_of
from onnx2snn_runtime.files.disk import shown
from onnx2snn_runtime.files.model_checks import stored_findings
from onnx2snn_runtime.files.wiring import is_sorted, node_reads
from onnx2snn_runtime.format import DOMAIN, NEXT, is_spiking, read_metadata
from onnx2snn_runtime.neurons import ACTIVATIONS, StatefulOperator, parse_node
from onnx2snn_runtime.neurons.integer import EXACT_LIMIT
from onnx2snn_runtime.planning.spiking_shapes import shape_findings

CLOCK = "Tick"
_STANDARD = ("", "ai.onnx")
_UNBOUNDED = ("Loop", "Scan")  # their number of steps is data
_CHANGED = "the file was changed or written by another version: convert the network again"


@dataclass
class Stated:
    """What a file says, by name.

    Attributes:
        model: the file.
        inputs: graph inputs.
        outputs: graph outputs.
        arrays: initializers.
        operators: index of a node of our domain to the law that it states.
    """

    model: onnx.ModelProto
    inputs: dict[str, onnx.ValueInfoProto] = field(init=False)
    outputs: dict[str, onnx.ValueInfoProto] = field(init=False)
    arrays: dict[str, onnx.TensorProto] = field(init=False)
    operators: dict[int, StatefulOperator] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph = self.model.graph
        self.inputs = {value.name: value for value in graph.input}
        self.outputs = {value.name: value for value in graph.output}
        self.arrays = {tensor.name: tensor for tensor in graph.initializer}

    @property
    def states(self) -> set[str]:
        """Graph inputs that have a following value among the outputs."""
        return {name for name in self.inputs if name + NEXT in self.outputs}

    @property
    def opset(self) -> int:
        """Version of the standard operators."""
        return next((i.version for i in self.model.opset_import if i.domain in _STANDARD), 0)


def check_spiking(model: onnx.ModelProto) -> None:
    """Refuse a file that is not a spiking network as the converter writes it.

    Args:
        model: a model that has passed `check_model`; it is not changed.

    Raises:
        ModelError: with one finding per fault of the first stage that has any.
    """
    if not is_spiking(model):
        raise ModelError(
            f"this is not a spiking network: it has no node of the domain {DOMAIN}",
            advice="convert it first: onnx2snn MODEL.onnx",
        )
    stated = Stated(model)
    _refuse(stored_findings(model))
    _refuse([*_graph_findings(stated), *_parse(stated)])
    _refuse([*_node_findings(stated), *_function_findings(stated)])
    _refuse([*_state_findings(stated), *_stored_findings(stated)])
    _refuse([*shape_findings(model, stated.operators), *_metadata_findings(stated)])


def _refuse(findings: Sequence[Finding]) -> None:
    if findings:
        count = "a fault" if len(findings) == 1 else f"{len(findings)} faults"
        raise ModelError(f"{count} in the spiking network", findings)


def _at(node: NodeProto, why: str, advice: str = _CHANGED, tensor: str = "") -> Finding:
    return Finding(why, advice, shown(node.name), shown(node.op_type), shown(tensor))


def _graph_findings(stated: Stated) -> Iterator[Finding]:
    """Order, operators, inputs and outputs."""
    graph = stated.model.graph
    if not is_sorted(stated.model):
        yield Finding("the nodes are not in the order of execution", _CHANGED)
    for node in graph.node:
        if node.domain not in (*_STANDARD, DOMAIN):
            yield _at(node, f"unknown operator domain {shown(node.domain)!r}")
        elif node.domain != DOMAIN and not onnx.defs.has(node.op_type, stated.opset):
            yield _at(node, f"no operator of operator set {stated.opset}")
        elif node.domain != DOMAIN and node.op_type in _UNBOUNDED:
            yield _at(node, f"a {node.op_type} has no limit on its steps", "it is never run")
    for name, count in Counter(value.name for value in graph.output).items():
        if count > 1:
            yield Finding(f"{count} graph outputs have the same name", _CHANGED, tensor=shown(name))
    made = {name for node in graph.node for name in node.output}
    for name in stated.outputs:
        if name not in made:
            yield Finding("a graph output that no node computes", _CHANGED, tensor=shown(name))
    images = [value for name, value in stated.inputs.items() if name not in stated.states]
    if not images or all(name.removesuffix(NEXT) in stated.states for name in stated.outputs):
        yield Finding("no input or no output besides the states", _CHANGED)
    for name in stated.inputs.keys() & stated.arrays.keys():
        yield Finding("an input that is a weight at the same time", _CHANGED, tensor=shown(name))
    for value in images:
        if value.type.tensor_type.elem_type != TensorProto.FLOAT:
            yield Finding("an input that is not float32", _CHANGED, tensor=shown(value.name))
        if not value.type.tensor_type.shape.dim:
            yield Finding("an input without a batch axis", _CHANGED, tensor=shown(value.name))


def _parse(stated: Stated) -> Iterator[Finding]:
    """Fill in the operators."""
    names = Counter(node.name for node in stated.model.graph.node if node.domain == DOMAIN)
    for index, node in enumerate(stated.model.graph.node):
        if node.domain != DOMAIN:
            continue
        if not node.name or names[node.name] > 1:
            yield _at(node, "a spiking node needs a name of its own")
        try:
            stated.operators[index] = parse_node(node)
        except ModelError as problem:
            yield _at(node, problem.message, problem.advice or _CHANGED)


def _node_findings(stated: Stated) -> Iterator[Finding]:
    """Numbers and wiring of every spiking node."""
    clocks = [n for n in stated.model.graph.node if n.domain == DOMAIN and n.op_type == CLOCK]
    if len(clocks) > 1:
        yield _at(clocks[1], f"{len(clocks)} clocks")
    time = clocks[0].output[0] if clocks and clocks[0].output else None
    for index, operator in stated.operators.items():
        node = stated.model.graph.node[index]
        for why in operator.faults():
            yield _at(node, why)
        if operator.spiking and operator.signature.op not in ACTIVATIONS:
            yield _at(node, f"{shown(operator.signature.op)!r} is no activation that spikes")
        elif operator.signature.op in _UNBOUNDED or not (
            operator.signature.op in ACTIVATIONS
            or onnx.defs.has(operator.signature.op, stated.opset)
        ):
            yield _at(node, f"unknown operator {shown(operator.signature.op)!r}")
        states = len(operator.state_names)
        held = list(node.input[len(node.input) - states :])
        following = [name + NEXT for name in held]
        if operator.family == CLOCK:
            held, following = list(node.input), []
            if list(node.output) != [name + NEXT for name in held] or len(held) != 1:
                yield _at(node, "the clock must count one state")
        elif len(node.output) != 1 + states or list(node.output[1:]) != following:
            found = ", ".join(shown(name, 60) for name in node.output[1:])
            yield _at(node, f"its states do not pair: {', '.join(following)} expected, {found}")
        if operator.needs_step and node.input[-1 - states] != time:
            yield _at(node, "it needs the clock", tensor=node.input[-1 - states])
        for position in operator.signature.moving if operator.family != CLOCK else ():
            name = node.input[position]
            if not name or name in stated.arrays or name in stated.states:
                yield _at(node, f"input {position} must come from the network", tensor=name)


def _function_findings(stated: Stated) -> Iterator[Finding]:
    """The functions are those of the converter, byte by byte but for their description."""
    expected = {
        operator.function_name: operator.function(stated.opset)
        for operator in stated.operators.values()
    }
    for index, operator in stated.operators.items():
        node = stated.model.graph.node[index]
        if node.op_type != operator.function_name or node.overload:
            yield _at(node, f"its attributes describe {operator.function_name}")
    counts = Counter((function.domain, function.name) for function in stated.model.functions)
    for function in stated.model.functions:
        name = shown(function.name, 60)
        if function.domain != DOMAIN or function.name not in expected:
            yield Finding(f"a function that is none of ours: {shown(function.domain)}::{name}")
        elif counts[function.domain, function.name] > 1:
            yield Finding(f"the function {name} is defined more than once", _CHANGED)
        elif _content(function) != _content(expected[function.name]):
            yield Finding(
                f"the body of the function {name} is not the law that this version computes",
                f"{_CHANGED}, or run it in plain onnxruntime",
            )
    for name in sorted(expected.keys() - {function.name for function in stated.model.functions}):
        yield Finding(f"the function {name} is missing", _CHANGED)


def _content(function: FunctionProto) -> bytes:
    copy = FunctionProto()
    copy.CopyFrom(function)
    copy.doc_string = ""
    return bytes(copy.SerializeToString(deterministic=True))


def _state_findings(stated: Stated) -> Iterator[Finding]:
    """Every state belongs to one spiking node, and nothing else reads or writes it."""
    owners: Counter[str] = Counter()
    kinds: dict[str, int] = {}
    for index, operator in stated.operators.items():
        node = stated.model.graph.node[index]
        states = 1 if operator.family == CLOCK else len(operator.state_names)
        held = node.input[len(node.input) - states :]
        owners.update(held)
        kinds.update(dict.fromkeys(held, operator.state_type))
    following = {name + NEXT for name in stated.states}
    for index, node in enumerate(stated.model.graph.node):
        if index not in stated.operators:
            for name in {*node_reads(node)} & (following | stated.states):
                yield _at(node, "only spiking nodes may read a state", tensor=name)
    for name, count in owners.items():
        if name not in stated.states:
            why = f"{shown(name)!r} is no state of the graph: it needs an input and {NEXT}"
            yield Finding(why, _CHANGED, tensor=shown(name))
        elif count > 1:
            yield Finding(f"{count} nodes share a state", _CHANGED, tensor=shown(name))
    for name in sorted(stated.states - owners.keys()):
        yield Finding("a state of no node", _CHANGED, tensor=shown(name))
    for name in sorted(stated.states):
        here, there = stated.inputs[name].type, stated.outputs[name + NEXT].type
        found = {here.tensor_type.elem_type, there.tensor_type.elem_type}
        if name in kinds and found != {kinds[name]}:
            why = f"a state must be {TensorProto.DataType.Name(kinds[name])} on both sides"
            yield Finding(why, _CHANGED, tensor=shown(name))


def _metadata_findings(stated: Stated) -> Iterator[Finding]:
    """The document for people must speak of this network."""
    document = read_metadata(stated.model)
    names = {node.name for node in stated.model.graph.node}
    for layer in document.get("layers", []):
        if layer.get("name") not in names:
            name = shown(layer.get("name"), 60)
            yield Finding(f"the metadata describes a layer {name!r} that is not there", _CHANGED)
    limits = {
        operator.attributes["burst_limit"]
        for operator in stated.operators.values()
        if "burst_limit" in operator.attributes
    }
    told = (document.get("recipe") or {}).get("burst_limit")
    if told is not None and limits and told != max(limits):
        why = f"the metadata states a burst limit of {told}, the neurons have {max(limits):g}"
        yield Finding(why, _CHANGED)


def _all_whole(values: NDArray[np.float32]) -> bool:
    return bool(np.all((values == np.rint(values)) & (values < EXACT_LIMIT)))


def _stored_findings(stated: Stated) -> Iterator[Finding]:
    """Thresholds and other constants are initializers with numbers that the law can take."""
    for index, operator in stated.operators.items():
        node, count = stated.model.graph.node[index], operator.signature.inputs
        for position in set(range(count)) - set(operator.signature.moving):
            if node.input[position] not in stated.arrays:
                yield _at(node, f"input {position} must be stored", tensor=node.input[position])
        for role, name in zip(operator.stored, node.input[count:], strict=False):
            if name not in stated.arrays:
                yield _at(node, f"the {role} must be stored", tensor=name)
            elif stated.arrays[name].data_type != TensorProto.FLOAT:
                yield _at(node, f"the {role} must be float32", tensor=name)
            else:
                values = array_of(stated.arrays[name])
                for why in _value_faults(operator, role, values):
                    yield _at(node, why, tensor=name)


def _value_faults(
    operator: StatefulOperator, role: str, values: NDArray[np.float32]
) -> Iterator[str]:
    """What is wrong with the numbers of a stored input."""
    if role == "start":
        low, high = operator.attributes["low"], operator.attributes["high"]
        bad = int(np.count_nonzero(~((values >= low) & (values <= high))))
        if bad or not values.size:
            yield f"starts must lie in {low:g}..{high:g}: {bad} of {values.size} do not"
        return
    bad = int(np.count_nonzero(~(np.isfinite(values) & (values > 0))))
    if bad or not values.size:
        yield f"thresholds must be positive and finite: {bad} of {values.size} are not"
    elif operator.sends_counts and not _all_whole(values):
        yield f"thresholds of integer neurons must be whole numbers below {EXACT_LIMIT}"
