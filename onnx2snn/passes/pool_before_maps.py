"""Maximum pooling in front of maps per channel that weights before it cannot take up."""

import onnx_ir as ir

from onnx2snn.passes.affine import LAYOUT, recognise
from onnx2snn.passes.base import Pass
from onnx2snn.passes.graph import constant, graph_of, is_op, label, sole_reader
from onnx2snn.passes.weights import is_weighted

POOLINGS = ("MaxPool", "GlobalMaxPool")


class PoolBeforeMaps(Pass):
    """max over a window of (s·x + t) = s·(max over the window of x) + t, for every s > 0.

    Keras networks often normalise behind the activation and pool behind that. With the pooling in
    front it reads spikes, which it can hand on as spikes, and the map is next to the weights behind
    it, which may take it up. A map whose producer has weights stays: they take it up.
    """

    name = "pool-before-maps"

    def run(self, model: ir.Model) -> ir.Model:
        """Exchange pooling and map until nothing is left to exchange."""
        for pooling in list(model.graph):
            if not is_op(pooling, *POOLINGS) or pooling.outputs[0].is_graph_output():
                continue
            while (found := self.map_before(pooling)) is not None:
                node, source = found
                exchange(node, source, pooling)
                self.note(node.name, f"{label(pooling)} goes in front of {label(node)}")
        return model

    def map_before(self, pooling: ir.Node) -> tuple[ir.Node, ir.Value] | None:
        """The map in front of a pooling and what it maps, if they can be exchanged."""
        value = pooling.inputs[0]
        node = None if value is None else value.producer()
        if value is None or node is None or sole_reader(value) is not pooling:
            return None
        found = recognise(node)
        if found is None or isinstance(found, str):
            return None
        source, affine = found
        if _weights_before(source):
            return None
        reason = ""
        if not (affine.scale > 0).all():
            reason = "some of its factors are not positive"
        elif not _is_per_channel(node):
            reason = "it differs along the pooled axes"
        if reason:
            text = f"{node.op_type} {label(node)} stays before {label(pooling)}: {reason}"
            self.note(node.name, text)
            return None
        return node, source


def _weights_before(value: ir.Value | None) -> bool:
    """Whether the maps in front of a value are next to weights, which will take them up."""
    node = None if value is None else value.producer()
    while node is not None and (is_op(node, *LAYOUT) or recognise(node) is not None):
        source = next((item for item in node.inputs if constant(item) is None), None)
        node = None if source is None else source.producer()
    return is_weighted(node)


def _is_per_channel(node: ir.Node) -> bool:
    """Whether the constants of a map fit its input whatever the sizes of the pooled axes."""
    if node.op_type in ("BatchNormalization", "Neg"):
        return True
    pooled = len(node.outputs[0].shape or ()) - 2
    numbers = next(array for array in map(constant, node.inputs) if array is not None)
    return all(size == 1 for size in numbers.shape[-pooled:])


def exchange(node: ir.Node, source: ir.Value, pooling: ir.Node) -> None:
    """Put ``node``, a map of ``source`` that ``pooling`` alone reads, behind it."""
    changed, pooled = node.outputs[0], pooling.outputs[0]
    index = list(node.inputs).index(source)
    pooled.replace_all_uses_with(changed)
    pooling.replace_input_with(0, source)
    node.replace_input_with(index, pooled)
    changed.shape = pooled.shape
    graph = graph_of(node)
    graph.remove(node)
    graph.insert_after(pooling, node)
