"""Rectifiers and clamps: one Relu, Clip, PRelu or LeakyRelu each."""

from math import inf

import numpy as np
import onnx_ir as ir

from onnx2snn.passes.base import Pass
from onnx2snn.passes.graph import (
    add_constant,
    bypass,
    constant,
    dims,
    fresh_name,
    graph_of,
    input_at,
    is_op,
    label,
    readers,
    scalar,
    sole_reader,
    substitute,
)
from onnx2snn_runtime.ops.behaviour import WEIGHTED

LARGEST = float(np.finfo(np.float32).max)
EPSILON = 1e-3
MOST_SHIFTED = 64.0  # in float32 x − 64 + 64 is x but for a few millionths
Bounds = tuple[float, float]


class Clamps(Pass):
    """min(max(x, a), b), however it is written, is one node; clamps in a row are one clamp.

    [0, ∞] is Relu, [a, ∞] is Relu(x − a) + a, [−∞, b] is b − Relu(b − x), [a, b] is Clip, and b
    where a ≥ b; Relu(x) + c·Relu(−x) is PRelu with slope −c, max(x, a·x) with 0 ≤ a ≤ 1 is
    LeakyRelu, and so is x > 0 ? x : a·x, for a = 0 Relu, as is x·[x > 0];
    x > 0 ? x : a·(exp(x) − 1) is Elu.
    """

    name = "clamps"

    def run(self, model: ir.Model) -> ir.Model:
        """Rewrite in place, from the input to the output."""
        for node in list(model.graph):
            if node.graph is None or node.outputs[0].dtype != ir.DataType.FLOAT:
                continue
            if is_op(node, "Add", "Sub"):
                self.prelu(node)
            elif is_op(node, "Mul"):
                self.masked(node)
            elif (is_op(node, "Max") and self.leaky(node)) or (
                is_op(node, "Where") and self.choice(node)
            ):
                continue
            elif bounds_of(node) is not None:
                self.clamp(node)
        return model

    def clamp(self, node: ir.Node) -> None:
        """Merge with a clamp before it and write it the one way."""
        found = bounds_of(node)
        if found is None:
            return
        source, (low, high) = found
        before = source.producer()
        inner = None if before is None else bounds_of(before)
        merged = inner is not None and sole_reader(source) is node
        if inner is not None and merged:
            source = inner[0]
            low, high = (min(max(bound, low), high) for bound in inner[1])
        if (low, high) == (-inf, inf):
            bypass(node, source)
            return
        before_text = f" and {label(before)}" if merged else ""
        if low >= high:
            self.always(node, source, high)
            self.note(node.name, f"{label(node)}{before_text} is always {high:g}")
            return
        if (low, high) == (0, inf):
            if node.op_type != "Relu" or merged:
                substitute(node, "Relu", [source])
                self.note(node.name, f"{label(node)}{before_text} is Relu")
            return
        if inf in (-low, high):
            size = abs(high if low == -inf else low)
            if size > MOST_SHIFTED:
                self.note(node.name, f"{label(node)} stays: x less its bound would lose its digits")
                return
            # a small one keeps a quotient finite; behind the last weights nothing needs spikes
            if size < EPSILON or not meets_weights(node):
                return
            reader = sole_reader(node.outputs[0])
            if reader is not None and bounds_of(reader) is not None:
                return  # it will be merged
            self.one_sided(node, source, low, high)
            self.note(node.name, f"{label(node)}{before_text} is a Relu between constants")
            return
        if node.op_type != "Clip" or merged:
            graph = graph_of(node)
            limits = [
                add_constant(graph, f"{label(node)}.{side}", np.array(bound, np.float32))
                for side, bound in (("min", low), ("max", high))
            ]
            substitute(node, "Clip", [source, *limits])
            self.note(node.name, f"{label(node)}{before_text} is Clip({low:g}, {high:g})")

    @staticmethod
    def always(node: ir.Node, source: ir.Value, number: float) -> None:
        """x·0 + number, which the weights in front or behind take up."""
        zero, added = (number_for(node, name, n) for name, n in (("zero", 0.0), ("always", number)))
        substitute(node, "Add", [in_front(node, "Mul", [source, zero], "nothing"), added])

    @staticmethod
    def one_sided(node: ir.Node, source: ir.Value, low: float, high: float) -> None:
        """max(x, a) = Relu(x − a) + a, min(x, b) = b − Relu(b − x); weights take the constants."""
        is_floor = high == inf
        bound = number_for(node, "bound", low if is_floor else high)
        order = [source, bound] if is_floor else [bound, source]
        above = in_front(node, "Relu", [in_front(node, "Sub", order, "shifted")], "rectified")
        substitute(node, *(("Add", [above, bound]) if is_floor else ("Sub", [bound, above])))

    def prelu(self, node: ir.Node) -> None:
        """Relu(x) ± c·Relu(−x)."""
        for first, second in ((0, 1), (1, 0)):
            if first == 1 and node.op_type == "Sub":
                return
            positive, negative = node.inputs[first], node.inputs[second]
            relu = positive.producer() if positive is not None else None
            found = _negative_part(negative)
            if not is_op(relu, "Relu") or relu is None or found is None:
                continue
            source, factor = found
            if relu.inputs[0] is not source or dims(source) != dims(node.outputs[0]):
                continue
            slope = (factor if node.op_type == "Sub" else -factor).astype(np.float32)
            constant_slope = add_constant(graph_of(node), f"{label(node)}.slope", slope)
            substitute(node, "PRelu", [source, constant_slope])
            self.note(node.name, f"Relu(x) + c·Relu(−x) at {label(node)} is PRelu")
            return

    def choice(self, node: ir.Node) -> bool:
        """x > 0 ? x : a·x, with a ≥ 0, in all the ways in which the condition can be written."""
        found = _sign_of(node.inputs[0])
        if found is None:
            return False
        source, is_positive = found
        above, below = node.inputs[1:] if is_positive else reversed(node.inputs[1:])
        if above is not source or dims(source) != dims(node.outputs[0]):
            return False
        scale = _exponential(below, source)
        if scale is not None and scale > 0:
            substitute(node, "Elu", [source], {"alpha": scale})
            self.note(node.name, f"x > 0 ? x : {scale:g}·(exp(x) − 1) at {label(node)} is Elu")
            return True
        slope = _multiple(below, source)
        if slope is None or slope < 0:
            return False
        if slope == 0:
            substitute(node, "Relu", [source])
        else:
            substitute(node, "LeakyRelu", [source], {"alpha": slope})
        self.note(node.name, f"x > 0 ? x : {slope:g}·x at {label(node)} is one rectifier")
        return True

    def masked(self, node: ir.Node) -> None:
        """x · [x > 0]."""
        for source, mask in (node.inputs, reversed(node.inputs)):
            cast = mask.producer() if mask is not None else None
            if (
                cast is None
                or not is_op(cast, "Cast")
                or _sign_of(cast.inputs[0]) != (source, True)
            ):
                continue
            if source is not None and dims(source) == dims(node.outputs[0]):
                substitute(node, "Relu", [source])
                self.note(node.name, f"x·[x > 0] at {label(node)} is Relu")
                return

    def leaky(self, node: ir.Node) -> bool:
        """max(x, a·x)."""
        if len(node.inputs) != 2:
            return False
        for source, other in (node.inputs, reversed(node.inputs)):
            product = other.producer() if other is not None else None
            if not is_op(product, "Mul") or product is None or source is None:
                continue
            for index in (0, 1):
                alpha = scalar(product.inputs[1 - index])
                if product.inputs[index] is not source or alpha is None:
                    continue
                if 0 <= alpha <= 1 and dims(source) == dims(node.outputs[0]):
                    substitute(node, "LeakyRelu", [source], {"alpha": alpha})
                    self.note(node.name, f"max(x, {alpha:g}·x) at {label(node)} is LeakyRelu")
                    return True
        return False


