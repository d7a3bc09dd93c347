"""Thresholds without calibration images: from BatchNormalization or noise, beside those of images.

PyTorch's legacy exporter keeps BatchNormalization in the file, its dynamo exporter folds it, so
that nothing but noise is left. Recipe ``fast``; prints a Markdown table.

    python benchmarks/without_images.py --shared ../shared
"""

import argparse
import warnings
from pathlib import Path

from accuracy import CASES
from cases import Case

import onnx2snn

TIMESTEPS = (2, 4, 8)
IMAGES = 500
CALIBRATION = 200
CHOSEN = ("resnet20, 761 originals", "resnet32, 761 originals", "vgg_bn, 761 originals")


def measure(case: Case, shared: Path, model: str, *, images: bool) -> str:
    """Accuracy / agreement at each number of steps, as cells of a table."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        spiking = onnx2snn.convert(
            shared / model, calibration=shared / case.calibration if images else None,
            calibration_samples=CALIBRATION, preprocess=case.preprocess, recipe="fast",
        )  # fmt: skip
    network = spiking.network()
    result = onnx2snn.evaluate(
        network, shared / case.test, timesteps=TIMESTEPS, limit=IMAGES,
        preprocessing=network.preprocessing,
    )  # fmt: skip
    cells = (f"{step['accuracy']:.1f} / {step['agreement']:.1f}" for step in result["steps"])
    return f"{result['ann']['accuracy']:.1f} | " + " | ".join(cells)


def main() -> None:
    """Measure three networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    options = parser.parse_args()
    print("| network | thresholds from | ANN | " + " | ".join(f"T={t}" for t in TIMESTEPS) + " |")
    print("| --- | --- | --- |" + " --- |" * len(TIMESTEPS))
    for case in (case for case in CASES if case.name in CHOSEN):
        dynamo = case.model.replace("legacy", "dynamo")
        for source, model, images in (
            (f"{CALIBRATION} images", case.model, True),
            ("BatchNormalization", case.model, False),
            ("noise", dynamo, False),
        ):
            cells = measure(case, options.shared, model, images=images)
            print(f"| {case.name.split(',')[0]} | {source} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
