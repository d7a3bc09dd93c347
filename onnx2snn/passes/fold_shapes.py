"""Two-probe shape folding: chains of shape arithmetic become constants."""

from math import prod

import numpy as np
import onnx_ir as ir

from onnx2snn.passes.base import Array, Pass
from onnx2snn.passes.fold_constants import FoldConstants
from onnx2snn.passes.graph import (
    BATCH,
    add_constant,
    constant,
    dims,
    fresh_name,
    graph_of,
    is_op,
    label,
    may_copy,
    sample_dims,
    substitute,
    values,
)
from onnx2snn.passes.infer_shapes import InferShapes
from onnx2snn.passes.probe import PROBES, moving_values, probe, sources
from onnx2snn.passes.tidy import Tidy

MAX_ELEMENTS = 2**20
DEEPEST = 8  # branches in branches
LAST = np.iinfo(np.int64).max


class FoldBranches(Pass):
    """An If on what depends on shapes only is its branch, now that shapes are constants."""

    name = "fold-branches"

    def run(self, model: ir.Model) -> ir.Model:
        """Again from the folding of constants on, as branches may hold shapes and branches."""
        for _ in range(DEEPEST):
            chosen = [
                node for node in model.graph
                if is_op(node, "If") and constant(node.inputs[0]) is not None
            ]  # fmt: skip
            if not chosen:
                break
            for again in (FoldConstants, Tidy, FoldShapes):
                model = again(self.session).run(model)
        return model


class FoldShapes(Pass):
    """What depends on shapes only is a constant if it is the same at N = 2 and N = 3.

    Where one entry of a shape operand is k·N, an equivalent operand without N is put in its place:
    Reshape 0 or −1, Expand 1, Slice to the end, Resize of the other axes. A Gather from the flat
    batch whose indices stay within their own sample is one from the flat sample. What depends on N
    in another way stays, computed at run time.
    """

    name = "fold-shapes"

    def run(self, model: ir.Model) -> ir.Model:
        """Evaluate the last static value of each chain at both batches."""
        moving = moving_values(model.graph)
        frontier = [
            value
            for value in values(model.graph)
            if value not in moving and self.feeds_moving(value, moving)
        ]
        results = zip(frontier, probe(self.session.run, model, frontier), strict=True)
        differing = [
            (value, measured)
            for value, measured in results
            if not self.fold_equal(model, value, *measured)
        ]
        if differing:
            InferShapes(self.session).run(model)
        kept = sum(not self.loosen_all(value, *measured) for value, measured in differing)
        if len(frontier) > kept:
            folded = len(frontier) - kept
            self.note("", f"{folded} of {len(frontier)} shape computations became constants")
        return model

    @staticmethod
    def feeds_moving(value: ir.Value, moving: set[ir.Value]) -> bool:
        """Whether something that depends on the data reads this static value."""
        return value.is_graph_output() or any(
            output in moving for usage in value.uses() for output in usage.node.outputs
        )

    def fold_equal(self, model: ir.Model, value: ir.Value, first: Array, second: Array) -> bool:
        """Make an initialiser of what is the same at both batches; False for all else."""
        if first.shape != second.shape or not np.array_equal(first, second):
            return False
        if first.size > max(MAX_ELEMENTS, _origin_size(value)):
            self.note(value.name, f"{label(value)} not folded: it would be {first.size:,} numbers")
        elif value.is_graph_output():
            self.note(value.name, f"output {label(value)} is a constant")
        else:
            name = value.name or "constant"
            value.name = fresh_name(model.graph, f"{name}.computed")
            value.replace_all_uses_with(add_constant(model.graph, name, first))
        return True

    def loosen_all(self, value: ir.Value, first: Array, second: Array) -> bool:
        """Give all readers an operand without N; False, with a note, where one has none."""
        rest = [
            usage.node
            for usage in list(value.uses())
            if not self.loosen(usage.node, usage.idx, first, second)
        ]
        if rest or value.is_graph_output():
            nodes = ", ".join(label(node) for node in rest)
            self.note(value.name, f"{label(value)} not folded: it depends on the batch ({nodes})")
        return not rest

    def loosen(self, node: ir.Node, index: int, first: Array, second: Array) -> bool:
        """Give the node an operand without N; returns whether there is one."""
        if is_op(node, "Gather") and index == 1:
            return _gather(node, first, second)
        rule = _RULES.get((node.op_type, index))
        if rule is None or node.domain or first.ndim != 1 or first.shape != second.shape:
            return False
        differing = np.flatnonzero(first != second)
        return rule(node, first.copy(), second, [int(position) for position in differing])


def _is_batch(node: ir.Node, position: int, first: Array, second: Array) -> bool:
    """Whether an entry is N and so is that dimension of the data."""
    data = dims(node.inputs[0])
    if data is None or position >= len(data) or data[position] != BATCH:
        return False
    return (int(first[position]), int(second[position])) == PROBES


def _put(node: ir.Node, index: int, array: Array) -> bool:
    old = node.inputs[index]
    node.replace_input_with(index, add_constant(graph_of(node), f"{label(old)}.free", array))
    return True


def _reshape(node: ir.Node, first: Array, second: Array, differing: list[int]) -> bool:
    """One entry k·N: 0 if it copies the batch, else −1, with all other sizes as they come out."""
    if len(differing) != 1:
        return False
    position = differing[0]
    if _is_batch(node, position, first, second) and may_copy(node, first):
        first[position] = 0
        return _put(node, 1, first)
    proportional = int(first[position]) * PROBES[1] == int(second[position]) * PROBES[0]
    if not proportional:
        return False
    is_free = (first != -1).all() and (first != 0).all()
    sizes = first if is_free else _known_sizes(node, position)
    if sizes is None:
        return False
    sizes[position] = -1
    return _put(node, 1, sizes)


