"""The fan-out of neurons: the weights that a spike meets up to the next weighted operator.

It is found by sending ones backwards: from the output of a weighted operator through weights
replaced by (weight ≠ 0), then back through the affine nodes in between. Where several ways lead to
the same weight, as through two average pools in a row, each way counts.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper

from onnx2snn.energy.costs import shapes_of
from onnx2snn.energy.synapses import OPSET, transposed, weights_met
from onnx2snn_runtime.files.beside import array_of
from onnx2snn_runtime.format import DOMAIN
from onnx2snn_runtime.neurons import parse_node
from onnx2snn_runtime.neurons.refine import RefineFurther
from onnx2snn_runtime.nodes import attributes_of, run_node
from onnx2snn_runtime.ops import OPERATORS, Law
from onnx2snn_runtime.ops.behaviour import is_affine
from onnx2snn_runtime.planning.weighted import is_weighted, is_window_sum

Array = NDArray[np.float64]
_FLOAT = (onnx.TensorProto.FLOAT, onnx.TensorProto.UNDEFINED)


class FanOut:
    """Fan-outs of the tensors of a spiking network, each computed once.

    A spike that reaches an operator with a state without meeting a weight counts one operation, as
    on an identity shortcut, and so does one that reaches a value: the output of a nonlinear
    operator, or a sum over weights that meets weights again. Anything else that is not affine stops
    the count: there the tail begins for good.

    Args:
        model: the network.
        graded: outputs of nonlinear operators between neurons that have no state.
        sums: tensors at weights that hold sums over weights, or what became of such.
        value_cost: what a spike that reaches one of these costs besides, for each weight that its
            elements meet on average.

    Attributes:
        weighted_nodes: names of the weighted nodes that spikes have reached so far.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        graded: Collection[str] = (),
        sums: Collection[str] = (),
        value_cost: float = 0.0,
    ) -> None:
        self.graded, self.sums, self.value_cost = graded, sums, value_cost
        self.weighted_nodes: set[str] = set()
        self.weights = {item.name: item for item in model.graph.initializer}
        self.shapes = shapes_of(model)
        self.opset = next(item.version for item in model.opset_import if not item.domain)
        self.readers: dict[str, list[NodeProto]] = {}
        for node in model.graph.node:
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(node)
        self.makers: dict[str, NodeProto] = {}  # of what depends on constants and shapes alone
        for node in model.graph.node:
            known = (name in self.weights or name in self.makers for name in node.input if name)
            if node.op_type in ("Shape", "Size") or all(known):
                self.makers.update(dict.fromkeys(node.output, node))
        values = [*model.graph.value_info, *model.graph.input, *model.graph.output]
        self.types = {value.name: value.type.tensor_type.elem_type for value in values}
        self.moving: set[str] = set()  # tensors that change from step to step
        for node in model.graph.node:
            is_static = node.output[0] in self.makers
            if node.domain == DOMAIN or not (is_static or self.moving.isdisjoint(node.input)):
                self.moving.update(node.output)
        self.statics: dict[str, Any] = {}
        self.known: dict[str, Array] = {}

    def of(self, tensor: str) -> Array:
        """Fan-out of every element of ``tensor``, [1,*]."""
        if tensor not in self.known:
            total = np.zeros(self.shapes[tensor])
            if tensor in self.sums:
                total = total + self.of_arrival(tensor, total.size)
            for node in self.readers.get(tensor, []):
                if tensor not in self.sums or not is_weighted(node, self.weights):
                    total = total + self.through(node, tensor)
            self.known[tensor] = total
        return self.known[tensor]

    def of_value(self, tensor: str) -> Array:
        """Multiplications of every element of a value, [1,*].

        A sum is multiplied where it meets weights; where it is added to something else it is
        counted there. The value of a nonlinear operator is sent on like a spike.
        """
        total = np.zeros(self.shapes[tensor])
        for node in self.readers.get(tensor, []):
            if tensor in self.graded or is_weighted(node, self.weights):
                total = total + self.through(node, tensor)
        return total

    def of_arrival(self, tensor: str, sources: int) -> float:
        """Fan-out of a spike that reaches a value from one of so many neurons."""
        behind = self.of_value(tensor).sum() / sources if self.value_cost else 0.0
        return 1.0 + self.value_cost * float(behind)

    def through(self, node: NodeProto, tensor: str) -> Array:
        """What ``tensor`` meets in and behind one of its readers."""
        if node.domain == DOMAIN:
            operator = parse_node(node)
            if operator.is_readout:
                return self.of(node.output[0])
            if isinstance(operator, RefineFurther):  # no other membrane: a second way of spikes
                goes_on = tensor == node.input[operator.first_estimate]
                return self.of(node.output[0]) if goes_on else np.zeros(1)
            return np.ones(self.shapes[tensor]) if tensor in node.input else np.zeros(1)
        if is_weighted(node, self.weights):
            self.weighted_nodes.add(node.name)
            return weights_met(node, self.weights, self.shapes)
        total = np.zeros(self.shapes[tensor])
        if node.output[0] in self.graded:
            return total + self.of_arrival(node.output[0], total.size)
        if not self.hands_on(node, tensor):
            return total
        for output in node.output:
            if output in self.readers:
                for index, name in enumerate(node.input):
                    if name == tensor:
                        total = total + self.back(node, index, output)
        return total

    def hands_on(self, node: NodeProto, tensor: str) -> bool:
        """Whether spikes pass a node: it is affine in what moves, and tells more than a shape."""
        entry = OPERATORS.get(node.op_type)
        if entry is None or entry.law is Law.SHAPE:
            return False
        moving = [i for i, name in enumerate(node.input) if name in self.moving or name == tensor]
        return is_affine(node, moving, lambda name: self.types.get(name, 0) in _FLOAT)

    def back(self, node: NodeProto, index: int, output: str) -> Array:
        """Fan-out behind an output of an affine node, brought back to input ``index``."""
        after = self.of(output)
        shape = self.shapes[node.input[index]]
        rule = _average if is_window_sum(node, self.weights) else _BACK.get(node.op_type)
        if rule is not None:
            return rule(self, node, shape, after)
        return self.back_by_positions(node, index, output, after)

    def back_by_positions(self, node: NodeProto, index: int, output: str, after: Array) -> Array:
        """Nodes that only move elements: run them on element numbers, add up what arrives."""
        shape = self.shapes[node.input[index]]
        size = int(np.prod(shape))
        numbers = np.arange(1, size + 1, dtype=np.float64).reshape(shape)

        def moving(i: int) -> Array:
            return numbers if i == index else np.zeros(self.shapes[node.input[i]])

        made = [name for name in node.output if name]
        result = self.run(node, moving)[made.index(output)]
        moved = np.rint(result).astype(np.int64).reshape(-1)
        total = np.zeros(size + 1)
        np.add.at(total, np.clip(moved, 0, size), np.broadcast_to(after, after.shape).reshape(-1))
        return total[1:].reshape(shape)

    def moved(self, node: NodeProto, held: Mapping[str, Array]) -> dict[str, Array]:
        """What the outputs of a node hold if it only moves elements of what is ``held``, [1,*]."""
        rest = [name for name in node.input if name and name not in held]
        static = [self.static(name) for name in rest]  # shapes and positions
        whole = all(found is not None and np.asarray(found).dtype.kind in "iu" for found in static)
        if node.op_type not in MOVES or len(rest) == len(node.input) or not whole:
            return {}
        results = self.run(node, lambda index: held[node.input[index]])
        return dict(zip([name for name in node.output if name], results, strict=True))

    def run(self, node: NodeProto, moving: Callable[[int], Array]) -> list[Array]:
        """The node on other numbers; constants are zero unless they are whole numbers.

        Args:
            node: one that moves elements.
            moving: what an input holds that is not constant, by its index.
        """
        copy = NodeProto()
        copy.CopyFrom(node)
        feeds: dict[str, Any] = {}
        for index, name in enumerate(node.input):
            if name:
                static = self.static(name)
                held = moving(index) if static is None else np.asarray(static)
                zero = static is not None and held.dtype.kind == "f"
                copy.input[index] = f"input_{index}"  # a tensor may be read twice
                feeds[copy.input[index]] = held * 0 if zero else held
        return run_node(copy, feeds, self.opset)

    def static(self, tensor: str) -> Any | None:
        """What a tensor is for one image, where it depends on constants and shapes alone."""
        if tensor in self.weights:
            return array_of(self.weights[tensor])
        maker = self.makers.get(tensor)
        if maker is not None and tensor not in self.statics:
            feeds: dict[str, Any]
            if maker.op_type in ("Shape", "Size"):
                feeds = {maker.input[0]: np.zeros(self.shapes[maker.input[0]], np.float32)}
            else:
                feeds = {name: self.static(name) for name in maker.input if name}
            made = run_node(maker, feeds, self.opset)
            self.statics.update(zip(maker.output, made, strict=False))
        return self.statics.get(tensor)


