"""``onnx2snn ops``."""

import argparse
import json

from onnx2snn.console import print_out, print_table
from onnx2snn_runtime.neurons import ACTIVATIONS
from onnx2snn_runtime.ops import OPERATORS, Law

BECOMES = {
    Law.AFFINE: "itself, each step",
    Law.AFFINE_ONE: "itself, each step; graded when two inputs move",
    Law.AFFINE_FIRST: "itself, each step; graded when other inputs move",
    Law.AFFINE_FLOATS: "itself, each step; graded when a condition or index moves",
    Law.ELEMENTWISE: "graded operator",
    Law.MAXIMUM: "LIPool",
    Law.NONLINEAR: "graded operator",
    Law.SHAPE: "constant",
}


def table() -> list[dict[str, str]]:
    """One row per operator of the registry."""
    return [
        {
            "operator": name,
            "becomes": "spiking neuron" if name in ACTIVATIONS else BECOMES[entry.law],
            "behaviour": entry.law.value,
            "summary": entry.summary,
        }
        for name, entry in sorted(OPERATORS.items())
    ]


def markdown(rows: list[dict[str, str]]) -> str:
    """The table as the page ``docs/operators.md``."""
    lines = [
        "# Operators",
        "",
        "What each ONNX operator becomes between the first and the last neuron. Before and behind,",
        "in head and tail, every operator of the default domain may stand. Opsets below 18 are",
        "converted to 18 first. Made by `onnx2snn ops --markdown`.",
        "",
        "| operator | becomes | behaviour over time | what it computes |",
        "| --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = (row[key].replace("|", "\\|") for key in ("becomes", "behaviour", "summary"))
        lines.append(f"| `{row['operator']}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def run(options: argparse.Namespace) -> int:
    """List the operators."""
    rows = table()
    if options.markdown:
        print_out(markdown(rows))
        return 0
    if options.json:
        print_out(json.dumps(rows))
        return 0
    cells = [[row["operator"], row["becomes"], row["summary"]] for row in rows]
    print_table("operators between the first and the last neuron",
                ["operator", "becomes", "what it computes"], cells)  # fmt: skip
    return 0
