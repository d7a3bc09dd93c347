"""Biases and additions in front of neurons, handed to the neurons: passes over memory are saved.

    conv(x) + bias + residual  →  the neuron's current is (conv(x) + bias) + residual

in the same order and in float32, so that every result stays the same to the bit. A bias is taken
out of a convolution that only the neuron reads, or only the addition in front of it; an addition
only where both of its inputs have the shape of the sum, and nobody else reads that.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import onnx

from onnx2snn_runtime.files.beside import array_of
from onnx2snn_runtime.files.wiring import node_reads
from onnx2snn_runtime.neurons import StatefulOperator
from onnx2snn_runtime.planning.plan import Plan, Segment, Shape, Stateful, last_uses

Array = Any
FLOAT = onnx.TensorProto.FLOAT


def fuse(plan: Plan, takes: Callable[[StatefulOperator], bool]) -> Plan:
    """The plan in which neurons do what stands directly in front of them.

    Args:
        plan: as the network is written.
        takes: whether the neurons of an operator can.
    """
    readers = Counter(name for unit in plan.units for name in set(unit.reads))
    readers.update(plan.answers)
    parts = [_Part(unit, plan.shapes) for unit in plan.units if isinstance(unit, Segment)]
    makers = {name: part for part in parts for name in part.outputs}
    units: list[_Part | Stateful] = []
    waiting = iter(parts)
    for unit in plan.units:
        if isinstance(unit, Segment):
            units.append(next(waiting))
            continue
        part = makers.get(unit.inputs[0])
        alone = readers[unit.inputs[0]] == 1
        units.append(part.hand_over(unit) if part and alone and takes(unit.operator) else unit)
    built = (unit.segment() if isinstance(unit, _Part) else unit for unit in units)
    fused = replace(plan, units=tuple(unit for unit in built if unit is not None), last_use={})
    fused.last_use.update(last_uses(fused))
    return fused


class _Part:
    """A segment while nodes are taken out of it.

    Attributes:
        outputs: tensors that other parts read.
    """

    def __init__(self, segment: Segment, shapes: dict[str, Shape]) -> None:
        self.given = segment
        self.shapes = shapes
        graph = segment.model.graph
        self.nodes = list(graph.node)
        self.outputs = set(segment.outputs)
        self.weights = {item.name: item for item in graph.initializer}
        self.makers = {name: node for node in self.nodes for name in node.output}
        self.reads = Counter(name for node in self.nodes for name in node_reads(node))

    def hand_over(self, unit: Stateful) -> Stateful:
        """The neuron with the bias and the addition that stand in front of it here."""
        name = unit.inputs[0]
        if self.reads[name] or name in self.given.values:
            return unit
        kept, residual = self.take_addition(name)
        bias = self.take_bias(kept) if self.has_own_bias(kept, after=name) else None
        return replace(unit, inputs=(kept, *unit.inputs[1:]), bias=bias, residual=residual)

    def take_addition(self, name: str) -> tuple[str, str]:
        """The two summands of a tensor; or the tensor itself, and nothing."""
        node = self.makers[name]
        summands = list(node.input)
        whole = self.shapes.get(name, ())
        is_known = bool(whole) and all(isinstance(size, int) for size in whole[1:])
        if not is_known or any(self.shapes.get(item) != whole for item in summands):
            return name, ""
        if node.op_type != "Add":
            return name, ""
        summands.sort(key=lambda item: not self.has_own_bias(item, after=name))
        self.nodes.remove(node)
        self.outputs.remove(name)
        self.outputs.update(item for item in summands if item in self.makers)
        kept, residual = summands
        return kept, residual

    def has_own_bias(self, name: str, after: str) -> bool:
        """Whether a convolution with a bias makes a tensor for ``after`` alone."""
        node = self.makers.get(name)
        if node is None or node.op_type != "Conv" or name in self.given.values:
            return False
        alone = name == after or (name not in self.given.outputs and self.reads[name] <= 1)
        return alone and len(node.input) == 3 and node.input[2] in self.weights

    def take_bias(self, name: str) -> Array:
        """The bias of a convolution [M,1,…], which from now on is without."""
        node = self.makers[name]
        bias = array_of(self.weights[node.input[2]])
        bare = onnx.NodeProto()
        bare.CopyFrom(node)
        del bare.input[2]
        self.nodes[self.nodes.index(node)] = bare
        return bias.reshape((-1,) + (1,) * (len(self.shapes[name]) - 2))

    def segment(self) -> Segment | None:
        """What is left, or None if nothing is."""
        if not self.nodes:
            return None
        graph = self.given.model.graph
        read = {name for node in self.nodes for name in node_reads(node)}
        known = {value.name: value for value in (*graph.input, *graph.output)}
        inputs = [name for name in self.given.inputs if name in read]
        outputs = sorted(self.outputs)
        values = {
            name: known.get(name) or onnx.helper.make_tensor_value_info(name, FLOAT, shape)
            for name, shape in self.shapes.items() if name in {*inputs, *outputs}
        }  # fmt: skip
        smaller = onnx.helper.make_graph(
            self.nodes,
            graph.name,
            [values[name] for name in inputs],
            [values[name] for name in outputs],
            [item for item in graph.initializer if item.name in read],
        )
        model = onnx.helper.make_model(
            smaller,
            opset_imports=self.given.model.opset_import,
            ir_version=self.given.model.ir_version,
        )
        return replace(self.given, inputs=tuple(inputs), outputs=tuple(outputs), model=model)
