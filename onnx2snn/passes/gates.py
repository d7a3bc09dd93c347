"""Activations x · g(x) that files spell out: one node each, where the operator set has it."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isclose, pi, sqrt
from typing import Any

import onnx_ir as ir

from onnx2snn.passes.base import Pass
from onnx2snn.passes.clamps import bounds_of
from onnx2snn.passes.graph import dims, is_op, label, scalar, sole_reader, substitute

CLOSE = 1e-3


@dataclass(frozen=True)
class Gate:
    """One activation coefficient · x · g(x).

    Attributes:
        op: operator that computes it.
        since: first operator set that has it.
        coefficient: constant factor.
        matches: whether a value is g of x.
        attributes: of the operator.
    """

    op: str
    since: int
    coefficient: float
    matches: Callable[[ir.Value, ir.Value], bool]
    attributes: tuple[tuple[str, Any], ...] = ()


def _made_by(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    node = value.producer() if value is not None else None
    return node if is_op(node, *op_types) else None


def _reads(value: ir.Value, op_type: str, x: ir.Value) -> bool:
    node = _made_by(value, op_type)
    return node is not None and node.inputs[0] is x


def _hard_sigmoid(g: ir.Value, x: ir.Value) -> bool:
    """HardSigmoid(x) with slope 1/6 and offset 1/2."""
    node = _made_by(g, "HardSigmoid")
    if node is None or node.inputs[0] is not x:
        return False
    alpha = node.attributes.get_float("alpha", 0.2)
    beta = node.attributes.get_float("beta", 0.5)
    return isclose(alpha, 1 / 6, rel_tol=CLOSE) and isclose(beta, 0.5, rel_tol=CLOSE)


def _relu6_plus_3(g: ir.Value, x: ir.Value) -> bool:
    """Clip(x + 3, 0, 6)."""
    node = g.producer()
    found = bounds_of(node) if node is not None else None
    return found is not None and found[1] == (0.0, 6.0) and _plus(found[0], x, 3.0)


def _plus(value: ir.Value, x: ir.Value, number: float) -> bool:
    node = _made_by(value, "Add")
    if node is None:
        return False
    for index in (0, 1):
        found = scalar(node.inputs[1 - index])
        if node.inputs[index] is x and found is not None and isclose(found, number, rel_tol=CLOSE):
            return True
    return False


def _softplus_tanh(g: ir.Value, x: ir.Value) -> bool:
    """Tanh(Softplus(x))."""
    node = _made_by(g, "Tanh")
    return node is not None and node.inputs[0] is not None and _reads(node.inputs[0], "Softplus", x)


def _one_plus(value: ir.Value, op_type: str) -> ir.Value | None:
    """y of 1 + op(y)."""
    node = _made_by(value, "Add")
    if node is None:
        return None
    for index in (0, 1):
        inner = _made_by(node.inputs[index], op_type)
        if inner is not None and scalar(node.inputs[1 - index]) == 1.0:
            return inner.inputs[0]
    return None


def _erf(g: ir.Value, x: ir.Value) -> bool:
    """1 + Erf(x / √2)."""
    inner = _one_plus(g, "Erf")
    if inner is None:
        return False
    coefficient, rest = factors(inner)
    return isclose(coefficient, sqrt(0.5), rel_tol=CLOSE) and rest == [x]


def _tanh_gelu(g: ir.Value, x: ir.Value) -> bool:
    """1 + Tanh(√(2/π)·(x + 0.044715·x³))."""
    inner = _one_plus(g, "Tanh")
    if inner is None:
        return False
    coefficient, rest = factors(inner)
    if not isclose(coefficient, sqrt(2 / pi), rel_tol=CLOSE) or len(rest) != 1:
        return False
    total = _made_by(rest[0], "Add")
    if total is None or x not in total.inputs:
        return False
    other = total.inputs[1 if total.inputs[0] is x else 0]
    if other is None:
        return False
    coefficient, cube = factors(other)
    power = _made_by(cube[0], "Pow") if len(cube) == 1 else None
    is_cube = cube == [x, x, x] or (
        power is not None and power.inputs[0] is x and scalar(power.inputs[1]) == 3.0
    )
    return is_cube and isclose(coefficient, 0.044715, rel_tol=CLOSE)


GATES = (
    Gate("HardSwish", 14, 1.0, _hard_sigmoid),
    Gate("HardSwish", 14, 1 / 6, _relu6_plus_3),
    Gate("Mish", 18, 1.0, _softplus_tanh),
    Gate("Gelu", 20, 0.5, _erf),
    Gate("Gelu", 20, 0.5, _tanh_gelu, (("approximate", "tanh"),)),
)
"""Adding an activation is adding a line."""


def factors(value: ir.Value, *, top: bool = True) -> tuple[float, list[ir.Value]]:
    """A product as a number and the values that are multiplied."""
    node = _made_by(value, "Mul", "Div")
    if node is None or not (top or sole_reader(value)):
        return 1.0, [value]
    left, right = node.inputs[0], node.inputs[1]
    if left is None or right is None:
        return 1.0, [value]
    if node.op_type == "Div":
        number = scalar(right)
        if not number:
            return 1.0, [value]
        coefficient, rest = factors(left, top=False)
        return coefficient / number, rest
    coefficient, rest = 1.0, []
    for item in (left, right):
        number = scalar(item)
        if number is not None:
            coefficient *= number
            continue
        inner, more = factors(item, top=False)
        coefficient *= inner
        rest += more
    return coefficient, rest


class Gates(Pass):
    """coefficient · x · g(x) is one activation: HardSwish, Mish or Gelu.

    Only where the operator set of the model has the operator.
    """

    name = "gates"

    def run(self, model: ir.Model) -> ir.Model:
        """Match every product, the outermost first."""
        opset = model.graph.opset_imports[""]
        for node in reversed(list(model.graph)):
            if node.graph is None or not is_op(node, "Mul", "Div"):
                continue
            coefficient, rest = factors(node.outputs[0])
            if len(rest) == 2 and all(dims(item) == dims(node.outputs[0]) for item in rest):
                self.match(node, coefficient, rest, opset)
        return model

    def match(self, node: ir.Node, coefficient: float, rest: list[ir.Value], opset: int) -> None:
        """Replace one product if it is a known activation."""
        for gate in GATES:
            if not isclose(coefficient, gate.coefficient, rel_tol=CLOSE):
                continue
            for x, g in (rest, rest[::-1]):
                if not gate.matches(g, x):
                    continue
                if opset < gate.since:
                    self.note(
                        node.name,
                        f"{label(node)} not written as {gate.op}: operator set {opset} is older "
                        f"than {gate.since}",
                    )
                else:
                    substitute(node, gate.op, [x], dict(gate.attributes))
                    self.note(node.name, f"x·g(x) at {label(node)} is {gate.op}")
                return
