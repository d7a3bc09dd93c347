"""Stateless ONNX operators on an array module, one registry for all of them."""

from onnx2snn_runtime.ops import (  # noqa: F401 - importing a family registers its operators
    arithmetic,
    convolution,
    elementwise,
    logic,
    movement,
    normalization,
    pooling,
    reduction,
    resize,
    shapes,
    types,
)
from onnx2snn_runtime.ops.registry import OPERATORS, Array, Call, Law, Operator, operator

__all__ = ["OPERATORS", "Array", "Call", "Law", "Operator", "operator"]
