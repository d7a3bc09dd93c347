"""A spiking network as a NIR graph (Pedersen et al., Nature Communications 2024), where NIR can.

A neuron of NIR sends ones, ours sends θ: θ goes into the weights behind it. What NIR has no form
for is refused, node by node; what it has a form for but not all the numbers (burst limit, taking
back, initial charge) is refused as well, unless the caller accepts the loss.
"""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto

from onnx2snn_runtime.errors import Finding, UnsupportedError, UsageError
from onnx2snn_runtime.files.beside import array_of
from onnx2snn_runtime.format import DOMAIN
from onnx2snn_runtime.nodes import attributes_of
from onnx2snn_runtime.planning.plan import Stateful
from onnx2snn_runtime.planning.planner import make_plan

Array = NDArray[Any]
INSTALL = "pip install 'onnx2snn[nir]'"
ENDINGS = ("Softmax", "LogSoftmax")  # do not change which class is largest
LOST_ADVICE = "convert with --recipe if, or accept the loss with --lossy"
FORM_ADVICE = "keep the ONNX file for this network"


@dataclass(frozen=True)
class Signal:
    """A tensor of the network: the sum of NIR nodes, times a scale.

    Attributes:
        sources: names of the NIR nodes whose outputs add up.
        scale: factor that brings them to the network's units, broadcastable to [1,*].
    """

    sources: tuple[str, ...]
    scale: Array


def to_nir(model: onnx.ModelProto, *, lossy: bool = False) -> tuple[Any, list[str]]:
    """The NIR graph of a spiking network, and what it could not carry.

    Args:
        model: a spiking network, one timestep.
        lossy: accept that numbers of neurons are lost.

    Returns:
        A ``nir.NIRGraph`` without batch axis, and a sentence for each loss. The answer is the mean
        of its output over the timesteps.

    Raises:
        UnsupportedError: with every node that NIR cannot hold, or only with a loss.
        UsageError: the extra ``nir`` is not installed.
    """
    return _Exporter(model).run(lossy=lossy)


def nir_bytes(graph: Any) -> bytes:
    """The HDF5 file of a NIR graph."""
    buffer = io.BytesIO()
    open_nir().write(buffer, graph)
    return buffer.getvalue()


