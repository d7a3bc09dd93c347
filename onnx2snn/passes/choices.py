"""Activations that files spell out by choosing between branches."""

from collections.abc import Iterable, Iterator

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper

from onnx2snn.passes.base import Array, Pass, as_array
from onnx2snn.passes.graph import bypass, dims, is_op, label, scalar, substitute
from onnx2snn_runtime.errors import Onnx2SnnError

COMPARISONS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")
ELEMENTWISE = (
    *COMPARISONS, "Where", "And", "Or", "Not", "Cast", "Abs", "Neg", "Sign", "Add", "Sub", "Mul",
    "Div", "Exp", "Softplus",
)  # fmt: skip
MOST_NODES = 16
USUAL = 40.0  # how far functions are compared at least
POINTS = 8001
ROUNDING = 1e-6
Region = list[ir.Node]


class Choices(Pass):
    """A function of one tensor that chooses by comparisons is the activation with its values.

    It is one of its branches where that has the same values everywhere, as the Softplus of PyTorch,
    which hands x on where it is large; x > a ? x : 0 is ThresholdedRelu, |x| > a ? x ∓ b : 0 is
    Shrink. Values are compared on a grid, however the function is written, on which each comparison
    turns out both ways.
    """

    name = "choices"

    def run(self, model: ir.Model) -> ir.Model:
        """Rewrite in place, the largest functions first."""
        for node in reversed(list(model.graph)):
            if node.graph is not None and is_op(node, "Where", "Add"):
                for source in compared(node):
                    if self.rewrite(node, source):
                        break
        return model

    def rewrite(self, node: ir.Node, source: ir.Value) -> bool:
        """Replace what the node makes of one tensor, if it is a known function of it."""
        region = region_of(node, source)
        if region is None or dims(source) != dims(node.outputs[0]):
            return False
        if not any(is_op(item, "Where") for item in region):
            return False
        branches = [
            value for item in region if is_op(item, "Where") for value in item.inputs[1:]
            if value is not None and value.producer() in region
        ]  # fmt: skip
        choices = [item.outputs[0] for item in region if is_op(item, *COMPARISONS)]
        numbers = {abs(number) for item in region for value in item.inputs
                   if (number := scalar(value)) is not None and number}  # fmt: skip
        grid = grid_for(numbers)
        try:
            values = self.evaluate(region, source, grid, [node.outputs[0], *branches, *choices])
        except Onnx2SnnError:
            return False
        wanted, turns = values[0], values[1 + len(branches) :]
        if any(turn.all() or not turn.any() for turn in turns):
            self.note(node.name, f"{label(node)} chooses by what lies beyond {grid[-1]:g}")
            return False
        for branch, found in zip(branches, values[1:], strict=False):
            if alike(found, wanted):
                if bypass(node, branch):
                    self.note(node.name, f"{label(node)} is its branch {label(branch)}, everywhere")
                    return True
                return False
        for number in sorted(numbers):
            if alike(np.where(number < grid, grid, 0), wanted):
                substitute(node, "ThresholdedRelu", [source], {"alpha": number})
                self.note(node.name, f"{label(node)} is ThresholdedRelu({number:g})")
                return True
            for bias in (0.0, number):
                shrunk = np.where(np.abs(grid) > number, grid - np.sign(grid) * bias, 0)
                if alike(shrunk, wanted):
                    substitute(node, "Shrink", [source], {"lambd": number, "bias": bias})
                    self.note(node.name, f"{label(node)} is Shrink({number:g}, {bias:g})")
                    return True
        return False

    def evaluate(
        self, region: Region, source: ir.Value, grid: Array, wanted: list[ir.Value]
    ) -> list[Array]:
        """Values of tensors of a region where its source holds ``grid``, [n]."""
        constants = {
            label(value): number for item in region for value in item.inputs
            if (number := scalar(value)) is not None
        }  # fmt: skip
        model = helper.make_model(
            helper.make_graph(
                [ir.to_proto(item) for item in reversed(region)],
                "function",
                [helper.make_tensor_value_info(label(source), TensorProto.FLOAT, [len(grid)])],
                [onnx.ValueInfoProto(name=label(value)) for value in dict.fromkeys(wanted)],
                [
                    helper.make_tensor(name, TensorProto.FLOAT, [], [number])
                    for name, number in constants.items()
                ],
            ),
            opset_imports=[helper.make_opsetid("", graph_opset(region[0]))],
        )
        found = self.session.run(model)({label(source): grid})
        return [as_array(found[label(value)]) for value in wanted]


def grid_for(numbers: Iterable[float]) -> Array:
    """Where functions with these constants are compared: on no threshold, and beyond all of them.

    Returns:
        Rising numbers, [n] float32.
    """
    far = 4 * max([USUAL / 4, *numbers])
    near = np.linspace(-USUAL, USUAL, POINTS)
    wide = np.linspace(-far, far, POINTS)
    return np.unique(np.concatenate([near, wide]) + 1e-3 / np.pi).astype(np.float32)


def graph_opset(node: ir.Node) -> int:
    """The operator set that a node is written in."""
    assert isinstance(node.graph, ir.Graph)
    return node.graph.opset_imports[""]


def compared(node: ir.Node) -> Iterator[ir.Value]:
    """Tensors that are compared with numbers before a node, and those that they are made of."""
    seen: set[ir.Node] = set()
    pending = [node]
    while pending and len(seen) < MOST_NODES:
        item = pending.pop()
        if item in seen:
            continue
        seen.add(item)
        for value in item.inputs:
            before = value.producer() if value is not None else None
            if is_op(item, *COMPARISONS) and scalar(value) is None:
                yield from origins(value)
            if before is not None and is_op(before, *ELEMENTWISE):
                pending.append(before)


def origins(value: ir.Value | None) -> Iterator[ir.Value]:
    """A tensor, and those that it is made of by operators that read nothing else but numbers."""
    while value is not None:
        yield value
        node = value.producer()
        moving = [item for item in (node.inputs if node else ()) if scalar(item) is None]
        if not is_op(node, *ELEMENTWISE) or len(moving) != 1:
            return
        (value,) = moving


def region_of(node: ir.Node, source: ir.Value) -> Region | None:
    """The nodes between a tensor and a node, the last one first, if nothing else goes in."""
    found: Region = []
    pending = [node]
    while pending:
        item = pending.pop()
        if item in found:
            continue
        if not is_op(item, *ELEMENTWISE) or len(found) == MOST_NODES:
            return None
        found.append(item)
        for value in item.inputs:
            if value is source or scalar(value) is not None:
                continue
            before = value.producer() if value is not None else None
            if before is None:
                return None
            pending.append(before)
    order = {item: index for index, item in enumerate(node.graph or ())}
    return sorted(found, key=lambda item: -order[item])


def alike(found: Array, wanted: Array) -> bool:
    """Whether two functions are the same but for rounding."""
    return found.shape == wanted.shape and bool(
        np.allclose(found, wanted, rtol=ROUNDING, atol=ROUNDING, equal_nan=True)
    )
