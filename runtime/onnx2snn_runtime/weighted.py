"""Which nodes meet stored weights, and where values arrive at them instead of spikes."""

from collections.abc import Callable, Collection, Iterable, Mapping

from onnx import NodeProto, TensorProto

from onnx2snn_runtime.beside import array_of
from onnx2snn_runtime.ops.behaviour import WEIGHTED


def is_weighted(node: NodeProto, weights: Mapping[str, TensorProto]) -> bool:
    """Whether the first input meets stored weights: not where windows are only added up."""
    stored = node.op_type in WEIGHTED and node.input[1] in weights
    return stored and not is_window_sum(node, weights)


def is_window_sum(node: NodeProto, weights: Mapping[str, TensorProto]) -> bool:
    """Whether this is a depthwise convolution of ones: average pooling in whole numbers."""
    if node.op_type != "Conv" or node.input[1] not in weights or len(node.input) > 2:
        return False
    channels, *per_group = weights[node.input[1]].dims[:2]
    group = next((a.i for a in node.attribute if a.name == "group"), 1)
    depthwise = group == channels and per_group == [1]
    return depthwise and bool((array_of(weights[node.input[1]]) == 1).all())


def tensors_of_values(
    nodes: Iterable[NodeProto], sends_values: Callable[[NodeProto], bool | None]
) -> set[str]:
    """Tensors that hold values instead of spikes.

    Args:
        nodes: in their order.
        sends_values: tells of a node whether it does, or None if it hands on what it gets.
    """
    found: set[str] = set()
    for node in nodes:
        verdict = sends_values(node)
        if verdict or (verdict is None and any(name in found for name in node.input)):
            found.update(name for name in node.output if name)
    return found


def values_at_weights(
    nodes: Iterable[NodeProto], weights: Mapping[str, TensorProto], values: Collection[str]
) -> set[str]:
    """Those of ``values`` that meet stored weights: a multiplication each."""
    return {node.input[0] for node in nodes if is_weighted(node, weights)} & set(values)