def open_nir() -> Any:
    """The module ``nir``.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return import_module("nir")
    except ImportError as error:
        raise UsageError("the NIR export needs nir", advice=INSTALL) from error


class _Exporter:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.nir = open_nir()
        self.graph = model.graph
        self.plan = make_plan(model)
        self.units = {unit.output: unit for unit in self.plan.stateful}
        self.arrays = {i.name: array_of(i) for i in model.graph.initializer}
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.signals: dict[str, Signal] = {}
        self.refused: list[Finding] = []
        self.lost: list[Finding] = []
        self.notes: list[str] = []

    def run(self, *, lossy: bool) -> tuple[Any, list[str]]:
        for name in self.plan.inputs:
            self.nodes["input"] = self.nir.Input({"input": np.array(self.shape(name))})
            self.signals[name] = Signal(("input",), np.ones(1))
        if len(self.plan.inputs) != 1 or len(self.plan.outputs) != 1:
            self.refused.append(Finding("NIR export takes one input and one output"))
        for node in self.graph.node:
            if any(name in self.signals for name in node.input):
                self.add(node)
        findings = self.refused + ([] if lossy else self.lost)
        if findings:
            raise UnsupportedError("NIR cannot carry this network", findings)
        (output,) = self.plan.outputs
        self.nodes["output"] = self.nir.Output({"output": np.array(self.shape(output))})
        for source in self.plain(output):
            self.edges.append((source, "output"))
        losses = [str(finding) for finding in self.lost] + self.notes
        metadata = {"onnx2snn": json.dumps({"lost": losses, "answer": "mean over timesteps"})}
        graph = self.nir.NIRGraph(self.nodes, self.edges, metadata=metadata)
        return graph, losses

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Shape without the batch."""
        return tuple(int(size) for size in self.plan.shapes[tensor][1:])

    def refuse(self, node: NodeProto, why: str, advice: str = FORM_ADVICE) -> None:
        self.refused.append(Finding(why, advice, node.name, node.op_type))

    def add(self, node: NodeProto) -> None:
        """One node of the network."""
        rule = _RULES.get(node.op_type)
        if node.domain == DOMAIN:
            self.stateful(node)
        elif rule is not None:
            rule(self, node)
        elif node.op_type in ENDINGS and node.output[0] in self.plan.outputs:
            self.notes.append(f"{node.op_type} at the end is left out: apply it to the mean")
            self.signals[node.output[0]] = self.signals[node.input[0]]
        else:
            self.refuse(node, f"NIR has no {node.op_type}")

    def stateful(self, node: NodeProto) -> None:
        unit = self.units.get(node.output[0])
        if unit is None:  # the clock
            return
        if unit.operator.is_readout:
            self.signals[unit.output] = self.signals[node.input[0]]
            return
        if unit.operator.family != "BurstIF" or unit.operator.signature.op != "Relu":
            self.refuse(node, f"NIR has no {unit.operator.function_name}")
            self.signals[unit.output] = Signal(("input",), np.ones(1))  # to find what else is wrong
            return
        self.check_numbers(node, unit)
        shape = self.shape(unit.output)
        threshold = np.broadcast_to(np.asarray(unit.threshold), (1, *shape))[0]
        neuron = self.nir.IF(
            r=np.ones(shape, np.float32), v_threshold=threshold.astype(np.float32),
            v_reset=np.zeros(shape, np.float32),
        )  # fmt: skip
        name = self.place(node, neuron, self.plain(node.input[0]))
        self.signals[unit.output] = Signal((name,), np.asarray(unit.threshold, np.float64))

    def check_numbers(self, node: NodeProto, unit: Stateful) -> None:
        """What the neuron has and an IF of NIR has not."""
        numbers = unit.operator.attributes
        for there, what in (
            (numbers["burst_limit"] > 1, f"burst limit {numbers['burst_limit']:g}: becomes 1"),
            (numbers["lower_limit"] < 0, "taking back spikes: is lost"),
            (numbers["v0"] != 0, f"initial charge {numbers['v0']:g} θ: becomes 0"),
        ):
            if there:
                self.lost.append(Finding(what, LOST_ADVICE, node.name, node.op_type))

    def place(self, node: NodeProto, made: Any, sources: tuple[str, ...]) -> str:
        """Add a NIR node behind its sources; returns its name."""
        name = f"{len(self.nodes)}_{node.op_type.lower()}"  # HDF5 takes a slash for a folder
        made.metadata = {"onnx_name": node.name}
        self.nodes[name] = made
        self.edges += [(source, name) for source in sources]
        return name

    def plain(self, tensor: str) -> tuple[str, ...]:
        """Sources of a tensor in the network's own units: a scale becomes a node."""
        signal = self.signals[tensor]
        if np.all(signal.scale == 1):
            return signal.sources
        shape = self.shape(tensor)
        scale = np.broadcast_to(signal.scale, (1, *shape))[0]
        carrier = NodeProto(name=tensor, op_type="Scale")
        per_channel = scale.reshape(shape[0], -1)
        if len(shape) == 3 and np.all(per_channel == per_channel[:, :1]):
            made = self.convolution(np.diag(per_channel[:, 0])[:, :, np.newaxis, np.newaxis], shape)
        else:
            made = self.nir.Scale(scale.astype(np.float32))
        name = self.place(carrier, made, signal.sources)
        self.signals[tensor] = Signal((name,), np.ones(1))
        return (name,)

    def convolution(self, weight: Array, shape: tuple[int, ...], **options: Any) -> Any:
        """A convolution of NIR with weights [O,C,*]: nir reads no groups, their zeros are written.

        One axis is written as a number, two as a pair.
        """
        rank = weight.ndim - 2
        bias = options.pop("bias", np.zeros(len(weight)))
        given = {"stride": (1,) * rank, "padding": (0,) * rank, "dilation": (1,) * rank, **options}
        given["input_shape"] = shape[1:]
        if rank == 1:
            given = {name: int(value[0]) for name, value in given.items()}
        kind = self.nir.Conv1d if rank == 1 else self.nir.Conv2d
        return kind(
            weight=np.ascontiguousarray(weight, np.float32), groups=1,
            bias=np.asarray(bias, np.float32), **given,
        )  # fmt: skip

    def scaled_columns(self, tensor: str) -> tuple[tuple[str, ...], Array]:
        """Sources of a tensor and its scale per channel or feature, [C]."""
        signal, shape = self.signals[tensor], self.shape(tensor)
        scale = np.broadcast_to(signal.scale, (1, *shape))[0].reshape(shape[0], -1)
        if not np.all(scale == scale[:, :1]):
            return self.plain(tensor), np.ones(shape[0])
        return signal.sources, scale[:, 0]


def _convolution(owner: _Exporter, node: NodeProto) -> None:
    attributes = attributes_of(node)
    weight = owner.arrays.get(node.input[1])
    if weight is None or weight.ndim not in (3, 4):
        owner.refuse(node, "NIR has convolutions along one or two axes with constant weights only")
        return
    rank = weight.ndim - 2
    pads = list(attributes.get("pads", [0] * (2 * rank)))
    if pads[:rank] != pads[rank:]:
        owner.refuse(node, f"NIR pads both sides alike, not {pads}")
        return
    sources, scale = owner.scaled_columns(node.input[0])
    dense = without_groups(weight, int(attributes.get("group", 1)))
    made = owner.convolution(
        dense * scale.reshape(-1, *(1,) * rank),
        owner.shape(node.input[0]),
        stride=tuple(attributes.get("strides", (1,) * rank)),
        padding=tuple(pads[:rank]),
        dilation=tuple(attributes.get("dilations", (1,) * rank)),
        bias=owner.arrays[node.input[2]] if len(node.input) > 2 else np.zeros(len(weight)),
    )
    owner.signals[node.output[0]] = Signal((owner.place(node, made, sources),), np.ones(1))