def meets_weights(node: ir.Node) -> bool:
    """Whether weights lie behind a node."""
    seen, pending = {node}, [node]
    while pending:
        for output in pending.pop().outputs:
            for reader in readers(output):
                if is_op(reader, *WEIGHTED):
                    return True
                if reader not in seen:
                    seen.add(reader)
                    pending.append(reader)
    return False


def number_for(node: ir.Node, name: str, number: float) -> ir.Value:
    """A constant for what takes the place of a node."""
    return add_constant(graph_of(node), f"{label(node)}.{name}", np.array(number, np.float32))


def in_front(node: ir.Node, op_type: str, inputs: list[ir.Value], name: str) -> ir.Value:
    """What a new elementwise node in front of another makes."""
    graph, like = graph_of(node), node.outputs[0]
    new = ir.node(op_type, inputs, name=f"{label(node)}.{name}")
    (made,) = new.outputs
    made.name = fresh_name(graph, f"{label(node)}.{name}")
    made.type, made.shape = like.type, like.shape
    graph.insert_before(node, new)
    return made


def _sign_of(condition: ir.Value | None) -> tuple[ir.Value, bool] | None:
    """x, and whether the condition is x > 0 or x ≥ 0 rather than x < 0 or x ≤ 0; at 0 all agree."""
    node = condition.producer() if condition is not None else None
    if node is None or not is_op(node, "Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
        return None
    for index in (0, 1):
        source = node.inputs[index]
        if source is not None and scalar(node.inputs[1 - index]) == 0.0:
            return source, node.op_type.startswith("Greater") == (index == 0)
    return None


def _multiple(value: ir.Value | None, source: ir.Value) -> float | None:
    """The number a of a·x, or None."""
    array = constant(value)
    if array is not None:
        return 0.0 if not array.any() else None
    product = value.producer() if value is not None else None
    if product is None or not is_op(product, "Mul"):
        return None
    for index in (0, 1):
        if product.inputs[index] is source:
            return scalar(product.inputs[1 - index])
    return None


def _exponential(value: ir.Value | None, source: ir.Value) -> float | None:
    """The number a of a·(exp(x) − 1), where x may be replaced by 0 above 0; or None."""
    node, scale = (value.producer() if value is not None else None), 1.0
    if node is not None and is_op(node, "Mul"):
        numbers = [scalar(item) for item in node.inputs]
        index = 0 if numbers[0] is not None else 1
        number, rest = numbers[index], node.inputs[1 - index]
        if number is None or rest is None:
            return None
        node, scale = rest.producer(), number
    if node is None or not is_op(node, "Sub") or scalar(node.inputs[1]) != 1.0:
        return None
    power = node.inputs[0].producer() if node.inputs[0] is not None else None
    if power is None or not is_op(power, "Exp"):
        return None
    inner = power.inputs[0]
    if inner is source:
        return scale
    chosen = inner.producer() if inner is not None else None
    if chosen is None or not is_op(chosen, "Where"):
        return None
    sign = _sign_of(chosen.inputs[0])
    if sign is None or sign[0] is not source:
        return None
    above, below = chosen.inputs[1:] if sign[1] else reversed(chosen.inputs[1:])
    spread = above.producer() if above is not None else None
    nothing = constant(spread.inputs[0] if spread and is_op(spread, "Expand") else above)
    return scale if below is source and nothing is not None and not nothing.any() else None


def bounds_of(node: ir.Node) -> tuple[ir.Value, Bounds] | None:
    """The input of a clamp by constants and its bounds, or None."""
    if is_op(node, "Relu") and node.inputs[0] is not None:
        return node.inputs[0], (0.0, inf)
    if is_op(node, "Clip") and node.inputs[0] is not None:
        low, high = _bound(input_at(node, 1), -inf), _bound(input_at(node, 2), inf)
        return None if low is None or high is None else (node.inputs[0], (low, high))
    if is_op(node, "Max", "Min") and len(node.inputs) == 2:
        for source, other in (node.inputs, reversed(node.inputs)):
            is_floor = node.op_type == "Max"
            number = None if other is None else _bound(other, -inf if is_floor else inf)
            if number is None or source is None or dims(source) != dims(node.outputs[0]):
                continue
            return source, ((number, inf) if is_floor else (-inf, number))
    return None


def _bound(value: ir.Value | None, absent: float) -> float | None:
    if value is None:
        return absent
    number = scalar(value)
    if number is None:
        return None
    return absent if abs(number) >= LARGEST else number


def _negative_part(value: ir.Value | None) -> tuple[ir.Value, np.ndarray] | None:
    """x and c of c·Relu(−x)."""
    factor = np.array(1.0)
    node = value.producer() if value is not None else None
    while is_op(node, "Mul", "Neg") and node is not None:
        if node.op_type == "Neg":
            factor, value = -factor, node.inputs[0]
        else:
            known = [constant(item) for item in node.inputs]
            index = 0 if known[0] is not None else 1
            number = known[index]
            if number is None:
                return None
            factor, value = factor * number, node.inputs[1 - index]
        node = value.producer() if value is not None else None
    if not is_op(node, "Relu") or node is None or node.inputs[0] is None:
        return None
    negated = node.inputs[0].producer()
    if not is_op(negated, "Neg") or negated is None or negated.inputs[0] is None:
        return None
    return negated.inputs[0], factor
