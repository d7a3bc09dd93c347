"""Which nodes meet stored weights, and where values arrive at them instead of spikes."""

from collections.abc import Callable, Collection, Iterable, Mapping

from onnx import NodeProto, TensorProto

from onnx2snn_runtime.files.beside import array_of
from onnx2snn_runtime.ops.behaviour import WEIGHTED


def sides(node: NodeProto, weights: Mapping[str, TensorProto]) -> tuple[int, int] | None:
    """Indices of the input that meets stored weights, and of these; None where there are none.

    Weights may stand on either side of a matrix product. Where windows are only added up nothing
    is multiplied.
    """
    if node.op_type not in WEIGHTED or len(node.input) < 2:
        return None
    stored = [name in weights for name in node.input[:2]]
    if is_window_sum(node, weights) or all(stored):
        return None
    if stored[1]:
        return 0, 1
    return (1, 0) if stored[0] and node.op_type in ("MatMul", "Einsum") else None


def signal_at(node: NodeProto, weights: Mapping[str, TensorProto]) -> str:
    """Name of the tensor that meets stored weights in a node, or nothing."""
    found = sides(node, weights)
    return node.input[found[0]] if found else ""


def is_weighted(node: NodeProto, weights: Mapping[str, TensorProto]) -> bool:
    """Whether a tensor meets stored weights here."""
    return sides(node, weights) is not None


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
    return {signal_at(node, weights) for node in nodes}.intersection(values)