def without_groups(weight: Array, groups: int) -> Array:
    """Weights [O,C/groups,*] of a grouped convolution as [O,C,*] with zeros between groups."""
    rows, inner = len(weight) // groups, weight.shape[1]
    dense = np.zeros((len(weight), inner * groups, *weight.shape[2:]), weight.dtype)
    for group in range(groups):
        window = slice(group * rows, (group + 1) * rows)
        dense[window, group * inner : (group + 1) * inner] = weight[window]
    return dense


def _affine(owner: _Exporter, node: NodeProto) -> None:
    attributes = attributes_of(node)
    weight = owner.arrays.get(node.input[1])
    plain = attributes.get("alpha", 1.0) == 1.0 and attributes.get("beta", 1.0) == 1.0
    if weight is None or weight.ndim != 2 or not plain or attributes.get("transA", 0):
        owner.refuse(node, "NIR has y = W·x + b with constant W only")
        return
    if not attributes.get("transB", 0):
        weight = weight.T
    sources, scale = owner.scaled_columns(node.input[0])
    bias = owner.arrays[node.input[2]] if len(node.input) > 2 else np.zeros(len(weight))
    made = owner.nir.Affine(
        weight=(weight * scale).astype(np.float32),
        bias=np.broadcast_to(bias, (len(weight),)).astype(np.float32),
    )
    owner.signals[node.output[0]] = Signal((owner.place(node, made, sources),), np.ones(1))


def _average(owner: _Exporter, node: NodeProto) -> None:
    """Averages become sums, which chips have; the division goes into the weights behind."""
    attributes = attributes_of(node)
    shape = owner.shape(node.input[0])
    window = shape[1:] if node.op_type == "GlobalAveragePool" else attributes["kernel_shape"]
    strides = attributes.get("strides", window if node.op_type == "GlobalAveragePool" else (1, 1))
    uneven = any(attributes.get("pads", [])) or attributes.get("ceil_mode", 0)
    if len(shape) != 3 or uneven or set(attributes.get("dilations", [1])) != {1}:
        owner.refuse(node, "only 2-D averages without padding have a form in NIR")
        return
    sources, scale = owner.scaled_columns(node.input[0])
    pair = [np.array(size) for size in (window, strides, (0, 0))]
    made = owner.nir.SumPool2d(*pair)
    factor = scale.reshape(1, -1, 1, 1) / float(np.prod(window))
    owner.signals[node.output[0]] = Signal((owner.place(node, made, sources),), factor)


def _flatten(owner: _Exporter, node: NodeProto) -> None:
    before, after = owner.shape(node.input[0]), owner.shape(node.output[0])
    if len(after) != 1:
        owner.refuse(node, f"only flattening has a form in NIR, not {before} to {after}")
        return
    signal = owner.signals[node.input[0]]
    scale = np.broadcast_to(signal.scale, (1, *before)).reshape(1, -1)
    made = owner.nir.Flatten({"input": np.array(before)}, start_dim=0, end_dim=-1)
    owner.signals[node.output[0]] = Signal((owner.place(node, made, signal.sources),), scale)


def _sum(owner: _Exporter, node: NodeProto) -> None:
    if any(name not in owner.signals for name in node.input):
        owner.refuse(node, "adding a constant that no convolution took in")
        return
    shapes = {owner.shape(name) for name in node.input}
    if len(shapes) > 1:
        owner.refuse(node, f"NIR adds equal shapes only, not {sorted(shapes)}")
        return
    sources = tuple(source for name in node.input for source in owner.plain(name))
    if len(set(sources)) < len(sources):
        owner.refuse(node, "NIR has one edge between two nodes, not two")
        return
    owner.signals[node.output[0]] = Signal(sources, np.ones(1))


def _same(owner: _Exporter, node: NodeProto) -> None:
    owner.signals[node.output[0]] = owner.signals[node.input[0]]


_RULES: dict[str, Callable[[_Exporter, NodeProto], None]] = {
    "Conv": _convolution,
    "Gemm": _affine,
    "MatMul": _affine,
    "GlobalAveragePool": _average,
    "AveragePool": _average,
    "Flatten": _flatten,
    "Reshape": _flatten,
    "Add": _sum,
    "Identity": _same,
    "Dropout": _same,
}
