"""Neurons on shortcuts have a second, finer output for the way on which no weights are met.

Around a residual block an activation goes on without weights, x_(l+1) = f(x_l + F(x_l)). A spike
on this way meets one addition, and tens or hundreds of weights on the way through F. Were both sent
in the same units, their roundings would add up from block to block, and every later layer would
take them back, step after step. The finer output (``RefineFurther``) sends only on the shortcut
what the first one leaves, so that what F reads can be coarser by far for the same error.
"""

from collections.abc import Iterable
from math import prod

import onnx
from onnx import NodeProto

from onnx2snn.rewriting.classify import Placed, Role
from onnx2snn_runtime.ops.behaviour import WEIGHTED
from onnx2snn_runtime.planning.plan import tensor_shape
from onnx2snn_runtime.planning.weighted import sides

WORTH = 32  # weights that a spike must meet on the other way, for one addition here
Reading = tuple[str, str]
"""A node and a tensor that it reads, by name."""


def shortcuts(model: onnx.ModelProto, placed: Iterable[Placed]) -> set[Reading]:
    """Where activations that meet many weights elsewhere go on without meeting any.

    Args:
        model: the ANN in its normal form.
        placed: its nodes with their roles.

    Returns:
        The first nodes on these ways, with the activations that they read.
    """
    graph = _Graph(model, list(placed))
    found: set[Reading] = set()
    for item in graph.placed:
        if item.role is Role.NEURON:
            activation = item.node.output[0]
            readers = graph.readers.get(activation, [])
            if any(graph.weights_met(reader.node, activation) >= WORTH for reader in readers):
                found.update(
                    (reader.node.name, activation)
                    for reader in readers if graph.meets_no_weights(reader)
                )  # fmt: skip
    return found


class _Graph:
    """Who reads what, and what lies behind."""

    def __init__(self, model: onnx.ModelProto, placed: list[Placed]) -> None:
        self.placed = placed
        self.weights = {item.name: item for item in model.graph.initializer}
        self.outputs = {value.name for value in model.graph.output}
        values = [*model.graph.value_info, *model.graph.output]
        self.shapes = {value.name: tensor_shape(value) for value in values}
        self.readers: dict[str, list[Placed]] = {}
        for item in placed:
            for name in dict.fromkeys(item.node.input):
                self.readers.setdefault(name, []).append(item)
        self.known: dict[str, bool] = {}

    def weights_met(self, node: NodeProto, tensor: str) -> int:
        """Weights of a node that an element of a tensor meets, 0 where there are none."""
        found = sides(node, self.weights)
        channels = self.shapes.get(tensor, ())[1:2]
        if found is None or not channels or not isinstance(channels[0], int):
            return 0
        return int(prod(self.weights[node.input[found[1]]].dims)) // channels[0]

    def meets_no_weights(self, reader: Placed) -> bool:
        """Whether all ways through an affine node end at neurons, without weights in between."""
        node = reader.node
        if reader.role is not Role.LINEAR or node.op_type in WEIGHTED:
            return False
        if node.name not in self.known:
            self.known[node.name] = all(
                output not in self.outputs
                and all(
                    behind.role is Role.NEURON or self.meets_no_weights(behind)
                    for behind in self.readers.get(output, [])
                )
                for output in node.output
            )
        return self.known[node.name]
