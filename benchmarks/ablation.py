"""What each part of the refining code and of the tuner's settings pays, one setting a row.

Thresholds come from the first half of the calibration images, everything is measured on the second
half; no test image is touched. Prints a Markdown table.

    python benchmarks/ablation.py --shared ../shared
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

import onnx2snn
from onnx2snn.recipes import RECIPES, Recipe

FAST, REFINE = RECIPES["fast"], RECIPES["refine"]
BALANCED = replace(REFINE, precision=1 / 64, recommended_timesteps=4)
ROWS: list[tuple[str, Recipe, int]] = [
    ("`fast`, T=2", FAST, 2),
    ("`fast`, T=4", FAST, 4),
    ("`refine`, T=2", REFINE, 2),
    ("`refine`, T=4", REFINE, 4),
    ("a threshold per channel", replace(REFINE, per_channel=True), 4),
    ("threshold rule mse", replace(REFINE, rule="mse"), 4),
    ("scale 1/4 instead of 1/8", replace(REFINE, scale=0.25), 4),
    ("scale 1/4, the unit quartered", replace(REFINE, scale=0.25, decay=2), 3),
    ("dead zone 0.6", replace(REFINE, dead_zone=0.6), 4),
    ("dead zone 2/3", replace(REFINE, dead_zone=2 / 3), 4),
    ("layers balanced, last unit 1/64", BALANCED, 4),
    ("balanced, dead zone 0.6", replace(BALANCED, dead_zone=0.6), 4),
    ("balanced, dead zone 0.6, T=3", replace(BALANCED, dead_zone=0.6, recommended_timesteps=3), 3),
    ("balanced, dead zone 0.6, last unit 1/90", replace(BALANCED, dead_zone=0.6, precision=1 / 90),
     4),
    *(
        (f"`fast`, γ = {burst}, T=8", replace(FAST, burst_limit=burst), 8)
        for burst in (1, 2, 5)
    ),
    *(
        (f"`refine`, γ = {burst}, T=8", replace(REFINE, burst_limit=burst), 8)
        for burst in (1, 2, 5)
    ),
]  # fmt: skip


def main() -> None:
    """Measure every row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--model", default="models/cifar10_resnet20_legacy.onnx")
    parser.add_argument("--data", default="data/cifar10_calib.npz")
    parser.add_argument("--preprocess", default="imagenet")
    options = parser.parse_args()
    images = np.load(options.shared / options.data)["images"]
    half = len(images) // 2
    print("| setting | T | output error | agreement % | thousand spikes | energy / ANN |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, recipe, timesteps in ROWS:
        spiking = onnx2snn.convert(
            options.shared / options.model, calibration=images[:half], recipe=recipe,
            preprocess=options.preprocess,
        )  # fmt: skip
        result = onnx2snn.evaluate(spiking.network(), images[half:], timesteps=[timesteps])
        (step,) = result["steps"]
        print(
            f"| {name} | {timesteps} | {step['output_error']:.3f} | {step['agreement']:.2f} "
            f"| {step['spikes_per_image'] / 1e3:.0f} "
            f"| {step['energy_uj'] / result['ann']['energy_uj']:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
