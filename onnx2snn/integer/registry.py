"""The registry of rules that write operators in whole numbers, and what kinds of them there are.

A rule reads the signals of a node, writes the node in whole numbers and returns the signals of its
outputs. What it cannot do it refuses with a reason. Rules are made in ``rules`` and ``pooling``.
"""

from collections.abc import Callable
from typing import Any

from onnx import NodeProto

from onnx2snn.integer.signals import Signal

Rule = Callable[[Any, NodeProto], list[Signal]]
"""Takes the `IntegerWork` that it is a part of, and the node."""
RULES: dict[str, Rule] = {}
MERGES = ("Add", "Sub", "Sum", "Max")
MOVES = ("Identity", "Dropout", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Slice",
         "Gather", "Split", "Expand", "Tile", "DepthToSpace", "SpaceToDepth")  # fmt: skip
FINE = 64  # integer factor of the finest branch where no weights choose the common scale


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Register the rule of these operators."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(operators, function))
        return function

    return register
