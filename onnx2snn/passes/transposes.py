"""One Transpose of a value where an exporter wrote one on each way out of it."""

from collections import defaultdict

import onnx_ir as ir

from onnx2snn.passes.base import Pass
from onnx2snn.passes.graph import (
    dims,
    fresh_name,
    graph_of,
    is_op,
    label,
    readers,
    redirect,
    remove,
    scalar,
    sole_reader,
)


class SharedTransposes(Pass):
    """Transpose(f(x)) = f(Transpose(x)) for f of one number by one; equal Transposes of x are one.

    f is a chain of -x and of +, -, ·, / with one number.
    Only where several Transposes become one, as in the middle of an activation that is spelled
    out: `Gates` finds it afterwards.
    """

    name = "shared-transposes"

    def run(self, model: ir.Model) -> ir.Model:
        """Rewrite in place."""
        groups = defaultdict(list)
        for node in model.graph:
            order = node.attributes.get_ints("perm") if is_op(node, "Transpose") else None
            if order is not None and not node.outputs[0].is_graph_output():
                maps = _maps_before(node.inputs[0])
                x = maps[-1].inputs[_moving(maps[-1])] if maps else node.inputs[0]
                groups[x, tuple(order)].append((node, maps))
        for (x, order), found in groups.items():
            if x is not None and len(dims(x) or []) == len(order) and len(found) > 1:
                self.share(x, order, found)
        return model

    def share(
        self, x: ir.Value, order: tuple[int, ...], found: list[tuple[ir.Node, list[ir.Node]]]
    ) -> None:
        """Transpose x once, in front of all its readers."""
        graph = graph_of(found[0][0])
        first = min(readers(x), key=list(graph).index)
        name = fresh_name(graph, f"{label(x)}.transposed")
        shared = ir.node("Transpose", [x], {"perm": order}, name=name)
        moved = shared.outputs[0]
        moved.name, moved.type, moved.shape = name, x.type, _permuted(x, order)
        graph.insert_before(first, shared)
        for node, maps in found:
            for item in maps:
                item.outputs[0].shape = _permuted(item.outputs[0], order)
            if maps:
                maps[-1].replace_input_with(_moving(maps[-1]), moved)
            redirect(node.outputs[0], maps[0].outputs[0] if maps else moved)
            remove(node)
        self.note(name, f"{len(found)} Transposes behind {label(x)} are one")


def _maps_before(value: ir.Value | None) -> list[ir.Node]:
    """Nodes of f that lead to a value and to nothing else, the last first."""
    found: list[ir.Node] = []
    while value is not None and sole_reader(value) is not None:
        node = value.producer()
        index = -1 if node is None else _moving(node)
        if node is None or index < 0:
            break
        found.append(node)
        value = node.inputs[index]
    return found


def _moving(node: ir.Node) -> int:
    """Which input the node maps, where all else is one number; or -1."""
    if is_op(node, "Neg"):
        return 0
    if is_op(node, "Add", "Sub", "Mul", "Div"):
        for index in (0, 1):
            if scalar(node.inputs[1 - index]) is not None:
                return index
    return -1


def _permuted(value: ir.Value, order: tuple[int, ...]) -> ir.Shape | None:
    shape = dims(value)
    return None if shape is None else ir.Shape([shape[axis] for axis in order])