def _same(owner: FanOut, node: NodeProto, shape: tuple[int, ...], after: Array) -> Array:
    """Elementwise: every element reaches the same place, or several by broadcasting.

    Of a choice by the picture each branch is counted as if it were taken.
    """
    del owner, node
    while after.ndim > len(shape):
        after = after.sum(axis=0)
    for axis, size in enumerate(shape):
        if size == 1 and after.shape[axis] != 1:
            after = after.sum(axis=axis, keepdims=True)
    return np.broadcast_to(after, shape)


def _global(owner: FanOut, node: NodeProto, shape: tuple[int, ...], after: Array) -> Array:
    """Reductions: every element reaches the one result it is averaged into."""
    axes = _axes(owner, node, len(shape))
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return np.broadcast_to(after.reshape(kept), shape)


def _axes(owner: FanOut, node: NodeProto, rank: int) -> set[int]:
    if node.op_type == "GlobalAveragePool":
        return set(range(2, rank))
    if len(node.input) > 1 and node.input[1] in owner.weights:
        given = array_of(owner.weights[node.input[1]]).reshape(-1).tolist()
        return {int(axis) % rank for axis in given} or set(range(rank))
    return set(range(rank))


def _average(owner: FanOut, node: NodeProto, shape: tuple[int, ...], after: Array) -> Array:
    """Average pooling: every element reaches the windows that hold it."""
    channels = shape[1]
    attributes = attributes_of(node)
    kernel = attributes["kernel_shape"]
    weight = np.ones((channels, 1, *kernel))
    return transposed(weight, attributes, channels, shape, after)


