"""What share of a network's work is done by spikes, and what is not.

Multiply-accumulates are *spiking* where only spikes arrive at the weights, *graded* where values
do, from a graded operator or from other weights with no neuron between, and *static* in head and
tail, once per image as in the ANN. Pooling hands on what it gets. Elements are the outputs of the
operators between the first and the last neuron, by what these operators become.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import onnx

from onnx2snn.energy.costs import multiplications, shapes_of
from onnx2snn.rewriting.classify import Placed, Role, values_met
from onnx2snn_runtime.planning.weighted import signal_at

ELEMENTS = {
    Role.NEURON: "spiking",
    Role.POOL: "pooling",
    Role.GRADED: "graded",
    Role.LINEAR: "linear",
}


@dataclass(frozen=True)
class Work:
    """Work per image of the ANN, by what it becomes.

    Attributes:
        macs: ``spiking``, ``graded`` and ``static`` to multiply-accumulates.
        elements: ``spiking``, ``pooling``, ``graded`` and ``linear`` to output elements.
    """

    macs: Mapping[str, int]
    elements: Mapping[str, int]

    def share(self, kind: str, of: str = "macs") -> float:
        """The part of one kind, 0 to 1."""
        counts: Mapping[str, int] = getattr(self, of)
        total = sum(counts.values())
        return counts.get(kind, 0) / total if total else 0.0

    def as_dict(self) -> dict[str, Any]:
        """The counts as JSON data."""
        return {"macs": dict(self.macs), "elements": dict(self.elements)}

    @property
    def text(self) -> str:
        """Both as percentages, in one line each."""
        return "\n".join(describe(of, getattr(self, of)) for of in ("macs", "elements"))


def describe(title: str, counts: Mapping[str, int]) -> str:
    """Counts as percentages in one line."""
    total = max(1, sum(counts.values()))
    names = {"macs": "MACs", "elements": "elements"}
    words = {"graded": "on values"} if title == "macs" else {}
    parts = [
        f"{100 * count / total:.1f} % {words.get(kind, kind)}" for kind, count in counts.items()
    ]
    return f"{names.get(title, title)}: {', '.join(parts)}"


def measure_work(ann: onnx.ModelProto, placed: list[Placed]) -> Work:
    """Count the work of a normalised and classified network."""
    macs = Counter(dict.fromkeys(("spiking", "graded", "static"), 0))
    elements = Counter(dict.fromkeys(ELEMENTS.values(), 0))
    shapes, weights = shapes_of(ann), multiplications(ann)
    values = values_met(ann, placed, pools=False)
    stored = {item.name: item for item in ann.graph.initializer}
    for item in placed:
        node = item.node
        if item.role in ELEMENTS:
            elements[ELEMENTS[item.role]] += sum(
                prod(shapes.get(name, (0,))) for name in node.output if name
            )
        graded = item.role is Role.GRADED or signal_at(node, stored) in values
        kind = "graded" if graded else "spiking"
        once = item.role in (Role.HEAD, Role.TAIL)
        macs["static" if once else kind] += weights.get(node.name, 0)
    return Work(dict(macs), dict(elements))
