"""What is measured on one batch of images."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from onnx2snn.calibration.calibrate import with_outputs
from onnx2snn.decision import is_classes, told_classes
from onnx2snn.energy.costs import shapes_of
from onnx2snn.energy.estimate import EnergyMeter
from onnx2snn.energy.synapses import weights_met
from onnx2snn.evaluation.exit_score import EarlyExitScore
from onnx2snn.evaluation.stand_in import calibrated_ranges, equal_bits, reference, to_ann
from onnx2snn.evaluation.totals import Totals, squares
from onnx2snn_runtime.backends.base import Runner
from onnx2snn_runtime.data.inputs import Piece
from onnx2snn_runtime.data.labels import Labels
from onnx2snn_runtime.errors import DataError
from onnx2snn_runtime.network import Network
from onnx2snn_runtime.planning.weighted import signal_at

Array = Any


@dataclass(frozen=True)
class Comparison:
    """A network against labels and the ANN, over timesteps.

    Attributes:
        steps: timesteps after which the answer is measured.
        against: the ANN to compare with; None: the one that the file stands for.
        early_exit: also measure early exit.
    """

    steps: tuple[int, ...]
    against: onnx.ModelProto | None
    early_exit: bool

    def open(self, network: Network) -> Callable[[Piece], Totals]:
        """What measures a batch."""
        return Measurement(network, self).measure


class Measurement:
    """A loaded network and all that it is compared with, ready to measure batches."""

    def __init__(self, network: Network, task: Comparison) -> None:
        self.network, self.task = network, task
        self.meter = EnergyMeter(network.model, network.plan)
        self.early = EarlyExitScore(network, self.meter) if task.early_exit else None
        compile_model = network.backend.compile
        stand_in = to_ann(network.model)
        ann, self._weights = reference(network, task.against)
        self.ann: Runner = compile_model(ann)
        levels = float(2 ** quantised_bits(network) - 1)
        quantised = to_ann(network.model, ranges=calibrated_ranges(network), levels=levels)
        self.quantised: Runner = compile_model(quantised)
        self.skipping = _SkippedZeros(stand_in, compile_model)

    def measure(self, piece: Piece) -> Totals:
        """Measure a batch.

        Raises:
            DataError: the images do not fit, or a label is out of range.
        """
        feeds, _ = self.network.check_feeds(piece.feeds())
        labels = piece.labels
        expected = self.ann(feeds)
        first = self.network.decided(expected)
        scores, classes = is_classes(first), told_classes(first) is not None
        if labels is not None and scores:
            check_labels(labels, first.shape[1], self.network, piece.first)
        known = labels if classes else None
        totals = Totals(len(piece), truths={
            "classes": classes, "scores": scores, "labelled": known is not None,
            **{f"real/{name}": value.dtype.kind == "f" for name, value in expected.items()},
        })  # fmt: skip
        for name, value in expected.items():
            totals.sums[f"norm/{name}"] = squares(value)
        answers, traffic = self.network.observe(feeds, self.task.steps, self.meter.observer)
        for part in traffic:
            totals.count_tables(part.as_dict())
        for t, outputs in answers.items():
            self.compare(totals, f"t{t}", outputs, expected, known)
        self.compare(totals, "ann", expected, expected, known)
        self.compare(totals, "quantised", self.quantised(feeds), expected, known)
        totals.count("skipping_macs", self.skipping.macs(feeds))
        if self.early:
            self.early.add(totals, feeds, first, known)
        return totals

    def compare(
        self,
        totals: Totals,
        who: str,
        outputs: dict[str, Array],
        ann: dict[str, Array],
        labels: Array | None,
    ) -> None:
        """Count how the answers of one network compare with the labels and with the ANN."""
        for name, expected in ann.items():
            given = np.asarray(outputs[name], np.float64)
            with np.errstate(invalid="ignore"):  # infinite answers give no number
                difference = given - np.asarray(expected, np.float64)
            totals.sums[f"{who}/distance/{name}"] = squares(difference)
        scores = self.network.decided(outputs)
        predicted, reference = told_classes(scores), told_classes(self.network.decided(ann))
        if predicted is None:
            return
        totals.count(f"{who}/agree", int((predicted == reference).sum()))
        if labels is None:
            return
        good, ann_good = predicted == labels, reference == labels
        totals.count(f"{who}/right", int(good.sum()))
        totals.count(f"{who}/lost", int((ann_good & ~good).sum()))
        totals.count(f"{who}/gained", int((good & ~ann_good).sum()))
        if totals.truths["scores"]:
            best = np.argsort(-scores, axis=1, kind="stable")[:, :5]
            totals.count(f"{who}/top5", int((best == labels[:, np.newaxis]).any(axis=1).sum()))


def check_labels(labels: Labels, classes: int, network: Network, first: int = 0) -> None:
    """Refuse labels that the network has no class for.

    Args:
        labels: of some images, [n].
        classes: how many the deciding output has.
        network: the spiking network.
        first: index of the first of these images.

    Raises:
        DataError: names the first such label.
    """
    beyond = np.flatnonzero(labels >= classes)
    if len(beyond):
        raise DataError(
            f"label {labels[beyond[0]]} of image {first + beyond[0]} is out of range: "
            f"the network has {classes} classes",
            advice=other_outputs(network),
        )


def other_outputs(network: Network) -> str:
    """What to do where labels do not fit the output that they are held against."""
    if len(network.plan.outputs) == 1:
        return "labels count from 0"
    return (
        f"labels are held against the output {network.decides!r} of "
        f"{', '.join(network.plan.outputs)}: convert with --decides NAME"
    )


def quantised_bits(network: Network) -> int:
    """Bits of the activations of the quantised ANN beside a network."""
    recipe = network.metadata.get("recipe") or {}
    return equal_bits(int(recipe.get("burst_limit", 1)), network.recommended_timesteps)


class _SkippedZeros:
    """MACs of the ANN whose input activation is not zero."""

    def __init__(self, ann: onnx.ModelProto, compile_model: Callable[[Any], Runner]) -> None:
        weights = {item.name: item for item in ann.graph.initializer}
        shapes = shapes_of(ann)
        self.readers: list[tuple[str, Array]] = [
            (name, weights_met(node, weights, shapes).reshape(-1))
            for node in ann.graph.node
            for name in [signal_at(node, weights)]
            if name in shapes
        ]
        inputs = {value.name for value in ann.graph.input}
        wanted = dict.fromkeys(name for name, _ in self.readers if name not in inputs)
        self.run = compile_model(with_outputs(ann, wanted))

    def macs(self, feeds: dict[str, Array]) -> float:
        """Those of one batch."""
        values = {**feeds, **self.run(feeds)}
        total = 0.0
        for name, weight_count in self.readers:
            active = (values[name] != 0).reshape(-1, weight_count.size)
            total += float((active @ weight_count).sum())
        return total
