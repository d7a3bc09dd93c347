"""The function f of a layer as a C++ struct, from the expression in the registry of activations."""

import math
import re
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, helper

from onnx2snn_runtime.neurons import StatefulOperator


def function_struct(operator: StatefulOperator) -> str | None:
    """The struct ``F`` of scan.h for f of this operator, or None where f has no expression.

    Attributes of f are constants in it; inputs of f besides x are numbers of each neuron.
    """
    activation, signature = operator.activation, operator.signature
    if not activation.cuda or signature.moving != (0,):
        return None
    if signature.inputs != 1 + len(activation.constants):
        return None
    numbers = attribute_values(operator)
    if numbers is None:
        return None
    names = activation.constants
    homogeneous = str(activation.homogeneous).lower()
    lines = [f"static constexpr bool HOMOGENEOUS = {homogeneous};"]
    lines += [f"static constexpr float {name} = {value};" for name, value in numbers.items()]
    lines += [f"float {name};" for name in names]
    loads = "".join(f" {name} = row[{index} * stride];" for index, name in enumerate(names))
    given = "const float *row, unsigned stride" if names else "const float *, unsigned"
    lines.append(f"SNN_DEV void load({given}) {{{loads} }}")
    lines.append(f"SNN_DEV float operator()(float x) const {{ return {activation.cuda}; }}")
    return "\n".join(["  struct F {", *(f"    {line}" for line in lines), "  };"])


def bounds_struct(operator: StatefulOperator) -> str | None:
    """The struct ``F`` of a neuron in whole numbers, or None where its f has no such form."""
    if operator.signature.moving != (0,) or operator.signature.inputs not in (1, 3):
        return None
    clips = str(operator.signature.inputs == 3).lower()
    return f"  struct F {{ static constexpr bool CLIPS = {clips}; }};"


def attribute_values(operator: StatefulOperator) -> dict[str, str] | None:
    """Literals of the float attributes that the expression of f reads, by name.

    None where another attribute of f, such as a mode, is not at its default, or a number is not
    finite: the expression does not cover that.
    """
    literals = {}
    for name, default in _defaults(operator.signature.op).items():
        value = operator.attributes.get(name, default)
        if not isinstance(default, float):
            if value != default:
                return None
        elif re.search(rf"\b{name}\b", operator.activation.cuda):
            number = float(np.float32(value))
            if not math.isfinite(number):
                return None
            literals[name] = f"{number.hex()}f"
    return literals


@cache
def _defaults(op: str) -> dict[str, Any]:
    """Default values of the attributes of an ONNX operator; empty for functions of our own."""
    try:
        schema = onnx.defs.get_schema(op)
    except onnx.defs.SchemaError:
        return {}
    values = {
        name: helper.get_attribute_value(attribute.default_value)
        for name, attribute in schema.attributes.items()
        if attribute.default_value.type != AttributeProto.UNDEFINED
    }
    return {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in values.items()
    }
