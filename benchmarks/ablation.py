"""What each part of the refining code and of the tuner's settings pays, one setting a row.

Thresholds come from the first half of the calibration images, everything is measured on the second
half; no test image is touched. Prints a Markdown table.

    python benchmarks/ablation.py --shared ../shared
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import onnx2snn
from onnx2snn.calibration import balance
from onnx2snn.recipes import RECIPES, Recipe

FAST, REFINE = RECIPES["fast"], RECIPES["refine"]
BALANCED = replace(REFINE, precision=1 / 64, recommended_timesteps=4)
TUNED = replace(BALANCED, dead_zone=0.6)
FROM_ZERO = 0.0  # quantile of a rectifier that is zero
MEDIAN = 0.5


@dataclass(frozen=True)
class Row:
    """A setting; ``usual`` is the quantile that balanced estimates begin with."""

    name: str
    recipe: Recipe
    timesteps: int = 4
    usual: float = balance.USUAL


ROWS = [
    Row("`fast`, T=2", FAST, 2),
    Row("`fast`, T=4", FAST),
    Row("`refine`, T=2", REFINE, 2),
    Row("`refine`, T=4", REFINE),
    Row("a threshold per channel", replace(REFINE, per_channel=True)),
    Row("threshold rule mse", replace(REFINE, rule="mse")),
    Row("scale 1/4 instead of 1/8", replace(REFINE, scale=0.25)),
    Row("scale 1/4, the unit quartered", replace(REFINE, scale=0.25, decay=2), 3),
    Row("dead zone 0.6", replace(REFINE, dead_zone=0.6)),
    Row("dead zone 2/3", replace(REFINE, dead_zone=2 / 3)),
    Row("layers balanced, last unit 1/64", BALANCED, usual=FROM_ZERO),
    Row("balanced, dead zone 0.6", TUNED, usual=FROM_ZERO),
    Row("balanced, dead zone 0.6, from the usual", TUNED),
    Row("balanced, dead zone 0.6, from the median", TUNED, usual=MEDIAN),
    Row("balanced, dead zone 0.6, from the usual, T=3", replace(TUNED, recommended_timesteps=3), 3),
    Row(
        "balanced, dead zone 0.6, from the usual, last unit 1/90", replace(TUNED, precision=1 / 90)
    ),
    Row("balanced, dead zone 0.6, from the usual, shortcuts", replace(TUNED, shortcuts=True)),
    Row(
        "balanced, dead zone 0.6, from the usual, shortcuts, last unit 1/45",
        replace(TUNED, shortcuts=True, precision=1 / 45),
    ),
    *(Row(f"`fast`, γ = {burst}, T=8", replace(FAST, burst_limit=burst), 8) for burst in (1, 2, 5)),
    *(
        Row(f"`refine`, γ = {burst}, T=8", replace(REFINE, burst_limit=burst), 8)
        for burst in (1, 2, 5)
    ),
]


def main() -> None:
    """Measure every row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--model", default="models/cifar10_resnet20_legacy.onnx")
    parser.add_argument("--data", default="data/cifar10_calib.npz")
    parser.add_argument("--preprocess", default="imagenet")
    parser.add_argument("--only", default="", help="part of a row's name")
    options = parser.parse_args()
    images = np.load(options.shared / options.data)["images"]
    half = len(images) // 2
    print("| setting | T | output error | agreement % | thousand spikes | energy / ANN |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in ROWS:
        if options.only not in row.name:
            continue
        balance.USUAL = row.usual
        spiking = onnx2snn.convert(
            options.shared / options.model, calibration=images[:half], recipe=row.recipe,
            preprocess=options.preprocess,
        )  # fmt: skip
        result = onnx2snn.evaluate(spiking.network(), images[half:], timesteps=[row.timesteps])
        (step,) = result["steps"]
        print(
            f"| {row.name} | {row.timesteps} "
            f"| {step['output_error']:.3f} | {step['agreement']:.2f} "
            f"| {step['spikes_per_image'] / 1e3:.0f} "
            f"| {step['energy_uj'] / result['ann']['energy_uj']:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
