"""Whole numbers beside floats: accuracy, agreement, spikes and energy of the recipe ``fast``.

Prints one Markdown table and writes all figures to a JSON file. The same calibration images and
thresholds for both; test images are only measured on. The networks and images are not part of the
project: give their folder with --shared. The embedded network needs nothing.

    python benchmarks/precision.py --shared ../shared --only resnet20
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from accuracy import CASES, measure
from cases import present

PRECISIONS = ("float", "int8")
TIMESTEPS = (2, 4, 8)
LIMIT = 2000
NETWORKS = (
    "embedded", "resnet20", "resnet32", "resnet56", "vgg_bn", "keras_fashion_cnn",
    "squeezenet, 800",
)  # fmt: skip
HEADER = (
    "| network | T | ANN % | float % | int8 % | int8 less float | agreement float % "
    "| agreement int8 % | thousand spikes float | int8 | integer µJ float | int8 |"
)


def row(name: str, ann: dict[str, Any], steps: list[dict[str, Any]]) -> str:
    """One line of the table, from the same step in both precisions."""
    real, whole = steps
    cells = [
        name,
        real["t"],
        f"{ann['accuracy']:.2f}",
        f"{real['accuracy']:.2f}",
        f"{whole['accuracy']:.2f}",
        f"{whole['accuracy'] - real['accuracy']:+.2f}",
        *(f"{step['agreement']:.2f}" for step in steps),
        *(f"{step['spikes_per_image'] / 1e3:.0f}" for step in steps),
        *(f"{step['energy_int_uj']:.2f}" for step in steps),
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    """Measure the chosen cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--only", default="", help="part of a case's name")
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--calibration-samples", type=int, default=200)
    parser.add_argument("-o", "--output", type=Path, default=Path("precision.json"))
    options = parser.parse_args()
    print(HEADER + "\n" + "| --- " * HEADER.count(" | ") + "| --- |")
    everything = []
    cases = [case for case in CASES if case.name.startswith(NETWORKS)]
    for case in present(cases, options.shared, options.only):
        chosen = replace(case, timesteps=TIMESTEPS, limit=min(case.limit or LIMIT, LIMIT))
        both = [
            measure(chosen, options.shared, options.recipe, options.calibration_samples, precision)
            for precision in PRECISIONS
        ]
        everything += [
            {**result, "precision": name} for name, result in zip(PRECISIONS, both, strict=True)
        ]
        options.output.write_text(json.dumps(everything, indent=1))
        for steps in zip(*(result["steps"] for result in both), strict=True):
            print(row(case.name, both[0]["ann"], list(steps)), flush=True)


if __name__ == "__main__":
    main()
