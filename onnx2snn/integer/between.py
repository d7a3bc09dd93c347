"""A neuron between any two weighted layers: sums of sums would leave the range of whole numbers.

Where weights meet the output of other weights with no activation between them, as in the linear
bottlenecks of MobileNetV2, a Clip without bounds is put: the identity, which spikes like any other
activation, in both directions.
"""

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from onnx2snn.integer import pooling, rules  # noqa: F401  (registration)
from onnx2snn.integer.registry import MERGES, RULES
from onnx2snn.rewrite import HUGE
from onnx2snn_runtime.neurons import ACTIVATIONS
from onnx2snn_runtime.ops.behaviour import WEIGHTED
from onnx2snn_runtime.plan import tensor_shape


def with_neurons_between(network: onnx.ModelProto) -> onnx.ModelProto:
    """A normalised network with a spiking identity wherever weights follow weights."""
    result = onnx.ModelProto()
    result.CopyFrom(network)
    _Inserter(result).run()
    return result


class _Inserter:
    def __init__(self, network: onnx.ModelProto) -> None:
        self.graph = network.graph
        self.makers = {name: node for node in self.graph.node for name in node.output}
        self.known: dict[str, bool] = {}
        for node in self.graph.node:
            self.known.update(dict.fromkeys(node.output, self.makes_sums(node)))
        self.made: dict[str, NodeProto] = {}

    def makes_sums(self, node: NodeProto) -> bool:
        """Whether the output holds sums over weights that no activation has seen."""
        if node.op_type in WEIGHTED:
            return True
        linear = node.op_type in RULES and node.op_type not in ACTIVATIONS
        return linear and any(self.known.get(name, False) for name in node.input)

    def run(self) -> None:
        for node in list(self.graph.node):
            if node.op_type in WEIGHTED and self.known.get(node.input[0], False):
                self.separate(node, 0)
        if not self.made:
            return
        nodes = []
        for node in self.graph.node:
            nodes.append(node)
            nodes.extend(self.made[name] for name in node.output if name in self.made)
        copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del self.graph.node[:]
        self.graph.node.extend(copies)
        for name, value in (("identity.low", -HUGE), ("identity.high", HUGE)):
            self.graph.initializer.append(
                numpy_helper.from_array(np.array(value, np.float32), name)
            )

    def separate(self, node: NodeProto, index: int) -> None:
        """Let an input of a node come from a neuron, or the inputs of what only moves it."""
        source = node.input[index]
        maker = self.makers.get(source)
        if maker is None or not self.known.get(source, False):
            return
        if maker.op_type in (*WEIGHTED, *MERGES):
            node.input[index] = self.neuron(source).output[0]
            return
        for position in range(len(maker.input)):
            self.separate(maker, position)

    def neuron(self, source: str) -> NodeProto:
        """The identity behind a tensor, made once."""
        if source not in self.made:
            output = f"{source}.spikes"
            self.made[source] = helper.make_node(
                "Clip", [source, "identity.low", "identity.high"], [output], output
            )
            values = [*self.graph.value_info, *self.graph.output]
            known = next(value for value in values if value.name == source)
            self.graph.value_info.append(
                helper.make_tensor_value_info(output, TensorProto.FLOAT, tensor_shape(known))
            )
        return self.made[source]
