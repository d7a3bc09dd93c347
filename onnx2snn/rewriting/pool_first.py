"""Maximum pooling in front of the activation, for the refining code.

    max over a window of f(x)  =  f(max over the window of x)      for every nondecreasing f

The neurons that pooling would drop are never built, so they send nothing. In the refining code this
is exact at every step, as a neuron's target is f of its present input. In the rate code it is not:
there the maximum of currents is not the maximum of their means, and pooling follows the neurons as
lateral inhibition. A concatenation of channels in between is passed: each branch is pooled.
"""

from collections.abc import Collection
from dataclasses import dataclass

import onnx
from onnx import NodeProto, helper

from onnx2snn.passes.pool_before_maps import POOLINGS
from onnx2snn_runtime.files.beside import array_of
from onnx2snn_runtime.naming import free_name
from onnx2snn_runtime.neurons import ACTIVATIONS
from onnx2snn_runtime.nodes import attributes_of
from onnx2snn_runtime.planning.plan import Shape, tensor_shape

CHANNELS = 1


def pool_first(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """Move pooling in front of activations wherever that changes nothing.

    Args:
        model: normalised network, with shapes of all its tensors; it is not changed.

    Returns:
        The same function, and the number of poolings that were moved.
    """
    moved = onnx.ModelProto()
    moved.CopyFrom(model)
    count = 0
    while (swap := _find(moved)) is not None:
        _apply(moved, swap)
        count += 1
    return moved, count


def pool_last(model: onnx.ModelProto, names: Collection[str]) -> onnx.ModelProto:
    """The inverse: the same function with pooling behind the activations called ``names``.

    Args:
        model: a network as `pool_first` left it; it is not changed.
        names: names of activations that read a pooling which nothing else reads.
    """
    moved = onnx.ModelProto()
    moved.CopyFrom(model)
    makers = {name: node for node in moved.graph.node for name in node.output if name}
    shapes = {value.name: tensor_shape(value) for value in moved.graph.value_info}
    for activation in moved.graph.node:
        if activation.name not in names:
            continue
        place, pooling = activation, makers.get(activation.input[0])
        while pooling is not None and pooling.op_type in POOLINGS:
            source, between, result = pooling.input[0], place.input[0], place.output[0]
            first, second = NodeProto(), NodeProto()
            first.CopyFrom(place)
            second.CopyFrom(pooling)
            first.input[0], first.output[0] = source, _free(moved.graph, f"{between}.activated")
            second.input[0], second.output[0] = first.output[0], result
            _describe(moved.graph, first.output[0], shapes[source])
            pooling.CopyFrom(first)
            place.CopyFrom(second)
            place, pooling = pooling, makers.get(source)
    return moved


@dataclass(frozen=True)
class _Swap:
    """A pooling, the activations before it, and the concatenation between, if there is one."""

    pooling: NodeProto
    activations: list[NodeProto]
    concat: NodeProto | None


def _find(model: onnx.ModelProto) -> _Swap | None:
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output if name}
    readers: dict[str, int] = {output.name: 1 for output in graph.output}
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            readers[name] = readers.get(name, 0) + 1
    constants = {item.name: item for item in graph.initializer}
    for node in graph.node:
        if node.op_type not in POOLINGS or len([name for name in node.output if name]) > 1:
            continue
        before = makers.get(node.input[0])
        concat = before if before is not None and before.op_type == "Concat" else None
        if concat is not None and not (
            attributes_of(concat).get("axis") == CHANNELS and readers[node.input[0]] == 1
        ):
            continue
        sources = node.input[:1] if concat is None else list(concat.input)
        activations = [
            makers[name]
            for name in sources
            if name in makers and readers[name] == 1 and _commutes(makers[name], constants)
        ]
        if len(activations) == len(sources):
            return _Swap(node, activations, concat)
    return None


def _commutes(node: NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    """Whether the node is a nondecreasing function, the same all over a window."""
    entry = ACTIVATIONS.get(node.op_type)
    if entry is None:
        return False
    if node.op_type == "LeakyRelu":
        return float(attributes_of(node).get("alpha", 0.0)) >= 0
    if node.op_type == "PRelu":
        if node.input[1] not in constants:
            return False
        slope = array_of(constants[node.input[1]])
        windowed = slope.shape[1:] if slope.ndim < CHANNELS + 2 else slope.shape[CHANNELS + 1 :]
        return bool((slope >= 0).all()) and all(size == 1 for size in windowed)
    return entry.nondecreasing


def _free(graph: onnx.GraphProto, wish: str) -> str:
    """A name that no tensor of the graph has."""
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    return free_name(wish, taken.__contains__)


def _apply(model: onnx.ModelProto, swap: _Swap) -> None:
    graph = model.graph
    values = {value.name: value for value in [*graph.value_info, *graph.output]}
    shapes = {name: tensor_shape(value) for name, value in values.items()}
    result = swap.pooling.output[0]
    window = shapes[result]
    replaced: dict[str, list[NodeProto]] = {result: []}  # first output of a node to its successors
    joined = []
    for activation in swap.activations:
        source, old = activation.input[0], activation.output[0]
        new = result if swap.concat is None else _free(graph, f"{old}.pooled")
        shape = (*window[:CHANNELS], shapes[old][CHANNELS], *window[CHANNELS + 1 :])
        pooling, after = NodeProto(), NodeProto()
        pooling.CopyFrom(swap.pooling)
        pooling.name = f"{activation.name or old}.{swap.pooling.name or result}"
        pooling.input[0], pooling.output[0] = source, _free(graph, f"{old}.input_pooled")
        after.CopyFrom(activation)
        after.input[0], after.output[0] = pooling.output[0], new
        replaced[old] = [pooling, after]
        _describe(graph, pooling.output[0], shape)
        if swap.concat is not None:
            _describe(graph, new, shape)
        joined.append(new)
    if swap.concat is not None:
        concat = NodeProto()
        concat.CopyFrom(swap.concat)
        del concat.input[:]
        concat.input.extend(joined)
        concat.output[0] = result
        replaced[swap.concat.output[0]] = [concat]
    nodes = [new for node in graph.node for new in replaced.get(node.output[0], [node])]
    kept = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    made = {name for node in kept for name in node.output}
    outputs = {output.name for output in graph.output}
    del graph.node[:]
    graph.node.extend(kept)
    info = [value for value in graph.value_info if value.name in made - outputs]
    copied = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in info]
    del graph.value_info[:]
    graph.value_info.extend(copied)


def _describe(graph: onnx.GraphProto, name: str, shape: Shape) -> None:
    graph.value_info.append(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, list(shape))
    )
