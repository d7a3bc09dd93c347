"""Layers that see several parts of an image, such as frames or tokens, as images of their own."""

from collections.abc import Callable, Sequence
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

PRODUCTS = ("Mul", "Div", "MatMul")
ROWS = ("Softmax", "LogSoftmax", "LayerNormalization")
Spread = Callable[[int, list[int]], list[int]]
"""Parts of an image and the shape of one, to the shape of the image."""


class MergedBatch(Pass):
    """f on [k·N, C, …] is f on [N, k·C, …], for f that works element by element or per channel.

    And on [N, k, C, …] for products of two signals and for what looks along the last axis. A layer
    with a state has one for every element of an image, so that its first axis must be the images.
    """

    name = "merged-batch"

    def run(self, model: ir.Model) -> ir.Model:
        """Put Reshapes around such nodes, none between two in a row."""
        opened: dict[tuple[ir.Value, Spread], ir.Value] = {}
        for node in list(model.graph):
            moving = [
                value for value in node.inputs if value is not None and constant(value) is None
            ]
            parts = _parts(dims(moving[0])) if moving else 0
            if parts and _is_per_element(node):
                self.spread(node, moving[:1], parts, _as_channels, opened)
            elif parts and _is_per_row(node, moving):
                self.spread(node, moving, parts, _as_axis, opened)
        return model

    def spread(
        self,
        node: ir.Node,
        moving: Sequence[ir.Value],
        parts: int,
        spread: Spread,
        opened: dict[tuple[ir.Value, Spread], ir.Value],
    ) -> None:
        """Parts to images in front of the node, and back behind it.

        ``opened``: what was closed, or opened already, to what it was or became.
        """
        graph, result = graph_of(node), node.outputs[0]
        for before in dict.fromkeys(moving):
            if (before, spread) not in opened:
                opening = _reshape(graph, before, spread(parts, _sizes(before)), "parts")
                graph.insert_before(node, opening)
                opened[before, spread] = opening.outputs[0]
            for index, value in enumerate(node.inputs):
                if value is before:
                    node.replace_input_with(index, opened[before, spread])
        closing = _reshape(graph, result, _sizes(result), "whole")
        closing.outputs[0].shape = result.shape
        result.shape = ir.Shape([BATCH, *spread(parts, _sizes(result))])
        graph.insert_after(node, closing)
        redirect(result, closing.outputs[0])
        closing.replace_input_with(0, result)
        opened[closing.outputs[0], spread] = result
        self.note(node.name, f"{label(node)}: {parts} parts of an image are one image for it")


def _as_channels(parts: int, sizes: list[int]) -> list[int]:
    return [parts * prod(sizes[:1]), *sizes[1:]]


def _as_axis(parts: int, sizes: list[int]) -> list[int]:
    return [parts, *sizes]


def _sizes(value: ir.Value) -> list[int]:
    """Shape of one part."""
    return [size for size in (dims(value) or [])[1:] if isinstance(size, int)]


def _reshape(graph: ir.Graph, source: ir.Value, sizes: list[int], suffix: str) -> ir.Node:
    """A Reshape, not yet in the graph, of a value to [-1, *sizes]."""
    name = fresh_name(graph, f"{label(source)}.{suffix}")
    target = add_constant(graph, f"{name}.shape", np.array([-1, *sizes], np.int64))
    node = ir.node("Reshape", [source, target], name=name)
    node.outputs[0].name, node.outputs[0].type = name, source.type
    node.outputs[0].shape = ir.Shape([BATCH, *sizes])
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


def _is_per_row(node: ir.Node, moving: Sequence[ir.Value]) -> bool:
    """Whether the node looks along the last axes only, which one more in front does not move."""
    ranks = {len(dims(value) or []) for value in moving}
    if len({_parts(dims(value)) for value in moving}) != 1 or len(ranks) != 1:
        return False
    (rank,) = ranks
    if is_op(node, *PRODUCTS):
        return len(moving) == 2 and (node.op_type != "MatMul" or rank > 2)
    if not is_op(node, *ROWS) or len(node.outputs) > 1 or len(moving) > 1:
        return False
    is_last = node.attributes.get_int("axis", -1) in (-1, rank - 1)
    if is_last:
        node.attributes["axis"] = ir.AttrInt64("axis", -1)
    return is_last
