"""Operations of the ANN: multiplications, node by node and layer by layer."""

from collections.abc import Collection
from math import prod

import onnx

from onnx2snn.energy.synapses import weights_met
from onnx2snn_runtime.planning.plan import tensor_shape
from onnx2snn_runtime.planning.weighted import signal_at


def shapes_of(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor for a batch of one image."""
    graph = model.graph
    return {
        value.name: tuple(map(_of_one, tensor_shape(value)))
        for value in [*graph.value_info, *graph.input, *graph.output]
    }


def _of_one(size: int | str) -> int:
    """A size for one image: of N it is 1, of 32*N it is 32.

    >>> _of_one(7), _of_one("N"), _of_one("32*N")
    (7, 1, 32)
    """
    if isinstance(size, int):
        return size
    return prod(int(factor) for factor in size.split("*") if factor.isdecimal())


def multiplications(model: onnx.ModelProto) -> dict[str, int]:
    """Multiply-accumulates per image of each weighted node, without padding taps and zero weights.

    Returns:
        Node name to count.
    """
    weights = {item.name: item for item in model.graph.initializer}
    shapes = shapes_of(model)
    return {
        node.name: int(back.sum())
        for node in model.graph.node
        if signal_at(node, weights) in shapes
        for back in [weights_met(node, weights, shapes)]
    }


def macs_between(model: onnx.ModelProto, layers: Collection[str]) -> dict[str, int]:
    """Multiply-accumulates per image between layers and those before them.

    Args:
        model: the ANN.
        layers: outputs of the layers.

    Returns:
        Output of each layer to the count of the weighted nodes that lead to it and to no layer in
        between; a node that leads to several counts for the first.
    """
    macs = multiplications(model)
    left = set(macs)
    met: dict[str, set[str]] = {}  # weighted nodes since the layers before, by tensor
    found: dict[str, int] = {}
    for node in model.graph.node:
        behind = set[str]().union(*(met.get(name, set()) for name in node.input), {node.name})
        for name in node.output:
            met[name] = behind & left
            if name in layers:
                found[name] = sum(macs[item] for item in met[name])
                left -= met[name]
                met[name] = set()
    return found
