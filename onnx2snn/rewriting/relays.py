"""Relay neurons: the identity as a neuron, in front of weights that would meet values.

Values are what gates and other graded operators send, and sums over weights that meet weights again
with no activation in between, as in the linear bottlenecks of MobileNetV2. A value costs a
multiplication for every weight, at every step in which it changes. A relay is a Clip without
bounds: it spikes like any other activation, in both directions, and costs an error of its own.
"""

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from onnx2snn.rewriting.classify import classify, values_met
from onnx2snn.rewriting.rewrite import HUGE
from onnx2snn_runtime.format import BATCH
from onnx2snn_runtime.naming import free_name
from onnx2snn_runtime.planning.plan import tensor_shape
from onnx2snn_runtime.planning.weighted import sides


def with_relays(network: onnx.ModelProto, *, pools: bool) -> tuple[onnx.ModelProto, int]:
    """Put a relay wherever values between neurons meet weights.

    Args:
        network: the ANN in its normal form; it is not changed.
        pools: whether pooling hands on values, as in the refining code.

    Returns:
        The same function, and the number of relays.
    """
    relays = Relays(network)
    weights = {item.name: item for item in relays.graph.initializer}
    met = values_met(network, classify(network, allow_analog=True), pools=pools)
    met = {name for name in met if relays.shapes[name][:1] == (BATCH,)}  # a state for every image
    for node in relays.nodes:
        found = sides(node, weights)
        if found and node.input[found[0]] in met:
            node.input[found[0]] = relays.behind(node.input[found[0]])
    return relays.finished(), len(relays.made)


class Relays:
    """A copy of a network into which relays are put, one behind a tensor at most.

    Attributes:
        graph: its graph.
        nodes: the nodes that it had; what they read may be changed.
    """

    def __init__(self, network: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(network)
        self.graph = self.model.graph
        self.nodes = list(self.graph.node)
        values = [*self.graph.value_info, *self.graph.output]
        self.shapes = {value.name: tensor_shape(value) for value in values}
        self.made: dict[str, NodeProto] = {}
        parts = (*self.graph.input, *self.graph.initializer, *self.graph.node)
        self.taken = {item.name for item in parts} | {x for n in self.nodes for x in n.output}
        self.bounds = self.unique("relay.low"), self.unique("relay.high")

    def unique(self, name: str) -> str:
        """``name``, with a number if it is taken."""
        found = free_name(name, self.taken.__contains__)
        self.taken.add(found)
        return found

    def behind(self, tensor: str) -> str:
        """Output of the relay behind a tensor."""
        if tensor not in self.made:
            output = self.unique(f"{tensor}.relay")
            self.made[tensor] = helper.make_node("Clip", [tensor, *self.bounds], [output], output)
            self.graph.value_info.append(
                helper.make_tensor_value_info(output, TensorProto.FLOAT, self.shapes[tensor])
            )
        return str(self.made[tensor].output[0])

    def finished(self) -> onnx.ModelProto:
        """The network with its relays, each right behind what it reads."""
        if not self.made:
            return self.model
        nodes = []
        for node in self.nodes:
            nodes.append(NodeProto.FromString(node.SerializeToString()))
            nodes.extend(self.made[name] for name in node.output if name in self.made)
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        for name, value in zip(self.bounds, (-HUGE, HUGE), strict=True):
            self.graph.initializer.append(
                numpy_helper.from_array(np.array(value, np.float32), name)
            )
        return self.model
