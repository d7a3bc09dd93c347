"""What early exit saves and what it loses on a data set."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from onnx2snn.energy.estimate import EnergyMeter, ImageTraffic
from onnx2snn.evaluation.totals import Totals
from onnx2snn_runtime.early_exit import ExitRule, distribution
from onnx2snn_runtime.errors import UsageError
from onnx2snn_runtime.network import Network

Array = Any


class EarlyExitScore:
    """Compares early exit with the last step of its rule, batch by batch.

    Raises:
        UsageError: the file holds no rule.
    """

    def __init__(self, network: Network, meter: EnergyMeter) -> None:
        self.network, self.rule, self.meter = network, exit_rule(network), meter

    def add(
        self, totals: Totals, feeds: Mapping[str, Array], ann: Array, labels: Array | None
    ) -> None:
        """Run one batch both ways; ``ann`` [N,K] is the answer of the ANN."""
        early = self.network.run(feeds, early_exit=True)
        end = self.rule.steps[-1]
        answers, parts = self.network.observe(feeds, [end], lambda: ImageTraffic(self.meter))
        used = np.asarray(early.exit_steps)
        last, answer, expected = (
            scores.argmax(axis=1)
            for scores in (
                self.network.decided(answers[end]), self.network.decided(early.outputs), ann,
            )
        )  # fmt: skip
        totals.count("exit/agree", int((answer == expected).sum()))
        totals.count("exit/agree_last", int((last == expected).sum()))
        if labels is not None:
            totals.count("exit/right", int((answer == labels).sum()))
        for step, count in distribution(used.tolist()).items():
            totals.count(f"exit_steps/{step}", count)
        for name in ImageTraffic.TABLES:
            sent = joined(getattr(part, name) for part in parts)
            staying = (numbers[used >= t].sum() for t, numbers in sent.items())
            totals.count(f"exit/{name}", float(sum(staying)))


def exit_rule(network: Network) -> ExitRule:
    """The rule of a network.

    Raises:
        UsageError: the file holds none.
    """
    rule = network.exit_rule
    if rule is None:
        raise UsageError(
            "--early-exit: the file holds no rule for it",
            advice="convert again, with calibration images; the network must tell classes",
        )
    return rule


def joined(tables: Iterable[Mapping[int, Array]]) -> dict[int, Array]:
    """Tables of parts of the images, step to [n], as one of all, step to [N]."""
    parts = list(tables)
    steps = sorted({step for part in parts for step in part})
    return {step: np.concatenate([part[step] for part in parts]) for step in steps}


def exit_document(rule: ExitRule, totals: Totals, meter: EnergyMeter) -> dict[str, Any]:
    """Steps, accuracy and agreement in percent, loss in points of agreement, spikes and energy.

    Images send until they leave; the tail answers at every check.
    """
    used = totals.table("exit_steps")
    agree, count = totals.counted("exit/agree"), totals.images
    right = 100.0 * totals.counted("exit/right") / count
    checks = sum((rule.steps.index(step) + 1) * images for step, images in used)
    spikes, synops, macs = (totals.counted(f"exit/{name}") / count for name in ImageTraffic.TABLES)
    return {
        "mean_t": sum(step * images for step, images in used) / count,
        "distribution": {str(step): images for step, images in used},
        "accuracy": right if totals.truths["labelled"] else None,
        "agreement": 100.0 * agree / count,
        "last_t": rule.steps[-1],
        "loss": 100.0 * (totals.counted("exit/agree_last") - agree) / count,
        "stated_loss": rule.stated_loss,
        "unit": rule.unit,
        **meter.energies(spikes, synops, macs, answers=checks / count),
    }
