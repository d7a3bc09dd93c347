"""Stateless ONNX operators on an array module, one registry for all of them."""

from onnx2snn_runtime.ops.registry import OPERATORS, Call, Law, Operator, operator

__all__ = ["OPERATORS", "Call", "Law", "Operator", "operator"]
