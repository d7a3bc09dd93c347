"""A relay between any two weighted layers: sums of sums would leave the range of whole numbers."""

import onnx
from onnx import NodeProto

from onnx2snn.integer import pooling, rules  # noqa: F401  (registration)
from onnx2snn.integer.registry import MERGES, RULES
from onnx2snn.rewriting.relays import Relays
from onnx2snn_runtime.neurons import ACTIVATIONS
from onnx2snn_runtime.ops.behaviour import WEIGHTED
from onnx2snn_runtime.planning.weighted import tensors_of_values


def with_neurons_between(network: onnx.ModelProto) -> onnx.ModelProto:
    """A normalised network with a relay wherever weights follow weights.

    It stands right behind the sums, or behind the place where several meet.
    """
    relays = Relays(network)
    makers = {name: node for node in relays.nodes for name in node.output}
    sums = tensors_of_values(relays.nodes, _makes_sums)

    def separate(node: NodeProto, index: int) -> None:
        """Let an input of a node come from a relay, or the inputs of what only moves it."""
        source = node.input[index]
        if source not in sums:
            return
        maker = makers[source]
        if maker.op_type in (*WEIGHTED, *MERGES):
            node.input[index] = relays.behind(source)
            return
        for position in range(len(maker.input)):
            separate(maker, position)

    for node in relays.nodes:
        if node.op_type in WEIGHTED:
            separate(node, 0)
    return relays.finished()


def _makes_sums(node: NodeProto) -> bool | None:
    """Whether the output holds sums over weights that no activation has seen."""
    if node.op_type in WEIGHTED:
        return True
    return None if node.op_type in RULES and node.op_type not in ACTIVATIONS else False