def _known_sizes(node: ir.Node, position: int) -> Array | None:
    """All sizes of the output, 0 at the position; None where another one is not a number."""
    sizes = dims(node.outputs[0])
    if sizes is None:
        return None
    sizes[position] = 0
    if any(not isinstance(size, int) for size in sizes) or sizes.count(0) > 1:
        return None
    return np.array(sizes, np.int64)


def _expand(node: ir.Node, first: Array, second: Array, differing: list[int]) -> bool:
    """An entry N where the data has N broadcasts from 1."""
    data = dims(node.inputs[0])
    if data is None or len(data) != first.size:
        return False
    if not all(_is_batch(node, position, first, second) for position in differing):
        return False
    first[differing] = 1
    return _put(node, 1, first)


def _slice_end(node: ir.Node, first: Array, second: Array, differing: list[int]) -> bool:
    """An end that grows with N on the batch axis is the end of the axis."""
    data = dims(node.inputs[0])
    axes = constant(node.inputs[3]) if len(node.inputs) > 3 else np.arange(first.size)
    if data is None or axes is None:
        return False
    for position in differing:
        entry = (int(first[position]), int(second[position]))
        if data[int(axes[position])] != BATCH or entry != PROBES:
            return False
    first[differing] = LAST
    return _put(node, 2, first)


def _resize_sizes(node: ir.Node, first: Array, second: Array, differing: list[int]) -> bool:
    """Resize only the axes whose size is not the batch."""
    if differing != [0] or not _is_batch(node, 0, first, second) or "axes" in node.attributes:
        return False
    node.attributes["axes"] = ir.AttrInt64s("axes", list(range(1, first.size)))
    return _put(node, 3, first[1:])


def _gather(node: ir.Node, first: Array, second: Array) -> bool:
    """Element n·k + i of the flat batch is element i of sample n (torch writes as_strided so)."""
    data = node.inputs[0]
    maker = data.producer() if data is not None else None
    if maker is None or not is_op(maker, "Reshape") or node.attributes.get_int("axis", 0) != 0:
        return False
    target, source = constant(maker.inputs[1]), maker.inputs[0]
    sample = sample_dims(source)
    if target is None or target.tolist() != [-1] or sample is None or second.ndim < 2:
        return False
    size = prod(sample)
    chosen, steps = second[0], size * np.arange(len(second)).reshape(-1, *[1] * (second.ndim - 1))
    if (
        len(second) != PROBES[1]
        or not np.array_equal(first, second[: PROBES[0]])
        or not np.array_equal(second, chosen + steps)
        or chosen.min(initial=0) < 0
        or chosen.max(initial=0) >= size
    ):
        return False
    graph, name = graph_of(node), label(node.outputs[0])
    if np.array_equal(chosen.reshape(-1), np.arange(size)):
        shape = np.array([0, *chosen.shape], np.int64)
        substitute(node, "Reshape", [source, add_constant(graph, f"{name}.shape", shape)])
        return True
    flat = ir.node("Flatten", [source], {"axis": 1}, name=fresh_name(graph, f"{name}.flat"))
    flat.outputs[0].name = flat.name
    graph.insert_before(node, flat)
    indices = add_constant(graph, f"{name}.indices", chosen)
    substitute(node, "Gather", [flat.outputs[0], indices], {"axis": 1})
    return True


def _affine_grid(node: ir.Node, first: Array, second: Array, differing: list[int]) -> bool:
    """The grid of N images is θ times the grid of one, [N,2,3] · [3,HW]."""
    if differing != [0] or first.size != 4 or (int(first[0]), int(second[0])) != PROBES:
        return False
    height, width = (int(size) for size in first[2:])
    ends = node.attributes.get_int("align_corners", 0)
    y, x = (
        np.linspace(-1, 1, size) if ends else (2 * np.arange(size) + 1) / size - 1
        for size in (height, width)
    )
    places = [*np.meshgrid(x, y), np.ones((height, width))]
    points = np.stack([place.reshape(-1) for place in places]).astype(np.float32)
    graph, name = graph_of(node), label(node)
    steps = [
        ("MatMul", add_constant(graph, f"{name}.points", points), {}),
        ("Transpose", None, {"perm": [0, 2, 1]}),
    ]
    value = node.inputs[0]
    for op, other, attributes in steps:
        inputs = [value] if other is None else [value, other]
        step = ir.node(op, inputs, attributes=attributes, name=f"{name}.{op}")
        (value,) = step.outputs
        value.name = fresh_name(graph, f"{name}.{op}")
        value.type = node.outputs[0].type
        graph.insert_before(node, step)
    shape = add_constant(graph, f"{name}.shape", np.array([0, height, width, 2]))
    substitute(node, "Reshape", [value, shape])
    return True


_RULES = {
    ("AffineGrid", 1): _affine_grid,
    ("Reshape", 1): _reshape,
    ("Expand", 1): _expand,
    ("Slice", 2): _slice_end,
    ("Resize", 3): _resize_sizes,
}


def _origin_size(value: ir.Value) -> int:
    """Elements of all initialisers that a static value is computed from."""
    seen: set[ir.Value] = set()
    stack, total = [value], 0
    while stack:
        item = stack.pop()
        if item in seen:
            continue
        seen.add(item)
        producer = item.producer()
        if producer is not None:
            stack.extend(sources(producer))
        elif item.const_value is not None:
            total += item.const_value.size
    return total