def _resize(owner: FanOut, node: NodeProto, shape: tuple[int, ...], after: Array) -> Array:
    """Interpolation: along each axis every element reaches those that it is a part of."""
    for axis, mask in axis_masks(owner, node, shape, after.shape):
        after = np.moveaxis(np.tensordot(mask, after, axes=(1, axis)), 0, axis)
    return after


def axis_masks(
    owner: FanOut, node: NodeProto, shape: tuple[int, ...], output: tuple[int, ...]
) -> Iterator[tuple[int, Array]]:
    """Along which axes a Resize mixes elements, and which [before, after] go into which."""
    attributes = attributes_of(node)
    known = attributes.get("axes") or list(range(len(shape)))
    scales = owner.static(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    region = owner.static(node.input[1]) if node.input[1] else None
    dropped = ("axes", "keep_aspect_ratio_policy", "extrapolation_value")
    kept = {name: value for name, value in attributes.items() if name not in dropped}
    for position, axis in enumerate(known):
        feeds: dict[str, Any] = {"x": np.eye(shape[axis])}  # rows are images of one element each
        if region is not None and np.size(region):
            bounds = np.asarray(region).reshape(2, -1)[:, position]
            feeds["region"] = bounds.astype(np.float32)
        elif shape[axis] == output[axis]:
            continue
        if scales is not None and np.size(scales):
            feeds["scale"] = np.asarray(scales, np.float32).reshape(-1)[position : position + 1]
        else:
            feeds["size"] = np.array([output[axis]], np.int64)
        names = [name if name in feeds else "" for name in ("x", "region", "scale", "size")]
        along = helper.make_node("Resize", names, ["y"], axes=[1], **kept)
        (parts,) = run_node(along, feeds, max(OPSET, owner.opset))
        yield axis, (parts != 0).astype(np.float64)


def _cumulative(owner: FanOut, node: NodeProto, shape: tuple[int, ...], after: Array) -> Array:
    """Running sums: every element reaches all behind it, which is a running sum from the end."""
    del shape
    attributes = attributes_of(node)
    attributes["reverse"] = 1 - attributes.get("reverse", 0)
    back = helper.make_node("CumSum", ["x", "axis"], ["y"], **attributes)
    result: Array = run_node(back, {"x": after, "axis": owner.static(node.input[1])}, OPSET)[0]
    return result


MOVES = ("Concat", "Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice",
         "Split", "Gather", "DepthToSpace", "SpaceToDepth")  # fmt: skip
_Rule = Callable[[FanOut, NodeProto, tuple[int, ...], Array], Array]
ELEMENTWISE = ("Add", "Sub", "Sum", "Mul", "Div", "Neg", "Identity", "BatchNormalization",
                "Dropout", "Cast", "Mean", "Where")  # fmt: skip
_BACK: dict[str, _Rule] = {
    **dict.fromkeys(ELEMENTWISE, _same),
    "GlobalAveragePool": _global,
    "ReduceMean": _global,
    "ReduceSum": _global,
    "AveragePool": _average,
    "Resize": _resize,
    "CumSum": _cumulative,
}
