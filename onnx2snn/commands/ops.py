"""``onnx2snn ops``."""

import argparse

import onnx

from onnx2snn.console import print_json, print_out, print_table
from onnx2snn.passes.opset import OPSET
from onnx2snn_runtime.files.model_checks import NEWEST_OPSET
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


def first_opset(name: str) -> int:
    """The operator set of the default domain in which the operator first appears."""
    versions = (
        schema.since_version
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.name == name and not schema.domain
    )
    return min(versions)


def table() -> list[dict[str, str]]:
    """One row per operator of the registry."""
    return [
        {
            "operator": name,
            "opsets": f"{first_opset(name)} to {NEWEST_OPSET}",
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
        "in head and tail, every operator of the default domain may stand. *Opsets* are those of",
        f"the files that may hold it; what is older than {OPSET} goes through onnx's own version",
        "converter first. A neuron stands where an activation lies between weights, elsewhere the",
        "activation is a graded operator. A graded operator sends exact differences, not spikes.",
        "Made by `onnx2snn ops --markdown`.",
        "",
        "| operator | opsets | becomes | behaviour over time | what it computes |",
        "| --- | --- | --- | --- | --- |",
    ]
    columns = ("opsets", "becomes", "behaviour", "summary")
    for row in rows:
        cells = (row[key].replace("|", "\\|") for key in columns)
        lines.append(f"| `{row['operator']}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def run(options: argparse.Namespace) -> int:
    """List the operators."""
    rows = table()
    if options.markdown:
        print_out(markdown(rows))
        return 0
    if options.json:
        print_json(rows)
        return 0
    cells = [[row["operator"], row["opsets"], row["becomes"], row["summary"]] for row in rows]
    print_table("operators between the first and the last neuron",
                ["operator", "opsets", "becomes", "what it computes"], cells)  # fmt: skip
    return 0
