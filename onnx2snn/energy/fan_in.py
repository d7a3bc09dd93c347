"""The fan-in of neurons: the connections that arrive at each, counted forwards.

Ones go forwards from neurons and inputs through affine nodes, pooling and weights replaced by
(weight ≠ 0), up to the next neuron; what meets weights as a value, and what other nonlinear
operators send, starts again with one. The sum over the neurons of a layer is that of the fan-out of
those before it, where no value is in between.
"""

import numpy as np
import onnx
from onnx import NodeProto, helper

from onnx2snn.energy.fan_out import ELEMENTWISE, Array, FanOut, axis_masks
from onnx2snn.energy.synapses import OPSET
from onnx2snn_runtime.files.beside import array_of
from onnx2snn_runtime.format import DOMAIN
from onnx2snn_runtime.neurons import parse_node
from onnx2snn_runtime.nodes import attributes_of, run_node
from onnx2snn_runtime.ops import Call
from onnx2snn_runtime.ops.windows import make_windows
from onnx2snn_runtime.planning.weighted import sides

POOLS = {"MaxPool": "AveragePool", "GlobalMaxPool": "GlobalAveragePool", "ReduceMax": "ReduceSum"}


class FanIn:
    """Fan-ins of the tensors of a spiking network, each computed once.

    Args:
        model: the network.
        network: its fan-outs, which know what is constant and what holds values.
    """

    def __init__(self, model: onnx.ModelProto, network: FanOut) -> None:
        self.network = network
        self.makers = {name: node for node in model.graph.node for name in node.output if name}
        self.known: dict[str, Array] = {}

    def of(self, tensor: str) -> Array:
        """Connections that arrive at every element of ``tensor``, [1,*]."""
        if tensor not in self.known:
            self.known[tensor] = self.arriving(tensor)
        return self.known[tensor]

    def arriving(self, tensor: str) -> Array:
        """``of``, computed."""
        if tensor in self.network.weights or self.network.static(tensor) is not None:
            return np.zeros(1)
        node = self.makers.get(tensor)
        pools = node is not None and node.op_type in POOLS
        if node is None or (tensor in self.network.graded and not pools):
            return np.ones(self.network.shapes[tensor])
        if node.domain == DOMAIN:
            is_readout = parse_node(node).is_readout
            return self.of(node.input[0]) if is_readout else np.ones(self.network.shapes[tensor])
        if sides(node, self.network.weights):
            return self.weighted(node)
        return self.moved(node, tensor)

    def weighted(self, node: NodeProto) -> Array:
        """The node with weights replaced by (weight ≠ 0), without its bias."""
        found = sides(node, self.network.weights)
        assert found is not None
        signal, stored = found
        mask = array_of(self.network.weights[node.input[stored]]) != 0
        source = node.input[signal]
        counts = (
            np.ones(self.network.shapes[source]) if source in self.network.sums else self.of(source)
        )
        feeds = {"x": counts, "w": mask.astype(np.float64)}
        bare = NodeProto()
        bare.CopyFrom(node)
        bare.input[:] = ["x", "w"] if signal == 0 else ["w", "x"]
        result: Array = run_node(bare, feeds, self.network.opset)[0]
        return result

    def moved(self, node: NodeProto, tensor: str) -> Array:
        """What an affine node, or pooling, makes of the connections at its inputs."""
        shape = self.network.shapes[tensor]
        if node.op_type in POOLS:
            added = NodeProto()
            added.CopyFrom(node)
            added.op_type = POOLS[node.op_type]
            return self.moved(added, tensor)
        if node.op_type in ELEMENTWISE:
            added = node.input[1:] if node.op_type == "Where" else node.input
            return np.broadcast_to(sum(self.of(name) for name in added if name), shape)
        first = self.of(node.input[0])
        if node.op_type == "Resize":
            for axis, mask in axis_masks(self.network, node, first.shape, shape):
                first = np.moveaxis(np.tensordot(mask.T, first, axes=(1, axis)), 0, axis)
            return first
        if node.op_type == "AveragePool":
            return _window_sums(node, first)
        if node.op_type in ("GlobalAveragePool", "ReduceMean", "ReduceSum"):
            lost = first.size / max(1, int(np.prod(shape)))
            counts: Array = self.run(node, tensor)
            return counts if node.op_type == "ReduceSum" else counts * lost
        if not self.network.hands_on(node, node.input[0]):
            return np.ones(shape)  # what another operator makes of values is a value
        return self.run(node, tensor)

    def run(self, node: NodeProto, tensor: str) -> Array:
        """The node itself on counts."""
        results = self.network.run(node, lambda index: self.of(node.input[index]))
        return results[[name for name in node.output if name].index(tensor)]


def _window_sums(node: NodeProto, counts: Array) -> Array:
    """Sums over the windows of a pool; the last ones may reach beyond its padding."""
    attributes = attributes_of(node)
    channels, *sizes = counts.shape[1:]
    kernel, ceil_mode = attributes["kernel_shape"], bool(attributes.get("ceil_mode", 0))
    windows = make_windows(Call(np, attributes, OPSET), sizes, kernel, ceil_mode)
    adds = helper.make_node(
        "Conv", ["x", "w"], ["y"], group=channels, strides=windows.strides,
        dilations=windows.dilations, pads=[*windows.before, *windows.behind(sizes)],
    )  # fmt: skip
    result: Array = run_node(adds, {"x": counts, "w": np.ones((channels, 1, *kernel))}, OPSET)[0]
    return result
