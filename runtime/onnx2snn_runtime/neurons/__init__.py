"""Operators with a state: the spiking laws, graded operators and readouts, a family each."""

from onnx2snn_runtime.neurons import burst, graded, integer, readout, refine  # noqa: F401  (registration)
from onnx2snn_runtime.neurons.activations import ACTIVATIONS, COMPOSITES, Activation, spelled_out
from onnx2snn_runtime.neurons.operator import (
    FAMILIES,
    Chunk,
    Place,
    Signature,
    StatefulOperator,
    parse_node,
)

__all__ = [
    "ACTIVATIONS",
    "COMPOSITES",
    "FAMILIES",
    "Activation",
    "Chunk",
    "Place",
    "Signature",
    "StatefulOperator",
    "parse_node",
    "spelled_out",
]
