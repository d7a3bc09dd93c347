"""The setting that ``--target-drop 0.1`` chooses on calibration images, measured on test images.

Prints Markdown tables and writes all figures to a JSON file. One conversion per network; nothing
is chosen on test images. The networks and images are not part of the project: give their folder.
The typical method runs on the first images only, as it takes many steps.

    python benchmarks/tuned.py --shared ../shared --only resnet20
    python benchmarks/tuned.py --shared ../shared --only "resnet20, JPEGs" --parts bursts
    python benchmarks/tuned.py --render tuned.json
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from cases import (
    CIFAR_JPEGS,
    CIFAR_ORIGINALS,
    CIFAR_OWN,
    EMBEDDED,
    FASHION,
    SQUEEZENET,
    Case,
    present,
)

import onnx2snn

TARGET = 0.1
HEADER = (
    "| network | images | T | ANN % | SNN % | lost − gained | agreement % | energy / ANN "
    "| integer energy / quantised ANN | expected loss | tuned in s |"
)
TYPICAL_HEADER = (
    "| network | images | T | SNN % | typical method's T | its % | its energy / ANN "
    "| energy / typical method |"
)
TYPICAL_IMAGES = {"squeezenet": 100, "resnet56, JPEGs": 200}  # which take longest
MOST_TYPICAL_IMAGES = 1000
BURSTS_HEADER = (
    "| network | images | burst limit | T | ANN % | SNN % | agreement % | thousand spikes "
    "| energy / ANN | integer energy / quantised ANN |"
)
BURSTS = {1: 32, 2: 16, 5: 8, 15: 8}  # burst limit: steps at most
BURST_IMAGES = 2000


CASES = [
    Case("embedded CNN", *EMBEDDED[:2], *FASHION[1:]),
    Case("keras_fashion_cnn", "models/keras_fashion_cnn.onnx", *FASHION),
    *(
        Case(f"{name}, {kind}", f"models/cifar10_{name}_legacy.onnx", *data, preprocess)
        for name, preprocess in (
            ("resnet20", "imagenet"), ("vgg_bn", CIFAR_OWN), ("resnet32", "imagenet"),
            ("resnet56", "imagenet"),
        )
        for kind, data in (("JPEGs", CIFAR_JPEGS), ("originals", CIFAR_ORIGINALS))
    ),
    Case("squeezenet", *SQUEEZENET),
]  # fmt: skip


def measure(case: Case, shared: Path, samples: int, parts: list[str]) -> dict[str, Any]:
    """Tune on calibration images, evaluate on test images at the recommended step."""
    model, calibration, test = case.files(shared)
    found: dict[str, Any] = {"case": case.name}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.snn.onnx"

        def tune(**options: int) -> list[int]:
            started = time.perf_counter()
            spiking = onnx2snn.convert(
                model, calibration=calibration, calibration_samples=samples, target_drop=TARGET,
                preprocess=case.preprocess, **options,
            )  # fmt: skip
            assert spiking.tuning is not None
            spiking.save(file)
            found["seconds"] = time.perf_counter() - started
            found["tuning"] = spiking.tuning.as_dict()
            return [spiking.tuning.chosen.timesteps]

        if "images" in parts or "typical" in parts:
            steps = tune()
            few = TYPICAL_IMAGES.get(case.name, MOST_TYPICAL_IMAGES)
            if "images" in parts:
                found |= onnx2snn.evaluate(file, test, timesteps=steps, against=model)
            if "typical" in parts:
                found["beside"] = onnx2snn.evaluate(
                    file, test, timesteps=steps, typical=True, limit=few
                )
        if "bursts" in parts:
            found["bursts"] = [
                onnx2snn.evaluate(
                    file, test, timesteps=tune(burst=burst, max_timesteps=most),
                    limit=BURST_IMAGES,
                )
                for burst, most in BURSTS.items()
            ]  # fmt: skip
    return found


def row(result: dict[str, Any]) -> str:
    """One line of the table."""
    (step,), ann = result["steps"], result["ann"]
    net = 100.0 * (step["lost"] - step["gained"]) / result["samples"]
    integer = step["energy_int_uj"] / result["quantised_ann"]["energy_int_uj"]
    return (
        f"| {result['case']} | {result['samples']:,} | {step['t']} | {ann['accuracy']:.2f} "
        f"| {step['accuracy']:.2f} | {net:.2f} | {step['agreement']:.2f} "
        f"| {step['energy_uj'] / ann['energy_uj']:.2f} | {integer:.2f} "
        f"| {result['tuning']['chosen']['expected_loss']:.2f} | {result['seconds']:.0f} |"
    )


def typical_row(result: dict[str, Any]) -> str:
    """One line of the table of the typical method."""
    (step,), typical, ann = result["steps"], result["typical"], result["ann"]["energy_uj"]
    bound = "> " if typical["lower_bound"] else ""
    ratio = (
        f"{'< ' if typical['lower_bound'] else ''}{step['energy_uj'] / typical['energy_uj']:.2f}"
    )
    return (
        f"| {result['case']} | {result['samples']:,} | {step['t']} | {step['accuracy']:.2f} "
        f"| {bound}{typical['t']} | {typical['accuracy']:.2f} "
        f"| {bound}{typical['energy_uj'] / ann:.2f} | {ratio} |"
    )


def burst_rows(result: dict[str, Any]) -> list[str]:
    """A line for each burst limit."""
    rows = []
    for found in result["bursts"]:
        (step,), ann = found["steps"], found["ann"]
        integer = step["energy_int_uj"] / found["quantised_ann"]["energy_int_uj"]
        rows.append(
            f"| {result['case']} | {found['samples']:,} | {found['recipe']['burst_limit']} "
            f"| {step['t']} | {ann['accuracy']:.2f} | {step['accuracy']:.2f} "
            f"| {step['agreement']:.2f} | {step['spikes_per_image'] / 1e3:.0f} "
            f"| {step['energy_uj'] / ann['energy_uj']:.2f} | {integer:.2f} |"
        )
    return rows


def table(header: str, names: int, rows: list[str]) -> str:
    """A table of these lines, the first columns to the left; nothing without lines."""
    line = "|" + " --- |" * names + " --- |" * (header.count("|") - 1 - names)
    return "\n".join([header, line, *rows, ""]) if rows else ""


def render(results: list[dict[str, Any]]) -> str:
    """All tables that something was measured for."""
    beside = [{**r["beside"], "case": r["case"]} for r in results if "beside" in r]
    return "\n".join([
        table(HEADER, 2, [row(r) for r in results if "samples" in r]),
        table(TYPICAL_HEADER, 1, [typical_row(r) for r in beside]),
        table(BURSTS_HEADER, 1, [line for r in results if "bursts" in r for line in burst_rows(r)]),
    ])  # fmt: skip


def main() -> None:
    """Measure the chosen cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--only", default="", help="part of a case's name")
    parser.add_argument("--calibration-samples", type=int, default=512)
    parser.add_argument("--parts", default="images,typical",
                        help="what is measured: images, typical, bursts")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, default=Path("tuned.json"))
    parser.add_argument("--render", nargs="+", type=Path, metavar="JSON",
                        help="only print the tables of earlier runs")  # fmt: skip
    options = parser.parse_args()
    if options.render:
        print(render([r for file in options.render for r in json.loads(file.read_text())]))
        return
    everything = []
    parts = options.parts.split(",")
    for case in present(CASES, options.shared, options.only):
        everything.append(measure(case, options.shared, options.calibration_samples, parts))
        options.output.write_text(json.dumps(everything, indent=1))
        print(f"measured {case.name}", flush=True)
    print(render(everything))


if __name__ == "__main__":
    main()
