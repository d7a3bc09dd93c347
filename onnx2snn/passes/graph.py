"""Small questions to a graph and small changes of it, shared by the passes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from onnx2snn.passes.base import Array
from onnx2snn_runtime.naming import free_name

BATCH = "N"
"""Symbol of the batch dimension."""


def graph_of(value: ir.Value | ir.Node) -> ir.Graph:
    """The graph that holds this value or node.

    Raises:
        TypeError: it is in no graph.
    """
    graph = value.graph
    if not isinstance(graph, ir.Graph):
        raise TypeError(f"{value} is not part of a graph")
    return graph


def label(item: ir.Node | ir.Value | None) -> str:
    """Name for a message."""
    return (item.name if item is not None else None) or "?"


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether the node is one of these standard operators."""
    return node is not None and node.domain in ("", "ai.onnx") and node.op_type in op_types


def constant(value: ir.Value | None) -> Array | None:
    """The array of an initialiser, or None for anything that is computed or fed."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    if value.producer() is not None and not is_op(value.producer(), "Constant"):
        return None
    return value.const_value.numpy()


def scalar(value: ir.Value | None) -> float | None:
    """The number in a constant of one element, or None."""
    array = constant(value)
    if array is None or array.size != 1:
        return None
    return float(array.reshape(-1)[0])


def input_at(node: ir.Node, index: int) -> ir.Value | None:
    """Input ``index``, or None where the node leaves it out."""
    return node.inputs[index] if index < len(node.inputs) else None


def dims(value: ir.Value | None) -> list[int | str | None] | None:
    """Shape as a list of numbers, symbols and None, or None where the rank is unknown."""
    if value is None or value.shape is None:
        return None
    return [dim if isinstance(dim, int) else dim.value for dim in value.shape.dims]


def sample_dims(value: ir.Value | None) -> tuple[int, ...] | None:
    """Shape without the batch, or None unless it is [N, numbers...]."""
    shape = dims(value)
    if not shape or shape[0] != BATCH:
        return None
    rest = [dim for dim in shape[1:] if isinstance(dim, int)]
    return tuple(rest) if len(rest) == len(shape) - 1 else None


def is_known(value: ir.Value) -> bool:
    """Whether dtype and shape are known up to the batch."""
    shape = dims(value)
    if value.dtype is None or shape is None:
        return False
    return all(isinstance(dim, int) or dim == BATCH for dim in shape)


def readers(value: ir.Value) -> list[ir.Node]:
    """Nodes that read the value, once each, in graph order of first use."""
    return list(dict.fromkeys(usage.node for usage in value.uses()))


def sole_reader(value: ir.Value) -> ir.Node | None:
    """The node that alone reads the value, once, where the value is no graph output."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    return uses[0].node


def values(graph: ir.Graph) -> Iterator[ir.Value]:
    """All values that nodes compute, in order."""
    for node in graph:
        for output in node.outputs:
            if output.name:
                yield output


def fresh_name(graph: ir.Graph, wanted: str) -> str:
    """``wanted``, or with a number behind it where the graph has that name already."""
    taken = set(graph.initializers) | {value.name for value in graph.inputs}
    taken |= {value.name for value in values(graph)}
    return free_name(wanted, taken.__contains__)


def add_constant(graph: ir.Graph, wanted: str, array: Array) -> ir.Value:
    """A new initialiser, named ``wanted`` or nearly so."""
    name = fresh_name(graph, wanted)
    tensor = ir.tensor(np.ascontiguousarray(array).reshape(np.shape(array)), name=name)
    value = ir.val(name, const_value=tensor)
    graph.register_initializer(value)
    return value


def drop_unused(value: ir.Value | None) -> None:
    """Take an initialiser without readers out of its graph."""
    if value is not None and value.is_initializer() and not value.uses():
        if value.is_graph_output() or not isinstance(value.graph, ir.Graph):
            return
        value.graph.initializers.pop(value.name or "")


def replace_input(node: ir.Node, index: int, value: ir.Value | None) -> None:
    """Let the node read another value; the old one goes if it was an initialiser of its own."""
    while index >= len(node.inputs):
        node.resize_inputs(len(node.inputs) + 1)
    old = node.inputs[index]
    node.replace_input_with(index, value)
    drop_unused(old)


def rewritten_constant(node: ir.Node, index: int, array: Array, suffix: str) -> None:
    """Give input ``index`` of the node new numbers: in place, or as a copy where others read it."""
    old = node.inputs[index]
    graph = graph_of(node)
    if old is not None and len(list(old.uses())) == 1 and old.name and not old.is_graph_output():
        name = old.name
        replace_input(node, index, None)
        graph.initializers.pop(name, None)
        replace_input(node, index, add_constant(graph, name, array))
        return
    stem = label(old) if old is not None else label(node.outputs[0])
    replace_input(node, index, add_constant(graph, f"{stem}.{suffix}", array))


def remove(node: ir.Node) -> None:
    """Take a node whose outputs nobody reads out of the graph, with its own initialisers."""
    inputs = list(node.inputs)
    graph_of(node).remove(node, safe=True)
    for value in inputs:
        drop_unused(value)


def redirect(old: ir.Value, new: ir.Value) -> bool:
    """Let all readers of ``old`` read ``new``; a graph output keeps its name.

    Returns:
        False, with nothing changed, where ``old`` is a graph output that ``new`` cannot stand for.
    """
    if old.is_graph_output():
        if new.is_graph_input() or new.is_initializer() or new.is_graph_output():
            return False
        name = old.name
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        old.name = f"{name}.replaced"
        new.name = name
        if new.type is None:
            new.type = old.type
        return True
    old.replace_all_uses_with(new)
    return True


def bypass(node: ir.Node, source: ir.Value) -> bool:
    """Replace the first output of the node by ``source`` and remove the node, where possible."""
    if not redirect(node.outputs[0], source):
        return False
    remove(node)
    return True


def substitute(
    node: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, Any] | None = None,
    domain: str = "",
) -> ir.Node:
    """Put a new one-output node in the place of ``node``; name, output name and shape are kept."""
    old = node.outputs[0]
    new = ir.node(
        op_type, list(inputs), attributes=dict(attributes or {}), domain=domain, name=node.name
    )
    result = new.outputs[0]
    result.shape, result.type = old.shape, old.type
    graph_of(node).insert_before(node, new)
    name = old.name
    old.replace_all_uses_with(result, replace_graph_outputs=True)
    remove(node)
    result.name = name
    return new


def may_copy(node: ir.Node, target: Array) -> bool:
    """Whether a 0 in the target of this Reshape copies a size; allowzero goes where it is idle."""
    if node.attributes.get_int("allowzero", 0) == 1:
        if (target == 0).any():
            return False
        node.attributes.pop("allowzero")
    return True
