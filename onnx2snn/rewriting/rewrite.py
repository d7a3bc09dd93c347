"""Writes the spiking network: one timestep, with every state as an input and an output.

Neurons and graded operators become nodes of the domain ``ai.onnx2snn``; everything else stays as it
is and keeps its tensor names.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from onnx2snn.calibration.calibrate import LayerCalibration
from onnx2snn.recipes import Recipe
from onnx2snn.rewriting.classify import Placed, Role
from onnx2snn.rewriting.shortcuts import Reading
from onnx2snn_runtime.errors import UnsupportedError
from onnx2snn_runtime.files.beside import array_of
from onnx2snn_runtime.format import BATCH, DOMAIN, NEXT, PRODUCER
from onnx2snn_runtime.naming import free_name
from onnx2snn_runtime.neurons import (
    ACTIVATIONS,
    COMPOSITES,
    FAMILIES,
    Signature,
    StatefulOperator,
    spelled_out,
)
from onnx2snn_runtime.planning.plan import Shape, tensor_shape

ROUNDING = 1.0 + 1e-6  # keeps the last spike of a cap that is a multiple of the threshold
HUGE = float(np.finfo(np.float32).max)
ROUND_ALL = 0.5  # dead zone that leaves out nothing: spikes on shortcuts cost hardly anything
LOWEST_EXPONENT = -20.0


def rewrite(
    model: onnx.ModelProto,
    placed: list[Placed],
    calibration: Mapping[str, LayerCalibration],
    recipe: Recipe,
    *,
    shortcuts: AbstractSet[Reading] = frozenset(),
    scales: Mapping[str, Any] | None = None,
) -> onnx.ModelProto:
    """The spiking network of a normalised and classified model.

    Args:
        model: normalised ANN, with shapes of all its tensors.
        placed: its nodes with their roles.
        calibration: output tensor of a neuron to its threshold.
        recipe: how neurons are set.
        shortcuts: nodes with the activations of which they read a finer output.
        scales: of a model in whole numbers: tensor to the real value of the integer 1.
    """
    return _Writer(model, placed, calibration, recipe, shortcuts, scales).write()


class _Writer:
    def __init__(
        self,
        model: onnx.ModelProto,
        placed: list[Placed],
        calibration: Mapping[str, LayerCalibration],
        recipe: Recipe,
        shortcuts: AbstractSet[Reading],
        scales: Mapping[str, Any] | None,
    ) -> None:
        self.model, self.placed, self.scales = model, placed, scales
        self.calibration, self.recipe = calibration, recipe
        graph = model.graph
        values = [*graph.value_info, *graph.input, *graph.output]
        self.shapes: dict[str, Shape] = {value.name: tensor_shape(value) for value in values}
        self.types = {value.name: value.type.tensor_type.elem_type for value in values}
        self.arrays = {item.name: item for item in graph.initializer}
        self.opset = next(item.version for item in model.opset_import if not item.domain)
        self.nodes: list[NodeProto] = []
        self.initializers = list(graph.initializer)
        self.value_info = list(graph.value_info)
        self.states: list[tuple[str, Shape, int]] = []
        self.functions: dict[str, onnx.FunctionProto] = {}
        self.taken = set(self.shapes) | set(self.arrays) | {node.name for node in graph.node}
        self.step = self.unique("step")
        self.clock = False
        self.renamed: dict[str, str] = {}
        self.shortcuts = shortcuts
        self.around = {activation for _, activation in shortcuts}
        self.finer: dict[str, str] = {}  # activation to what stands for it on shortcuts

    def write(self) -> onnx.ModelProto:
        rate = self.recipe.code == "rate"
        body = {
            name
            for item in self.placed
            if item.role not in (Role.TAIL, Role.HEAD)
            for name in item.node.output
        }
        if rate:
            for output in self.model.graph.output:
                if output.name in body:
                    signal = self.unique(output.name + ".signal")
                    self.renamed[output.name] = signal
                    self.describe(signal, self.shapes[output.name])
        readouts: dict[str, str] = {}
        for item in self.placed:
            node = NodeProto()
            node.CopyFrom(item.node)
            for index, name in enumerate(node.input):
                if (node.name, name) in self.shortcuts:
                    node.input[index] = self.finer[name]
            if item.role is Role.TAIL and rate:
                self.read_means(node, readouts)
            else:
                self.rename(node)
            if item.role is Role.NEURON:
                self.neuron(node, item.node.output[0])
            elif item.role in (Role.GRADED, Role.POOL) and rate:
                self.graded(node, item)
            elif node.domain == COMPOSITES:
                self.nodes.extend(spelled_out(node, self.opset))
            else:
                self.nodes.append(node)
        for name, signal in self.renamed.items():
            if name not in readouts:
                self.readout(signal, name)
        return self.finish()

    def rename(self, node: NodeProto) -> None:
        """A body tensor that is also an answer gives its name to the mean."""
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = self.renamed.get(name, name)

    def read_means(self, node: NodeProto, readouts: dict[str, str]) -> None:
        """Put a readout on every float edge into the tail."""
        tail = {name for item in self.placed if item.role is Role.TAIL for name in item.node.output}
        for index, name in enumerate(node.input):
            if not name or name in tail or name in self.arrays:
                continue
            if self.types.get(name, TensorProto.FLOAT) != TensorProto.FLOAT:
                continue
            if self.shapes.get(name, (BATCH,))[:1] != (BATCH,):
                continue
            if name not in readouts:
                mean = name if name in self.renamed else self.unique(name + ".mean")
                readouts[name] = mean
                self.readout(self.renamed.get(name, name), mean)
            node.input[index] = readouts[name]

    def readout(self, signal: str, mean: str) -> None:
        """The running mean of a signal."""
        name = self.unique(f"{signal}.readout")
        shape = self.shape(signal if signal in self.shapes else mean)
        operator, inputs = FAMILIES["Readout"](Signature("Identity")), [signal]
        if self.scales is not None:
            operator = FAMILIES["IntegerReadout"](Signature("Mul", 2, (0,)))
            inputs.append(self.unique(f"{signal}.scale"))
            scale = self.scales[self.original(signal)]
            self.initializers.append(numpy_helper.from_array(scale, inputs[1]))
        self.emit(operator, name, inputs, [mean], [shape], {})
        if mean not in self.shapes:
            self.describe(mean, shape)

    def neuron(self, node: NodeProto, layer: str) -> None:
        """Replace an activation by a spiking neuron."""
        recipe = self.recipe
        low, high = self.value_range(node)
        threshold = self.unique(f"{node.name or layer}.threshold")
        array = self.calibration[layer].threshold
        cap = max(abs(low), abs(high))
        if np.isfinite(cap) and cap > 0 and self.scales is None:
            array = np.minimum(array, np.float32(cap))
        self.initializers.append(numpy_helper.from_array(array, threshold))
        signature = Signature(node.op_type, len(node.input), (0,))
        attributes: dict[str, Any]
        shape = self.shape(layer)
        inputs = [*node.input, threshold]
        if self.scales is not None:
            attributes = self.burst_limits(signed=recipe.signed or low < 0)
            operator = FAMILIES["IntegerIF"](signature)
        elif recipe.code == "refine":
            gentle = recipe.has_small_bursts
            halvings = self.calibration[layer].halvings
            attributes = {
                "burst_limit": float(recipe.burst_limit),
                "growth": 1.0 if gentle else 2.0,
                "decay": float(self.calibration[layer].decay or recipe.decay),
                "dead_zone": float(recipe.dead_zone),
                "lowest": LOWEST_EXPONENT if halvings is None else -float(halvings),
                "highest": 0.0 if gentle else 2.0,
                "low": max(low, -HUGE),
                "high": min(high, HUGE),
            }
            start = self.calibration[layer].start
            operator = FAMILIES["Refine" if start is None else "RefineFrom"](signature)
            if start is not None:
                inputs.append(self.unique(f"{node.name or layer}.start"))
                start = np.clip(start, attributes["low"], attributes["high"]).astype(np.float32)
                self.initializers.append(numpy_helper.from_array(start, inputs[-1]))
        else:
            attributes = self.burst_limits(signed=recipe.signed or low < 0)
            capped = np.isfinite(cap) and recipe.v0 == 0
            attributes["rounding"] = ROUNDING if capped else 1.0
            operator = FAMILIES["BurstIF"](signature)
        self.emit(operator, node.name, inputs, [node.output[0]], [shape] * 2, attributes, node)
        if layer in self.around:
            self.further(node, layer, array, attributes)

    def further(
        self, node: NodeProto, layer: str, threshold: Any, attributes: dict[str, Any]
    ) -> None:
        """The finer output of a refining neuron."""
        output = self.finer[layer] = self.unique(f"{layer}.shortcut")
        name = f"{node.name or layer}.shortcut"
        name = name if name == output else self.unique(name)
        self.describe(output, self.shape(layer))
        finer = (threshold * np.float32(self.recipe.finer)).astype(np.float32)
        unit = self.unique(f"{name}.threshold")
        self.initializers.append(numpy_helper.from_array(finer, unit))
        numbers = {**attributes, "dead_zone": ROUND_ALL, "low": -HUGE, "high": HUGE}
        inputs = [*node.input, layer]
        signature = Signature(node.op_type, len(inputs), (0, len(inputs) - 1))
        operator = FAMILIES["RefineFurther"](signature)
        shapes = [self.shape(layer)] * 2
        self.emit(operator, name, [*inputs, unit], [output], shapes, numbers, node)

    def burst_limits(self, *, signed: bool) -> dict[str, float]:
        """The numbers of a burst neuron."""
        limit = float(self.recipe.burst_limit)
        return {
            "v0": float(self.recipe.v0),
            "burst_limit": limit,
            "lower_limit": -limit if signed else 0.0,
        }

    def value_range(self, node: NodeProto) -> tuple[float, float]:
        """Infimum and supremum of an activation."""
        if node.op_type == "Clip":
            ends = [array_of(self.arrays[name]) for name in node.input[1:3]]
            low, high = float(ends[0].min()), float(ends[1].max())
            return (-np.inf if low <= -HUGE else low), (np.inf if high >= HUGE else high)
        entry = ACTIVATIONS[node.op_type]
        return entry.low, entry.high

    def graded(self, node: NodeProto, item: Placed) -> None:
        """Replace a nonlinear operator by the graded law."""
        family = "LIPool" if item.role is Role.POOL else "Graded"
        moving = tuple(dict.fromkeys(item.moving))
        operator = FAMILIES[family](Signature(node.op_type, len(node.input), moving))
        sums = [self.shape(item.node.input[index]) for index in moving]
        shapes = [*sums, self.shape(item.node.output[0])]
        del node.output[1:]
        self.emit(operator, node.name, list(node.input), list(node.output), shapes, {}, node)

    def emit(
        self,
        operator: StatefulOperator,
        name: str,
        inputs: list[str],
        outputs: list[str],
        shapes: list[Shape],
        attributes: dict[str, Any],
        source: NodeProto | None = None,
    ) -> None:
        """Append one stateful node with its states."""
        states = [self.unique(f"{name}.{suffix}") for suffix in operator.state_names]
        for state, shape in zip(states, shapes, strict=True):
            if not shape or shape[0] != BATCH or not all(isinstance(s, int) for s in shape[1:]):
                raise UnsupportedError(
                    f"node {name!r} has the shape [{','.join(map(str, shape))}]: a state is "
                    f"[{BATCH}, numbers…], one of its own for every image",
                    advice="export the network with the images as an axis of their own in front, "
                    "and give open sizes with --input-shape",
                )
            self.states.append((state, shape, operator.state_type))
        if operator.needs_step:
            self.clock = True
            inputs = [*inputs, self.step + NEXT]
        signature = operator.signature
        node = helper.make_node(
            operator.function_name,
            [*inputs, *states],
            [*outputs, *(state + NEXT for state in states)],
            name=name,
            domain=DOMAIN,
            family=operator.family,
            op=signature.op,
            moving=list(signature.moving),
            **attributes,
        )
        if source is not None:
            node.attribute.extend(source.attribute)
        self.nodes.append(node)
        self.functions.setdefault(operator.function_name, operator.function(self.opset))

    def finish(self) -> onnx.ModelProto:
        """Clock, inputs, outputs and functions into one model."""
        if self.clock:
            tick = FAMILIES["Tick"](Signature("Identity"))
            self.nodes.insert(0, helper.make_node(
                "Tick", [self.step], [self.step + NEXT], name=self.unique("tick"),
                domain=DOMAIN, family="Tick", op="Identity", moving=[0],
            ))  # fmt: skip
            self.functions["Tick"] = tick.function(self.opset)
            self.states.insert(0, (self.step, (), TensorProto.INT64))
        graph = self.model.graph
        read = {name for node in self.nodes for name in node.input}
        made = {name for node in self.nodes for name in node.output}
        used = [item for item in self.initializers if item.name in read | self.outputs()]
        info = [value for value in self.value_info if value.name in made]
        inputs = [
            *graph.input,
            *(
                helper.make_tensor_value_info(name, kind, shape)
                for name, shape, kind in self.states
            ),
        ]
        outputs = [
            *graph.output,
            *(
                helper.make_tensor_value_info(name + NEXT, kind, shape)
                for name, shape, kind in self.states
            ),
        ]
        spiking = helper.make_graph(
            self.nodes, graph.name or "spiking_network", inputs, outputs, used, value_info=info
        )
        opsets = [item for item in self.model.opset_import if item.domain != COMPOSITES]
        if self.functions:
            opsets.append(helper.make_opsetid(DOMAIN, 1))
        return helper.make_model(
            spiking,
            producer_name=PRODUCER,
            opset_imports=opsets,
            functions=[self.functions[name] for name in sorted(self.functions)],
            ir_version=max(8, self.model.ir_version),
        )

    def outputs(self) -> set[str]:
        return {output.name for output in self.model.graph.output}

    def shape(self, name: str) -> Shape:
        return self.shapes.get(self.original(name), ())

    def original(self, name: str) -> str:
        """What a tensor was called before an answer took its name."""
        return {signal: name for name, signal in self.renamed.items()}.get(name, name)

    def describe(self, name: str, shape: Shape) -> None:
        """Remember the shape of a new tensor in the file."""
        self.shapes[name] = shape
        self.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def unique(self, name: str) -> str:
        """``name``, with a number if it is taken."""
        found = free_name(name, lambda item: item in self.taken or item + NEXT in self.taken)
        self.taken.add(found)
        return found
