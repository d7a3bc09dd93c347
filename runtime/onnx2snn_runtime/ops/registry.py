"""The registry of stateless ONNX operators.

An operator is one decorated function on an array module ``xp`` (NumPy or CuPy). The entry also says
how the operator behaves when its inputs are spread over time, which is all the converter must know
to place it. The list of operators, ``onnx2snn ops``, the documentation table and the conformance
tests are derived from this registry.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

Array = Any
"""An array of NumPy or CuPy, whichever module ``Call.xp`` is."""


class Law(Enum):
    """How an operator treats a signal that arrives in parts x_1 + … + x_T.

    ``moving`` means: depends on the image. What does not move is a constant.
    """

    AFFINE = "affine in all inputs together (Add, Concat, …)"
    AFFINE_ONE = "affine while only one input moves (Conv, Gemm, Mul, …)"
    AFFINE_FIRST = "affine in the first input, the others must be constant (Reshape, Pad, Div, …)"
    AFFINE_FLOATS = "affine while only floats move, no condition or index (Where, ScatterND)"
    ELEMENTWISE = "nonlinear function of each element of the first input (Relu, Sigmoid, …)"
    MAXIMUM = "maximum, positively homogeneous (MaxPool, Max, …)"
    NONLINEAR = "any other nonlinear function (Softmax, LayerNormalization, …)"
    SHAPE = "depends on shapes only, not on values (Shape, Size, …)"


@dataclass(frozen=True)
class Call:
    """What an operator function is told besides its input arrays.

    Attributes:
        xp: the array module to compute on (``numpy`` or ``cupy``).
        attributes: attributes of the node, decoded to Python values and NumPy arrays.
        opset: version of the default operator set the node is written for (18 or newer).
        outputs: how many outputs the node asks for.
    """

    xp: Any
    attributes: Mapping[str, Any]
    opset: int
    outputs: int = 1

    def get(self, name: str, default: Any = None) -> Any:
        """Attribute ``name``, or ``default`` where the node leaves it out."""
        return self.attributes.get(name, default)


@dataclass(frozen=True)
class Operator:
    """One registry entry."""

    name: str
    law: Law
    function: Callable[..., Any]

    @property
    def summary(self) -> str:
        """First line of the docstring of the function."""
        return (self.function.__doc__ or "").strip().splitlines()[0]


OPERATORS: dict[str, Operator] = {}


def operator(name: str, law: Law) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function as ONNX operator ``name`` of the default domain.

    The function is called as ``function(call, *inputs)`` with ``None`` for an omitted optional
    input, and returns one array, or a tuple of arrays when the operator has several outputs.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        if name in OPERATORS:
            raise ValueError(f"operator {name} is registered twice")
        OPERATORS[name] = Operator(name, law, function)
        return function

    return register
