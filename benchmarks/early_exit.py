"""What early exit takes and what it loses on test images it knows nothing of.

The rule is chosen by conversion, on calibration images. Early exit and the dense ANN in onnxruntime
take turns, batch by batch, in one process on one thread; CPU seconds are compared. Agreement is
with the ANN; what is lost, against the last step of the rule. Prints Markdown.

    python benchmarks/early_exit.py --shared ../shared --only squeezenet
"""

import argparse
import platform
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cases import CIFAR_JPEGS, CIFAR_ORIGINALS, EMBEDDED, SQUEEZENET, Case, present
from cpu import measured, session

import onnx2snn
from onnx2snn.tuning.tune_exit import DEFAULT_LOSS
from onnx2snn_runtime import Network
from onnx2snn_runtime.data.sources import open_data

READ_IMAGES = 256  # of the batches that take turns
DENSE_IMAGES = 32  # at once in the dense ANN
CASES = [
    Case("embedded CNN", *EMBEDDED, "unit"),
    *(
        Case(f"{name}, {kind}", f"models/cifar10_{name}_legacy.onnx", *data, "imagenet")
        for name in ("resnet20", "resnet56")
        for kind, data in (("JPEGs", CIFAR_JPEGS), ("originals", CIFAR_ORIGINALS))
    ),
    Case("squeezenet", *SQUEEZENET),
]
OPTIONS: dict[str, dict[str, Any]] = {
    "fast": {"recipe": "fast"},
    "refine": {"recipe": "refine"},
    "target-drop": {"target_drop": 0.1},
    "latency": {"target_drop": 0.1, "prefer": "latency"},
}
HEADER = (
    "| network | images | conversion | mean T | dense passes an image | stated loss "
    "| agreement % | lost | accuracy % | at the last step | ANN |"
)


class Count:
    """Sums over all images of a data set."""

    def __init__(self) -> None:
        self.images = self.steps = self.agree = self.agree_last = 0
        self.right = self.right_last = self.right_ann = 0
        self.seconds = self.dense_seconds = 0.0

    def row(self, case: str, conversion: str, rule: Any) -> str:
        """One line of the table."""
        agree, last, right, right_last, ann = (
            100.0 * number / self.images
            for number in (
                self.agree, self.agree_last, self.right, self.right_last, self.right_ann
            )
        )  # fmt: skip
        return (
            f"| {case} | {self.images:,} | `{conversion}` | {self.steps / self.images:.2f} "
            f"| {self.seconds / self.dense_seconds:.2f} | {rule.stated_loss:g} "
            f"| {agree:.2f} | {last - agree:.2f} | {right:.2f} | {right_last:.2f} | {ann:.2f} |"
        )


def measure(
    case: Case, shared: Path, conversion: str, samples: int, exit_loss: float, limit: int | None
) -> str:
    """Convert, then run every test image: densely, with early exit, and to the last step."""
    model, calibration, test = case.files(shared)
    converted = onnx2snn.convert(
        model, calibration=calibration, calibration_samples=samples, preprocess=case.preprocess,
        exit_loss=exit_loss, **OPTIONS[conversion],
    )  # fmt: skip
    network = Network(converted.proto, backend="onnxruntime", threads=1)
    ann = session(onnx.load(model), 1)
    name, rule, count = ann.get_inputs()[0].name, network.exit_rule, Count()
    ((_, shape),) = network.input_shapes.items()
    data = open_data(test, limit=limit)

    def densely(images: Any) -> Any:
        parts = range(0, len(images), DENSE_IMAGES)
        return [ann.run(None, {name: images[i : i + DENSE_IMAGES]})[0] for i in parts]

    def leaving(images: Any) -> Any:
        return network.run(images, early_exit=True)

    for images, labels in data.batches(READ_IMAGES, shape[1:], network.preprocessing):
        expected, dense_seconds = measured(densely, images)
        early, seconds = measured(leaving, images)
        last = network.run(images, rule.steps[-1]).logits.argmax(axis=1)
        dense = np.concatenate(expected).argmax(axis=1)
        answer = early.logits.argmax(axis=1)
        count.images += len(images)
        count.seconds += seconds
        count.dense_seconds += dense_seconds
        count.steps += int(early.exit_steps.sum())
        for kind, given in (("", answer), ("_last", last), ("_ann", dense)):
            if kind != "_ann":
                vars(count)[f"agree{kind}"] += int((given == dense).sum())
            vars(count)[f"right{kind}"] += int((given == labels).sum())
    return count.row(case.name, conversion, rule)


def main() -> None:
    """Measure every case with every conversion."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--only", default="", help="part of a case's name")
    parser.add_argument("--conversions", nargs="+", default=["fast"], choices=OPTIONS)
    parser.add_argument("--calibration-samples", type=int, default=512)
    parser.add_argument("--exit-loss", nargs="+", type=float, default=[DEFAULT_LOSS])
    parser.add_argument("--limit", type=int, help="use only the first images")
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, one thread\n")
    print(HEADER + "\n|" + " --- |" * (HEADER.count("|") - 1), flush=True)
    for case in present(CASES, options.shared, options.only):
        for conversion in options.conversions:
            for loss in options.exit_loss:
                print(measure(case, options.shared, conversion, options.calibration_samples,
                              loss, options.limit), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
