"""The claims of Li & Zeng, IJCAI 2022, on our networks: writes docs/paper.md and its pictures.

Charges, spikes and the rules of pooling are read from the file's own states in a loop over plain
onnxruntime (`paper_loop`); accuracy over time and energy come from `onnx2snn.evaluate`, on more
images. The embedded network and its images are in the repository; the others are measured where the
folder --shared has them.

    python benchmarks/paper.py --shared ../shared
    python benchmarks/paper.py --write paper.json
"""

import argparse
import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cases import CIFAR_ORIGINALS, CIFAR_OWN, EMBEDDED, Case, present
from paper_loop import Array, membrane, neurons, steps, with_pooling
from paper_page import write_page

import onnx2snn
from onnx2snn.calibration.calibrate import with_outputs
from onnx2snn.evaluation.stand_in import to_ann
from onnx2snn.recipes import RECIPES, Recipe
from onnx2snn.rewriting.classify import Role, classify
from onnx2snn.rewriting.pool_first import pool_first
from onnx2snn.rewriting.rewrite import rewrite
from onnx2snn_runtime.backends import open_backend
from onnx2snn_runtime.data.sources import open_data

BURSTS = (1, 2, 5, 10)
POOLINGS = ("spike max", "gate", "max before the neurons", "lateral inhibition")
LAST = 128  # steps of the curves
SHOWN = (8, 16, 32, 64)  # steps at which neurons are looked into
BATCH = 50
LOOKED_INTO = 100  # images
CALIBRATION = 200
PAPER = RECIPES["paper"]
EDGES = np.array([-np.inf, *np.linspace(-10, 20, 61), np.inf])  # of V / θ
CASES = [
    Case("embedded CNN", *EMBEDDED, "unit", limit=400),
    Case("ResNet-20", "models/cifar10_resnet20_legacy.onnx", *CIFAR_ORIGINALS, "imagenet",
         limit=400),
    Case("VGG-BN", "models/cifar10_vgg_bn_legacy.onnx", *CIFAR_ORIGINALS, CIFAR_OWN, limit=400),
]  # fmt: skip


def charges(model: onnx.ModelProto, batches: list[tuple[Array, Array]]) -> dict[str, Any]:
    """Run images and look into every neuron at the steps that are shown.

    Returns:
        By step: ``kept``, the charge above the threshold that could not be sent yet, in percent of
        all charge received; ``wrong``, percent of the neurons with an ANN activation of zero that
        have sent a spike; ``wrong_spikes``, theirs in percent of all spikes; ``spikes`` per image.
        And ``charge``, a histogram of V / θ of the other neurons after the last step.
    """
    layers = neurons(model)
    ann = open_backend("onnxruntime")[0].compile(with_outputs(to_ann(model), layers))
    sums = {t: np.zeros(5) for t in SHOWN}  # kept, received, wrong, wrong spikes, spikes
    histogram, silent, count = np.zeros(len(EDGES) - 1), 0, 0
    for images, _ in batches:
        activations = ann({model.graph.input[0].name: images})
        inactive = {name: activations[name] <= 0 for name in layers}
        silent += sum(int(mask.sum()) for mask in inactive.values())
        count += len(images)
        for t, values in enumerate(steps(model, images, SHOWN[-1]), start=1):
            for name, node in layers.items() if t in sums else ():
                left, sent = membrane(model, node, values), values[node.input[3]]
                wrong = sent[inactive[name]]
                sums[t] += [np.maximum(left - 1, 0).sum(), np.maximum(left + sent, 0).sum(),
                            (wrong > 0).sum(), wrong.sum(), sent.sum()]  # fmt: skip
                if t == SHOWN[-1]:
                    histogram += np.histogram(left[~inactive[name]], EDGES)[0]
    return {
        "kept": [100 * kept / received for kept, received, *_ in sums.values()],
        "wrong": [100 * wrong / silent for _, _, wrong, *_ in sums.values()],
        "wrong_spikes": [100 * wrong / max(all_, 1) for *_, wrong, all_ in sums.values()],
        "spikes": [all_ / count for *_, all_ in sums.values()],
        "charge": (histogram / histogram.sum()).tolist(),
    }


