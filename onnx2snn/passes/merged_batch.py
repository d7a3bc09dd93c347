"""Layers that see several parts of an image, such as frames or tokens, as images of their own."""

from math import prod

import numpy as np
import onnx_ir as ir

from onnx2snn.passes.base import Pass
from onnx2snn.passes.graph import (
    BATCH,
    add_constant,
    constant,
    dims,
    fresh_name,
    graph_of,
    is_op,
    label,
    redirect,
)
from onnx2snn.passes.pool_before_maps import POOLINGS
from onnx2snn_runtime.neurons import ACTIVATIONS


class MergedBatch(Pass):
    """f on [k·N, C, …] is f on [N, k·C, …], for f that works element by element or per channel.

    A layer with a state has a neuron for every element of an image, so that its first axis must be
    the images. The parts of an image become channels for it, and parts again behind it.
    """

    name = "merged-batch"

    def run(self, model: ir.Model) -> ir.Model:
        """Put Reshapes around activations and poolings, none between two in a row."""
        opened: dict[ir.Value, ir.Value] = {}
        for node in list(model.graph):
            parts = _parts(dims(node.inputs[0])) if node.inputs else 0
            if parts and _is_per_element(node):
                self.spread(node, parts, opened)
        return model

    def spread(self, node: ir.Node, parts: int, opened: dict[ir.Value, ir.Value]) -> None:
        """[k·N, C, …] to [N, k·C, …] in front of the node, and back behind it.

        ``opened``: what was closed already to what it was before.
        """
        graph, before, result = graph_of(node), node.inputs[0], node.outputs[0]
        sizes, after = (
            [size for size in (dims(value) or [])[1:] if isinstance(size, int)]
            for value in (before, result)
        )
        assert before is not None, "it has a shape"
        if before not in opened:
            wide = [parts * prod(sizes[:1]), *sizes[1:]]
            opening = _reshape(graph, before, wide, f"{label(result)}.parts")
            opening.outputs[0].shape = ir.Shape([BATCH, *wide])
            graph.insert_before(node, opening)
            opened[before] = opening.outputs[0]
        node.replace_input_with(0, opened[before])
        closing = _reshape(graph, result, after, f"{label(result)}.whole")
        closing.outputs[0].shape = result.shape
        graph.insert_after(node, closing)
        redirect(result, closing.outputs[0])
        closing.replace_input_with(0, result)
        opened[closing.outputs[0]] = result
        result.shape = ir.Shape([BATCH, parts * prod(after[:1]), *after[1:]])
        self.note(node.name, f"{label(node)}: {parts} parts of an image are channels of it")


def _reshape(graph: ir.Graph, source: ir.Value, sizes: list[int], wanted: str) -> ir.Node:
    """A Reshape, not yet in the graph, of a value to [-1, *sizes]."""
    name = fresh_name(graph, wanted)
    target = add_constant(graph, f"{name}.shape", np.array([-1, *sizes], np.int64))
    node = ir.node("Reshape", [source, target], name=name)
    node.outputs[0].name, node.outputs[0].type = name, source.type
    return node


def _parts(shape: list[int | str | None] | None) -> int:
    """k of a shape [k·N, numbers…], else 0."""
    if not shape or not isinstance(shape[0], str) or not all(isinstance(s, int) for s in shape[1:]):
        return 0
    factor, _, symbol = shape[0].partition("*")
    return int(factor) if symbol == BATCH and factor.isdecimal() else 0


def _is_per_element(node: ir.Node) -> bool:
    """Whether the node maps its first input without looking at other channels."""
    if is_op(node, *POOLINGS):
        return len(node.outputs) == 1
    numbers = [constant(value) for value in node.inputs[1:] if value is not None]
    return node.op_type in ACTIVATIONS and all(n is not None and n.size == 1 for n in numbers)
