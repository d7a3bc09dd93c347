"""The ANN that a spiking network stands for, and its quantised twin, rebuilt from the SNN file."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from onnx2snn.passes import normalise, to_proto
from onnx2snn_runtime.errors import UsageError
from onnx2snn_runtime.files.beside import kept_alive
from onnx2snn_runtime.format import DOMAIN, NEXT
from onnx2snn_runtime.naming import free_name
from onnx2snn_runtime.network import Network
from onnx2snn_runtime.neurons import COMPOSITES, parse_node, spelled_out
from onnx2snn_runtime.neurons.refine import RefineFurther
from onnx2snn_runtime.planning.plan import tensor_shape


def reference(
    network: Network, against: onnx.ModelProto | None
) -> tuple[onnx.ModelProto, list[NDArray[Any]]]:
    """The ANN that a spiking network is compared with, and the weights beside it to be kept.

    Args:
        network: the spiking network.
        against: the ANN as an exporter wrote it, see `normal_form`; None: the one that the file
            stands for.
    """
    if against is not None:
        return normal_form(against, network)
    ann = to_ann(network.model)
    return ann, kept_alive(ann)


def normal_form(
    source: onnx.ModelProto, network: Network
) -> tuple[onnx.ModelProto, list[NDArray[Any]]]:
    """The normal form of an ANN for the inputs of a network, and the weights beside it to be kept.

    A fixed batch, other types of floats and old operator sets are brought to one form.

    Raises:
        UsageError: its inputs or outputs are not those of the network.
    """
    ours, known = network.input_shapes, {value.name: value for value in source.graph.input}
    shared = {name: shape for name, shape in ours.items() if name in known}
    _refuse_another("inputs", shared, [known[name] for name in shared])  # of which a part may idle
    normal, _ = normalise(source, input_shapes=shared, run=network.backend.compile)
    ann = to_proto(normal)
    _refuse_another("inputs", ours, ann.graph.input)
    names = set(network.plan.outputs)
    answers = {o.name: tensor_shape(o) for o in network.model.graph.output if o.name in names}
    _refuse_another("outputs", answers, ann.graph.output)
    return ann, kept_alive(ann)


def _refuse_another(
    what: str, ours: Mapping[str, Sequence[int | str]], values: Iterable[onnx.ValueInfoProto]
) -> None:
    """Compare names, and sizes behind the batch as far as both are known."""
    theirs = {value.name: tensor_shape(value) for value in values}
    alike = ours.keys() == theirs.keys() and all(
        len(ours[name]) == len(theirs[name])
        and all(
            a == b or isinstance(a, str) or isinstance(b, str)
            for a, b in zip(ours[name][1:], theirs[name][1:], strict=True)
        )
        for name in ours
        if ours[name] and theirs[name]
    )
    if not alike:
        snn, ann = (
            ", ".join(f"{name} [{','.join(map(str, shape))}]" for name, shape in shapes.items())
            for shapes in (ours, theirs)
        )
        raise UsageError(
            f"the ANN is another network than the SNN was made of: its {what} are {ann}, those of "
            f"the SNN {snn}"
        )


def to_ann(
    spiking: onnx.ModelProto,
    *,
    spell_out: bool = True,
    ranges: Mapping[str, Any] | None = None,
    levels: float = 0.0,
) -> onnx.ModelProto:
    """Replace every neuron by its activation and every state by nothing.

    Args:
        spiking: a spiking network.
        spell_out: write activations that ONNX lacks in its operators, so that any runtime runs the
            result; otherwise they stay single nodes, as in the converter's normal form.
        ranges: node name to the largest activation, [1,*] or a number; activations of these neurons
            are rounded to so many steps up to it.
        levels: the number of steps.
    """
    graph = spiking.graph
    states = {o.name.removesuffix(NEXT) for o in graph.output if o.name.endswith(NEXT)}
    states &= {value.name for value in graph.input}
    nodes: list[NodeProto] = []
    opset = next(item.version for item in spiking.opset_import if not item.domain)
    added: list[onnx.TensorProto] = []
    taken = {name for node in graph.node for name in (*node.input, *node.output)}

    def stem(node: NodeProto) -> str:
        """What names of parts of an activation can begin with."""
        return free_name(
            f"{node.output[0]}.part", lambda wish: any(name.startswith(wish) for name in taken)
        )

    for node in graph.node:
        if node.domain != DOMAIN:
            nodes.append(node)
        elif node.op_type == "Readout":  # of floats; in whole numbers it is a factor
            nodes.append(helper.make_node("Identity", [node.input[0]], [node.output[0]], node.name))
        elif node.op_type != "Tick":
            operator = parse_node(node)
            inputs = list(node.input[: operator.signature.inputs])
            if isinstance(operator, RefineFurther):
                same = [inputs[operator.first_estimate]]
                nodes.append(helper.make_node("Identity", same, [node.output[0]], node.name))
                continue
            plain = helper.make_node(operator.signature.op, inputs, [node.output[0]], node.name)
            known = set(operator.base_attributes(opset))
            plain.attribute.extend(a for a in node.attribute if a.name in known)
            if not operator.activation.is_standard(opset):
                plain.domain = COMPOSITES
            stored = node.input[operator.signature.inputs] if operator.spiking else ""
            if operator.sends_counts:
                *before, plain = _counted(plain, stored, stem(plain))
                nodes.extend(before)
            if ranges and node.name in ranges:
                step = np.asarray(ranges[node.name], np.float32) / np.float32(levels)
                low = -levels if operator.activation.low < 0 else 0.0
                nodes.extend(_quantised(plain, step, low, levels, added, stem(plain)))
            else:
                nodes.append(plain)
    nodes = [
        part
        for node in nodes
        for part in (
            spelled_out(node, opset) if spell_out and node.domain == COMPOSITES else [node]
        )
    ]
    outputs = [o for o in graph.output if o.name.removesuffix(NEXT) not in states]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "ann",
            [value for value in graph.input if value.name not in states],
            outputs,
            [*graph.initializer, *added],
            value_info=list(graph.value_info),
        ),
        opset_imports=[item for item in spiking.opset_import if item.domain != DOMAIN],
        ir_version=spiking.ir_version,
    )


def calibrated_ranges(network: Network) -> dict[str, Any]:
    """Neuron layer to what calibration found its largest activation to be, 99.9 % of them below.

    A network in whole numbers has the reach of its neurons instead, in spikes, and so has a file
    without these numbers.
    """
    stored = (network.metadata.get("typical") or {}).get("thresholds") or {}
    ranges = {}
    for unit in network.plan.stateful:
        if unit.operator.spiking and not isinstance(unit.operator, RefineFurther):
            worth = 1.0 if unit.operator.sends_counts else unit.threshold
            ranges[unit.name] = worth * unit.operator.attributes["burst_limit"]
            if not unit.operator.sends_counts and unit.name in stored:
                ranges[unit.name] = stored[unit.name]
    return ranges


def _counted(node: NodeProto, threshold: str, stem: str) -> list[NodeProto]:
    """The activation of an integer neuron, in units of its threshold."""
    name, real = node.output[0], f"{stem}.sum"
    if node.op_type == "Clip":  # its bounds may differ from channel to channel
        value, low, high = node.input
        lines = [("Max", [value, low], f"{stem}.above"), ("Min", [f"{stem}.above", high], real)]
    else:
        lines = [(node.op_type, list(node.input), real)]
    lines.append(("Div", [real, threshold], name))
    return [helper.make_node(op, inputs, [made], made) for op, inputs, made in lines]


def _quantised(
    node: NodeProto,
    step: np.ndarray,
    low: float,
    high: float,
    added: list[onnx.TensorProto],
    stem: str,
) -> list[NodeProto]:
    """The node with its output rounded to whole steps within low..high steps."""
    name = node.output[0]
    arrays = {
        f"{stem}.step": step.astype(np.float32),
        f"{stem}.low": np.float32(low),
        f"{stem}.high": np.float32(high),
    }
    added.extend(numpy_helper.from_array(np.asarray(a), key) for key, a in arrays.items())
    plain = NodeProto()
    plain.CopyFrom(node)
    plain.output[0] = f"{stem}.real"
    return [
        plain,
        helper.make_node("Div", [f"{stem}.real", f"{stem}.step"], [f"{stem}.ratio"]),
        helper.make_node("Round", [f"{stem}.ratio"], [f"{stem}.rounded"]),
        helper.make_node("Clip", [f"{stem}.rounded", f"{stem}.low", f"{stem}.high"],
                         [f"{stem}.clipped"]),
        helper.make_node("Mul", [f"{stem}.clipped", f"{stem}.step"], [name]),
    ]  # fmt: skip


def equal_bits(burst_limit: int, timesteps: int) -> int:
    """Bits of a quantised activation with as many values: ⌈log2(γ·T + 1)⌉."""
    return math.ceil(math.log2(burst_limit * timesteps + 1))
