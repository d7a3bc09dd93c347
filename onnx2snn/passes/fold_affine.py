"""Channel-affine folding: BatchNormalization and constant Mul, Add, Sub, Div go into weights."""

from functools import reduce

import numpy as np
import onnx_ir as ir

from onnx2snn.passes.affine import LAYOUT, Affine, carry, recognise
from onnx2snn.passes.base import Pass
from onnx2snn.passes.graph import (
    add_constant,
    bypass,
    graph_of,
    is_op,
    label,
    sole_reader,
    substitute,
)
from onnx2snn.passes.weights import absorb_ahead, absorb_behind, is_weighted

LARGE_GAIN = 30.0


class FoldAffine(Pass):
    """s·(W·x + b) + t = (s·W)·x + (s·b + t): a map y = s·x + t per channel goes into weights.

    Into the weights of its producer, else of its reader, each if nobody else sees the value between
    them; Reshape and Transpose between them are followed. Maps in a row become one. What remains
    is one linear operator, and the note says why it remains.
    """

    name = "fold-affine"

    def run(self, model: ir.Model) -> ir.Model:
        """Fold backward, then what is left forward."""
        reasons: dict[ir.Node, str] = {}
        for node in list(model.graph):
            self.fold_backward(node, reasons)
        done: set[ir.Node] = set()
        for node in list(model.graph):
            if node in reasons and node not in done:
                chain = self.chain(node)
                done.update(chain)
                self.fold_forward(chain, reasons)
        return model

    def fold_backward(self, node: ir.Node, reasons: dict[ir.Node, str]) -> None:
        """Push the map into the weights behind it, or record why not."""
        found = recognise(node)
        if found is None:
            return
        if isinstance(found, str):
            reasons[node] = found
            return
        value, affine = found
        if affine.is_scale and affine.is_shift and bypass(node, value):
            self.note(node.name, f"{node.op_type} {label(node)} removed: it changes nothing")
            return
        start = value
        reason, producer = "", value.producer()
        while not reason and is_op(producer, *LAYOUT) and producer is not None:
            reason = _shared(value)
            if not reason:
                carried = carry(affine, producer, backward=True)
                if isinstance(carried, str):
                    reason = carried
                else:
                    affine = carried
                    value = producer.inputs[0] or value
                    producer = value.producer()
        reason = reason or _shared(value) or self.into_producer(producer, node, affine)
        if reason:
            reasons[node] = reason
            return
        bypass(node, start)
        self.note(node.name, f"{node.op_type} {label(node)} folded into {label(producer)}")

    def into_producer(self, producer: ir.Node | None, node: ir.Node, affine: Affine) -> str:
        """Absorb into the producer; of a MatMul only the scale, the shift stays as an Add."""
        if producer is None:
            return "its input is an input of the model"
        if not is_weighted(producer):
            return f"its producer {label(producer)} has no weights"
        if is_op(producer, "MatMul") and not affine.is_shift and not affine.is_scale:
            only = Affine(affine.scale, np.zeros_like(affine.shift))
            shift = affine.along(affine.shift.ndim - 1)
            if shift is not None and node.inputs[0] is producer.outputs[0]:
                reason = absorb_behind(producer, only)
                if not reason:
                    numbers = shift[1].astype(np.float32)
                    added = add_constant(graph_of(node), f"{label(node)}.shift", numbers)
                    substitute(node, "Add", [producer.outputs[0], added])
                    text = f"scale of {node.op_type} {label(node)} folded into {label(producer)}"
                    self.note(node.name, f"{text}; its shift stays, MatMul has no bias")
                return reason or "its shift stays"
        return absorb_behind(producer, affine)

    def chain(self, node: ir.Node) -> list[ir.Node]:
        """The affine nodes in a row that start here, each the sole reader of the one before."""
        nodes = [node]
        while True:
            reader = sole_reader(nodes[-1].outputs[0])
            found = None if reader is None else recognise(reader)
            if reader is None or found is None or isinstance(found, str):
                return nodes
            nodes.append(reader)

    def fold_forward(self, chain: list[ir.Node], reasons: dict[ir.Node, str]) -> None:
        """Pull the maps of a chain into the weights ahead of it, or leave one operator."""
        found = [recognise(node) for node in chain]
        maps = [item for item in found if item is not None and not isinstance(item, str)]
        names = ", ".join(f"{node.op_type} {label(node)}" for node in chain)
        if len(maps) != len(chain):
            self.note(chain[0].name, f"{names} not folded: {reasons[chain[0]]}")
            return
        source = maps[0][0]
        affine = reduce(lambda inner, outer: inner.then(outer), [item[1] for item in maps])
        value, reason = chain[-1].outputs[0], ""
        reader = sole_reader(value)
        while not reason and is_op(reader, *LAYOUT) and reader is not None:
            carried = carry(affine, reader, backward=False)
            if isinstance(carried, str):
                reason = carried
            else:
                affine, value = carried, reader.outputs[0]
                reader = sole_reader(value)
        if not reason:
            reason = _not_ahead(value, reader)
        if not reason and reader is not None:
            reason = absorb_ahead(reader, value, affine)
        if reason:
            both = "; ".join(dict.fromkeys([reasons.get(chain[0], ""), reason]))
            self.note(chain[0].name, f"{names} not folded: {both}")
            self.warn_of_gain(chain[0], names, affine)
            self.merge(chain, source, maps)
            return
        for node in chain:
            bypass(node, source)
        self.note(chain[0].name, f"{names} folded into {label(reader)}")

    def warn_of_gain(self, node: ir.Node, names: str, affine: Affine) -> None:
        """Say so where a map that stays multiplies one spurious spike by a large number."""
        gains = np.abs(affine.scale)
        largest, usual = float(gains.max()), float(np.median(gains))
        if largest <= LARGE_GAIN * max(usual, 1.0):
            return
        vectors = affine.along(1)
        channel = "" if vectors is None else f" in channel {int(np.argmax(np.abs(vectors[0])))}"
        self.note(
            node.name,
            f"{names} multiplies by up to {largest:.4g}{channel} ({usual:.3g} is usual), and so "
            "each spurious spike before it: a variance near zero in training; prune the channel, "
            "or use a recipe with signed neurons",
            is_warning=True,
        )

    def merge(
        self, chain: list[ir.Node], source: ir.Value, maps: list[tuple[ir.Value, Affine]]
    ) -> None:
        """Several maps in a row become one BatchNormalization where they are one per channel."""
        affine = reduce(lambda inner, outer: inner.then(outer), [item[1] for item in maps])
        vectors = affine.along(1)
        if len(chain) < 2 or vectors is None:
            return
        graph, name = graph_of(chain[-1]), label(chain[-1])
        scale, shift = (vector.astype(np.float32) for vector in vectors)
        parameters = [
            add_constant(graph, f"{name}.scale", scale),
            add_constant(graph, f"{name}.shift", shift),
            add_constant(graph, f"{name}.mean", np.zeros_like(scale)),
            add_constant(graph, f"{name}.variance", np.ones_like(scale)),
        ]
        last = substitute(chain[-1], "BatchNormalization", [source, *parameters], {"epsilon": 0.0})
        for node in reversed(chain[:-1]):
            graph.remove(node, safe=True)
        self.note(last.name, f"{len(chain)} maps in a row are now one BatchNormalization {name}")


def _shared(value: ir.Value) -> str:
    """Why a value cannot change its meaning, or an empty string."""
    if value.is_graph_output():
        return f"its input {label(value)} is an output of the model"
    if value.is_graph_input():
        return "its input is an input of the model"
    count = len(list(value.uses()))
    if count > 1:
        return f"its input {label(value)} is read by {count} nodes"
    return ""


def _not_ahead(value: ir.Value, reader: ir.Node | None) -> str:
    if reader is not None:
        return "" if is_weighted(reader) else f"its reader {label(reader)} has no weights"
    if value.is_graph_output():
        return f"{label(value)} is an output of the model"
    return f"{label(value)} is read by {len(list(value.uses()))} nodes"
