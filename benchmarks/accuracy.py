"""Accuracy, agreement, spikes and energy of the recipes on real networks and images.

Prints a Markdown table per network and writes all figures to a JSON file. The networks and images
are not part of the project: give their folder with --shared. The embedded network needs nothing.

    python benchmarks/accuracy.py --shared ../shared --only resnet20
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from cases import (
    CIFAR_JPEGS,
    CIFAR_ORIGINALS,
    CIFAR_OWN,
    EMBEDDED,
    FASHION,
    PHOTOS,
    SQUEEZENET,
    Case,
    present,
)

import onnx2snn

RECIPES = ("if", "paper", "fast", "refine")
SHORT = (1, 2, 4, 8)
TWIN_STEPS = (2, 8)  # shown
SUMMARY = (("if", 64), ("paper", 64), ("fast", 2), ("fast", 4), ("refine", 2), ("refine", 4))


def cifar(name: str, preprocess: str) -> list[Case]:
    """A CIFAR-10 network on the originals and on the first 2,000 JPEGs."""
    model = f"models/cifar10_{name}_legacy.onnx"
    return [
        Case(f"{name}, 761 originals", model, *CIFAR_ORIGINALS, preprocess),
        Case(f"{name}, 2,000 JPEGs", model, *CIFAR_JPEGS, preprocess, limit=2000),
    ]  # fmt: skip


def twins(name: str, legacy: str, dynamo: str, *rest: str) -> list[Case]:
    """Two exports of one network on the same 200 images: their figures must match."""
    return [
        Case(f"twins: {name} {kind}, 200 images", f"models/{model}.onnx", *rest, limit=200,
             timesteps=SHORT)
        for kind, model in (("legacy", legacy), ("dynamo", dynamo))
    ]  # fmt: skip


CASES = [
    Case("embedded CNN, 1,000 Fashion-MNIST", *EMBEDDED, "unit"),
    *cifar("resnet20", "imagenet"),
    *cifar("resnet32", "imagenet"),
    *cifar("resnet56", "imagenet"),
    *cifar("vgg_bn", CIFAR_OWN),
    Case("keras_fashion_cnn, 2,000 Fashion-MNIST", "models/keras_fashion_cnn.onnx",
         *FASHION, limit=2000),
    Case("squeezenet, 200 photos", *SQUEEZENET, limit=200),
    Case("squeezenet, 800 photos", *SQUEEZENET, timesteps=SHORT),
    *(
        case
        for depth in (20, 32, 56)
        for case in twins(f"resnet{depth}", f"cifar10_resnet{depth}_legacy",
                          f"cifar10_resnet{depth}_dynamo", *CIFAR_JPEGS, "imagenet")
    ),
    *twins("vgg_bn", "cifar10_vgg_bn_legacy", "cifar10_vgg_bn_dynamo", *CIFAR_JPEGS, CIFAR_OWN),
    *twins("squeezenet", "imagenet_squeezenet1_1_legacy", "imagenet_squeezenet1_1_dynamo",
           *PHOTOS),
    *twins("keras_fashion_cnn", "keras_fashion_cnn", "keras_fashion_cnn_tf2onnx",
           *FASHION),
]  # fmt: skip


def measure(
    case: Case, shared: Path, recipe: str, samples: int, precision: str = "float"
) -> dict[str, object]:
    """Convert with a recipe and evaluate."""
    model, calibration, test = case.files(shared)
    started = time.perf_counter()
    spiking = onnx2snn.convert(
        model,
        calibration=calibration,
        calibration_samples=samples,
        recipe=recipe,
        preprocess=case.preprocess,
        precision=precision,
    )
    converted = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.snn.onnx"
        spiking.save(file)
        result = onnx2snn.evaluate(
            file,
            test,
            timesteps=case.timesteps,
            against=model,
            limit=case.limit,
        )
    return {**result, "case": case.name, "name": recipe, "conversion_s": round(converted, 2)}


def markdown(case: Case, results: list[dict]) -> str:
    """A table: accuracy / agreement by recipe and T, with spikes and energy."""
    ann = results[0]["ann"]
    head = " | ".join(f"T={t}" for t in case.timesteps)
    lines = [
        f"**{case.name}** (ANN {ann['accuracy']:.2f} %, {ann['macs_per_image'] / 1e6:.1f} M MACs)",
        "",
        f"| recipe | | {head} |",
        "| --- | --- |" + " --- |" * len(case.timesteps),
    ]
    for result in results:
        steps = result["steps"]
        rows = {
            "accuracy %": [f"{s['accuracy']:.2f}" for s in steps],
            "agreement %": [f"{s['agreement']:.2f}" for s in steps],
            "thousand spikes": [f"{s['spikes_per_image'] / 1e3:.0f}" for s in steps],
            "energy / ANN": [f"{s['energy_uj'] / ann['energy_uj']:.2f}" for s in steps],
        }
        for index, (name, cells) in enumerate(rows.items()):
            recipe = f"`{result['name']}`" if index == 0 else ""
            lines.append(f"| {recipe} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def summary(saved: list[dict]) -> list[str]:
    """A row for each network: accuracy / agreement of some recipes and steps."""
    found = {(result["case"], result["name"]): result for result in saved}
    lines = ["| network, images | ANN | " + " | ".join(f"`{r}` T={t}" for r, t in SUMMARY) + " |",
             "| --- | --- |" + " --- |" * len(SUMMARY)]  # fmt: skip
    for case in (case for case in CASES if not case.name.startswith("twins")):
        cells = []
        for recipe, t in SUMMARY:
            steps = {
                step["t"]: step for step in found.get((case.name, recipe), {"steps": ()})["steps"]
            }
            step = steps.get(t)
            cells.append(f"{step['accuracy']:.1f} / {step['agreement']:.1f}" if step else "")
        ann = next((found[key]["ann"] for key in found if key[0] == case.name), None)
        if ann is not None:
            lines.append(f"| {case.name} | {ann['accuracy']:.1f} | " + " | ".join(cells) + " |")
    return lines


def twin_rows(saved: list[dict]) -> list[str]:
    """Both exports of a network side by side, a row for each recipe and step."""
    found = {(result["case"], result["name"]): result for result in saved}
    rows = []
    for legacy in (
        case for case in CASES if case.name.startswith("twins") and "legacy" in case.name
    ):
        dynamo = legacy.name.replace("legacy", "dynamo")
        for recipe in RECIPES:
            pair = [found.get((name, recipe)) for name in (legacy.name, dynamo)]
            if None in pair:
                continue
            for a, b in zip(*(result["steps"] for result in pair), strict=True):
                if a["t"] not in TWIN_STEPS:
                    continue
                same = [
                    f"{a[key]:.1f}" if a[key] == b[key] else f"{a[key]:.1f}, {b[key]:.1f}"
                    for key in ("accuracy", "agreement")
                ]
                spikes = b["spikes_per_image"] / max(a["spikes_per_image"], 1e-9) - 1
                name = legacy.name.removeprefix("twins: ").split(" legacy")[0]
                rows.append(f"| {name} | `{recipe}` | {a['t']} | {same[0]} | {same[1]} "
                            f"| {100 * spikes:+.3f} % |")  # fmt: skip
    return rows


def render(files: list[Path]) -> None:
    """Print the tables of what earlier runs have written, a network a table."""
    saved = [result for file in files for result in json.loads(file.read_text())]
    print("\n".join(summary(saved)), end="\n\n")
    for case in CASES:
        found = {result["name"]: result for result in saved if result["case"] == case.name}
        if found and not case.name.startswith("twins"):
            print(markdown(case, [found[name] for name in RECIPES if name in found]))
    rows = twin_rows(saved)
    if rows:
        print("| network | recipe | T | accuracy % | agreement % | spikes, dynamo less legacy |")
        print("| --- | --- | --- | --- | --- | --- |")
        print("\n".join(rows))


def main() -> None:
    """Measure the chosen cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--only", default="", help="part of a case's name")
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--calibration-samples", type=int, default=200)
    parser.add_argument("-o", "--output", type=Path, default=Path("accuracy.json"))
    parser.add_argument("--render", nargs="+", type=Path, metavar="JSON",
                        help="only print the tables of earlier runs")  # fmt: skip
    options = parser.parse_args()
    if options.render:
        render(options.render)
        return
    everything = []
    for case in present(CASES, options.shared, options.only):
        results = [
            measure(case, options.shared, recipe, options.calibration_samples)
            for recipe in options.recipes.split(",")
        ]
        everything += results
        options.output.write_text(json.dumps(everything, indent=1))
        print(markdown(case, results), flush=True)


if __name__ == "__main__":
    main()
