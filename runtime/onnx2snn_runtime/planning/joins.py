"""Concatenations that only move data are taken over by the neurons in front of them.

Where all that a Concat along the channels reads is sent by neurons and read by nothing else, each
of them writes what it sends to its place in the joint tensor, and the Concat is left out.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import onnx

from onnx2snn_runtime.files.wiring import node_reads
from onnx2snn_runtime.format import BATCH
from onnx2snn_runtime.neurons import StatefulOperator
from onnx2snn_runtime.nodes import attributes_of
from onnx2snn_runtime.planning.plan import Plan, Segment, Share, Stateful, last_uses

CHANNELS = 1  # axis


def join_concatenations(plan: Plan, writes: Callable[[StatefulOperator], bool]) -> Plan:
    """The plan without those Concats that neurons can take over.

    Args:
        plan: as cut from the file.
        writes: whether the law of an operator can write into a part of a larger tensor.
    """
    senders = {unit.output: unit for unit in plan.stateful if writes(unit.operator)}
    readers = _readers(plan)
    shares: dict[str, Share] = {}
    units: list[Segment | Stateful] = []
    for unit in plan.units:
        if isinstance(unit, Stateful):
            units.append(unit)
            continue
        joined = [
            node for node in unit.model.graph.node
            if _is_taken_over(node, plan)
            and all(name in senders and readers[name] == 1 for name in node.input)
        ]  # fmt: skip
        for node in joined:
            shares.update(_shares(node, plan))
        if len(joined) < len(unit.model.graph.node):
            units.append(_without(unit, joined, plan) if joined else unit)
    if not shares:
        return plan
    placed = tuple(
        replace(unit, share=shares.get(unit.output)) if isinstance(unit, Stateful) else unit
        for unit in units
    )
    result = replace(plan, units=placed, last_use={})
    result.last_use.update(last_uses(result))
    return result


def _readers(plan: Plan) -> Counter[str]:
    """How often every tensor is read."""
    counts = Counter(plan.outputs)
    for unit in (*plan.units, plan.tail):
        if isinstance(unit, Stateful):
            counts.update(unit.inputs)
        elif unit is not None:
            counts.update(name for node in unit.model.graph.node for name in node_reads(node))
    return counts


def _is_taken_over(node: onnx.NodeProto, plan: Plan) -> bool:
    """Whether it puts channels side by side, of tensors whose sizes are known."""
    if node.op_type != "Concat" or node.domain:
        return False
    shapes = [plan.shapes.get(name, ()) for name in (*node.input, *node.output)]
    known = all(
        len(shape) > CHANNELS
        and shape[0] == BATCH
        and all(isinstance(size, int) for size in shape[1:])
        for shape in shapes
    )
    return known and attributes_of(node)["axis"] in (CHANNELS, CHANNELS - len(shapes[0]))


def _shares(node: onnx.NodeProto, plan: Plan) -> Iterator[tuple[str, Share]]:
    """Every tensor that a Concat reads, and its share of the result."""
    first = 0
    for name in node.input:
        yield name, Share(node.output[0], first)
        first += math.prod(int(size) for size in plan.shapes[name][1:])


def _without(segment: Segment, nodes: list[onnx.NodeProto], plan: Plan) -> Segment:
    """A segment that reads the results of these nodes instead of making them."""
    model = onnx.ModelProto()
    model.CopyFrom(segment.model)
    graph = model.graph
    kept = [node for node in graph.node if node not in nodes]
    taken = {name for node in nodes for name in node.input}
    made = [node.output[0] for node in nodes]
    wanted = {name for node in kept for name in node_reads(node)}
    del graph.node[:]
    graph.node.extend(kept)
    inputs = [value for value in graph.input if value.name not in taken]
    inputs += [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, plan.shapes[name])
        for name in made
        if name in wanted
    ]
    outputs = [value for value in graph.output if value.name not in made]
    del graph.input[:], graph.output[:]
    graph.input.extend(inputs)
    graph.output.extend(outputs)
    names = tuple(value.name for value in inputs), tuple(value.name for value in outputs)
    return replace(segment, inputs=names[0], outputs=names[1], model=model)