def pooled(spiking: onnx2snn.SpikingModel, rule: str) -> onnx.ModelProto:
    """The network of recipe ``paper`` with another rule for its pooling."""
    if rule != "max before the neurons":
        return with_pooling(spiking.proto, rule)
    by_name = {
        item.node.name: spiking.calibration[item.node.output[0]]
        for item in spiking.placed
        if item.role is Role.NEURON
    }
    ann, _ = pool_first(to_ann(spiking.proto, spell_out=False))
    placed = classify(ann)
    thresholds = {
        item.node.output[0]: by_name[item.node.name] for item in placed if item.role is Role.NEURON
    }
    return with_pooling(rewrite(ann, placed, thresholds, spiking.recipe), "spike max")


def pooling_curve(model: onnx.ModelProto, batches: list[tuple[Array, Array]]) -> list[float]:
    """Percent of right answers after each step."""
    right = np.zeros(SHOWN[-1])
    for images, labels in batches:
        for t, values in enumerate(steps(model, images, SHOWN[-1])):
            right[t] += (values[model.graph.output[0].name].argmax(axis=1) == labels).sum()
    found: list[float] = (100 * right / sum(len(labels) for _, labels in batches)).tolist()
    return found


def first_within(result: dict[str, Any], points: float) -> dict[str, Any]:
    """The first step this close to the ANN's accuracy, and the energy by then."""
    ann = result["ann"]
    for row in result["steps"]:
        if row["accuracy"] >= ann["accuracy"] - points:
            return {"t": row["t"], "energy": row["energy_uj"] / ann["energy_uj"]}
    return {"t": None}


def read_batches(case: Case, test: Path, spiking: onnx2snn.SpikingModel) -> list[Any]:
    """The images of the case with their labels, preprocessed."""
    network = spiking.network()
    ((_, shape),) = network.input_shapes.items()
    expected = tuple(size for size in shape[1:] if isinstance(size, int))
    batches = open_data(test).batches(BATCH, expected, network.preprocessing)
    return list(islice(batches, (case.limit or 0) // BATCH))


def measure(case: Case, shared: Path) -> dict[str, Any]:
    """Every figure of one network."""
    model, calibration, test = case.files(shared)

    def convert(recipe: Recipe) -> onnx2snn.SpikingModel:
        return onnx2snn.convert(
            model, calibration=calibration, recipe=recipe,
            calibration_samples=CALIBRATION, preprocess=case.preprocess,
        )  # fmt: skip

    networks = {burst: convert(replace(PAPER, burst_limit=burst)) for burst in BURSTS}
    batches = read_batches(case, test, networks[5])
    few = batches[: LOOKED_INTO // BATCH]
    curves = {
        burst: onnx2snn.evaluate(
            spiking.network(), test, timesteps=range(1, LAST + 1), limit=case.limit
        )
        for burst, spiking in networks.items()
    }
    pools = any(node.op_type.startswith("LIPool") for node in networks[5].proto.graph.node)
    return {
        "case": case.name,
        "images": case.limit,
        "looked_into": LOOKED_INTO,
        "ann": curves[5]["ann"]["accuracy"],
        "accuracy": {
            burst: [row["accuracy"] for row in result["steps"]] for burst, result in curves.items()
        },
        "energy": [
            {"within": points, "burst": str(burst), **first_within(result, points)}
            for points in (1.0, 0.2)
            for burst, result in curves.items()
        ],
        "bursts": {burst: charges(spiking.proto, few) for burst, spiking in networks.items()},
        "signed": charges(convert(replace(PAPER, signed=True)).proto, few),
        "poolings": {
            rule: pooling_curve(pooled(networks[5], rule), batches[: len(few) * 2])
            for rule in POOLINGS
            if pools
        },
    }


def main() -> None:
    """Measure every network that is there, or write the page from what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--only", default="", help="part of a case's name")
    parser.add_argument("--json", type=Path, default=Path("paper.json"))
    parser.add_argument("--write", nargs="+", type=Path, metavar="JSON",
                        help="only write the page, from earlier runs")  # fmt: skip
    options = parser.parse_args()
    if options.write:
        results = [result for file in options.write for result in json.loads(file.read_text())]
        write_page(results, SHOWN, EDGES.tolist())
        return
    everything = []
    for case in present(CASES, options.shared, options.only):
        everything.append(measure(case, options.shared))
        options.json.write_text(json.dumps(everything, indent=1))
        print(f"measured {case.name}", flush=True)


if __name__ == "__main__":
    main()
