"""Signals in 16 bits, for engines whose convolutions read and write 16-bit floats.

A neuron sends 16-bit floats where only convolutions read them, poolings, and other neurons as their
residual: rounded once where they are made instead of in each convolution. A convolution whose sums
only a neuron reads leaves them in 16 bits. Its weights are divided by a power of two for each
channel, so that small ones keep their bits and large sums do not overflow; the neuron multiplies
by it, which is exact. States, thresholds and all sums of a neuron stay in float32.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from onnx2snn_runtime.files.beside import array_of
from onnx2snn_runtime.files.wiring import node_reads
from onnx2snn_runtime.neurons import StatefulOperator
from onnx2snn_runtime.planning.plan import Plan, Segment, Stateful

Array = Any
EXPONENTS = (-126, 127)  # of the normal numbers of float32
HALF = onnx.TensorProto.FLOAT16
MOVING = ("Concat", "Identity")  # operators that hand on what they are given
Takes = Callable[[StatefulOperator], bool]


def narrow(plan: Plan, takes: Takes) -> Plan:
    """The plan with signals in 16 bits where that changes nothing but how they are rounded.

    Args:
        plan: after ``fuse``.
        takes: whether the kernel of an operator reads and sends 16-bit floats.
    """
    scales: dict[str, Array] = {}
    units: list[Segment | Stateful] = []
    sums = _sums_of_neurons(plan, takes)
    for unit in plan.units:
        if isinstance(unit, Segment):
            units.append(_with_half_weights(unit, sums, scales))
        else:
            units.append(replace(unit, scale=scales.get(unit.inputs[0])))
    return replace(plan, units=tuple(units), narrow=frozenset({*scales, *_sent(plan, takes)}))


def _sums_of_neurons(plan: Plan, takes: Takes) -> set[str]:
    """Tensors that a single neuron reads, and nobody else, as its current."""
    readers = Counter(name for unit in plan.units for name in unit.reads)
    readers.update(plan.answers)
    return {
        unit.inputs[0]
        for unit in plan.stateful
        if takes(unit.operator)
        and unit.operator.family != "LIPool"
        and readers[unit.inputs[0]] == 1
    }


def _with_half_weights(segment: Segment, sums: set[str], scales: dict[str, Array]) -> Segment:
    """A segment whose convolutions into ``sums`` have weights of 16 bits; notes their scales."""
    given = segment.model.graph
    weights = {item.name: item for item in given.initializer}
    read = Counter(name for node in given.node for name in node_reads(node))
    chosen = {
        node.output[0]: node.input[1]
        for node in given.node
        if node.op_type == "Conv" and len(node.input) == 2 and node.input[1] in weights
        and node.output[0] in sums and not read[node.output[0]]
    }  # fmt: skip
    if not chosen:
        return segment
    model = onnx.ModelProto()
    model.CopyFrom(segment.model)
    graph = model.graph
    for node in graph.node:
        if node.output[0] in chosen:
            weight = array_of(weights[chosen[node.output[0]]])
            scale = powers_of_two(weight)
            scales[node.output[0]] = scale
            node.input[1] = f"{node.output[0]}.half_weight"
            half = (weight / scale[:, None]).astype(np.float16)
            graph.initializer.append(numpy_helper.from_array(half, node.input[1]))
    still_read = {name for node in graph.node for name in node_reads(node)}
    kept = [item for item in graph.initializer if item.name in still_read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for value in graph.output:
        if value.name in chosen:
            value.type.tensor_type.elem_type = HALF
    return replace(segment, model=model)


def powers_of_two(weight: Array) -> Array:
    """For every filter of [M,C,*] the power of two that its largest weight is just below."""
    largest = np.abs(weight).max(axis=tuple(range(1, weight.ndim)), initial=0.0)
    exponents = np.clip(np.frexp(largest)[1], *EXPONENTS)
    return np.ldexp(np.float32(1), exponents).reshape((-1,) + (1,) * (weight.ndim - 2))


def _sent(plan: Plan, takes: Takes) -> set[str]:
    """Outputs of stateful operators that nobody reads who needs more than 16 bits."""
    wide = set(plan.answers)
    for unit in reversed(plan.units):
        if not isinstance(unit, Segment):
            if unit.operator.is_readout or not takes(unit.operator):
                wide.update(unit.reads)
            continue
        for node in reversed(unit.model.graph.node):
            names = list(node_reads(node))
            if node.op_type == "Conv":
                wide.update(names[1:])
            elif node.op_type not in MOVING or wide.intersection(node.output):
                wide.update(names)
    return {unit.output for unit in plan.stateful if takes(unit.operator)} - wide
