"""Activations x · g(x) that files spell out: one node each, where the operator set has it."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isclose, pi, sqrt
from typing import Any

import onnx_ir as ir

from onnx2snn.passes.base import Pass
from onnx2snn.passes.clamps import bounds_of
from onnx2snn.passes.graph import dims, is_op, label, scalar, sole_reader, substitute
from onnx2snn_runtime.neurons import ACTIVATIONS, COMPOSITES

CLOSE = 1e-3


Attributes = dict[str, Any]


@dataclass(frozen=True)
class Gate:
    """One activation coefficient · x · g(x).

    Attributes:
        op: operator that computes it, of ONNX or of the domain ``COMPOSITES``.
        coefficient: constant factor.
        matches: attributes of the operator where a value is g of x, else None.
    """

    op: str
    coefficient: float
    matches: Callable[[ir.Value, ir.Value], Attributes | None]


def _made_by(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    node = value.producer() if value is not None else None
    return node if is_op(node, *op_types) else None


def _reads(value: ir.Value, op_type: str, x: ir.Value) -> bool:
    node = _made_by(value, op_type)
    return node is not None and node.inputs[0] is x


def _line(value: ir.Value | None, x: ir.Value) -> tuple[float, float] | None:
    """a and b where the value is a·x + b."""
    if value is x:
        return 1.0, 0.0
    node = _made_by(value, "Add", "Sub", "Mul", "Div", "Neg")
    if node is None:
        return None
    if node.op_type == "Neg":
        found = _line(node.inputs[0], x)
        return found and (-found[0], -found[1])
    for index in (0, 1):
        number, found = scalar(node.inputs[1 - index]), _line(node.inputs[index], x)
        if number is None or found is None or (index == 1 and node.op_type in ("Div", "Sub")):
            continue
        slope, offset = found
        if node.op_type in ("Mul", "Div"):
            factor = number if node.op_type == "Mul" else 1 / number if number else 0.0
            return slope * factor, offset * factor
        return slope, offset + (number if node.op_type == "Add" else -number)
    return None


def _close(found: tuple[float, ...], expected: tuple[float, ...]) -> bool:
    pairs = zip(found, expected, strict=True)
    return all(isclose(a, b, rel_tol=CLOSE, abs_tol=CLOSE / 100) for a, b in pairs)


def _sigmoid(g: ir.Value, x: ir.Value) -> Attributes | None:
    """Sigmoid(alpha · x)."""
    node = _made_by(g, "Sigmoid")
    found = None if node is None else _line(node.inputs[0], x)
    return {"alpha": found[0]} if found is not None and found[1] == 0 and found[0] > 0 else None


def _hard_sigmoid(g: ir.Value, x: ir.Value) -> Attributes | None:
    """HardSigmoid(x) with slope 1/6 and offset 1/2."""
    node = _made_by(g, "HardSigmoid")
    if node is None or node.inputs[0] is not x:
        return None
    line = (node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5))
    return {} if _close(line, (1 / 6, 0.5)) else None


def _clamp(expected: tuple[float, ...]) -> Callable[[ir.Value, ir.Value], Attributes | None]:
    """Clip(a·x + b, low, high) with these four numbers."""

    def matches(g: ir.Value, x: ir.Value) -> Attributes | None:
        node = g.producer()
        found = bounds_of(node) if node is not None else None
        line = None if found is None else _line(found[0], x)
        if found is None or line is None:
            return None
        return {} if _close((*line, *found[1]), expected) else None

    return matches


def _softplus_tanh(g: ir.Value, x: ir.Value) -> Attributes | None:
    """Tanh(Softplus(x))."""
    node = _made_by(g, "Tanh")
    inner = node.inputs[0] if node is not None else None
    return {} if inner is not None and _reads(inner, "Softplus", x) else None


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


def _erf(g: ir.Value, x: ir.Value) -> Attributes | None:
    """1 + Erf(x / √2)."""
    line = _line(_one_plus(g, "Erf"), x)
    return {} if line is not None and _close(line, (sqrt(0.5), 0.0)) else None


def _tanh_gelu(g: ir.Value, x: ir.Value) -> Attributes | None:
    """1 + Tanh(√(2/π)·(x + 0.044715·x³))."""
    inner = _one_plus(g, "Tanh")
    if inner is None:
        return None
    coefficient, rest = factors(inner)
    if not isclose(coefficient, sqrt(2 / pi), rel_tol=CLOSE) or len(rest) != 1:
        return None
    total = _made_by(rest[0], "Add")
    if total is None or x not in total.inputs:
        return None
    other = total.inputs[1 if total.inputs[0] is x else 0]
    if other is None:
        return None
    coefficient, cube = factors(other)
    power = _made_by(cube[0], "Pow") if len(cube) == 1 else None
    is_cube = cube == [x, x, x] or (
        power is not None and power.inputs[0] is x and scalar(power.inputs[1]) == 3.0
    )
    return {} if is_cube and isclose(coefficient, 0.044715, rel_tol=CLOSE) else None


GATES = (
    Gate("Swish", 1.0, _sigmoid),
    Gate("HardSwish", 1.0, _hard_sigmoid),
    Gate("HardSwish", 1.0, _clamp((1 / 6, 0.5, 0.0, 1.0))),
    Gate("HardSwish", 1 / 6, _clamp((1.0, 3.0, 0.0, 6.0))),
    Gate("Mish", 1.0, _softplus_tanh),
    Gate("Gelu", 0.5, _erf),
    Gate("TanhGelu", 0.5, _tanh_gelu),
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
    """coefficient · x · g(x) is one activation: Swish (SiLU), HardSwish, Mish or Gelu.

    Where the operator set of the model lacks the operator, it is a model-local function.
    """

    name = "gates"

    def run(self, model: ir.Model) -> ir.Model:
        """Match every product, the outermost first."""
        for node in reversed(list(model.graph)):
            if node.graph is None or not is_op(node, "Mul", "Div"):
                continue
            coefficient, rest = factors(node.outputs[0])
            if len(rest) == 2 and all(dims(item) == dims(node.outputs[0]) for item in rest):
                self.match(model, node, coefficient, rest)
        return model

    def match(
        self, model: ir.Model, node: ir.Node, coefficient: float, rest: list[ir.Value]
    ) -> None:
        """Replace one product if it is a known activation."""
        opset = model.graph.opset_imports[""]
        for gate in GATES:
            if not isclose(coefficient, gate.coefficient, rel_tol=CLOSE):
                continue
            for x, g in (rest, rest[::-1]):
                attributes = gate.matches(g, x)
                if attributes is None:
                    continue
                activation = ACTIVATIONS[gate.op]
                domain = "" if activation.is_standard(opset) else COMPOSITES
                if domain:
                    function = ir.serde.deserialize_function(activation.function(opset))
                    model.functions[function.identifier()] = function
                    model.graph.opset_imports[COMPOSITES] = 1
                substitute(node, gate.op, [x], attributes, domain)
                self.note(node.name, f"x·g(x) at {label(node)} is {gate.op}")
                return
