"""What early exit saves and what it loses on a data set."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from onnx2snn_runtime.early_exit import distribution
from onnx2snn_runtime.errors import UsageError
from onnx2snn_runtime.network import Network

Array = Any


class EarlyExitScore:
    """Compares early exit with the last step of its rule, batch by batch.

    Raises:
        UsageError: the file holds no rule.
    """

    def __init__(self, network: Network) -> None:
        rule = network.exit_rule
        if rule is None:
            raise UsageError(
                "--early-exit: the file holds no rule for it",
                advice="convert again, with calibration images; the network must tell classes",
            )
        self.network, self.rule = network, rule
        self.used: list[int] = []
        self.agree = self.agree_last = self.right = 0
        self.labelled = True

    def add(self, feeds: Mapping[str, Array], ann: Array, labels: Array | None) -> None:
        """Run one batch both ways; ``ann`` [N,K] is the answer of the ANN."""
        early = self.network.run(feeds, early_exit=True)
        last = self.network.run(feeds, self.rule.steps[-1])
        answer, expected = early.logits.argmax(axis=1), ann.argmax(axis=1)
        self.agree += int((answer == expected).sum())
        self.agree_last += int((last.logits.argmax(axis=1) == expected).sum())
        self.labelled = self.labelled and labels is not None
        if labels is not None:
            self.right += int((answer == labels).sum())
        self.used += np.asarray(early.exit_steps).tolist()

    def document(self) -> dict[str, Any]:
        """Steps taken, accuracy and agreement in percent, loss in points of agreement."""
        count = len(self.used)
        return {
            "mean_t": float(np.mean(self.used)),
            "distribution": distribution(self.used),
            "accuracy": 100.0 * self.right / count if self.labelled else None,
            "agreement": 100.0 * self.agree / count,
            "last_t": self.rule.steps[-1],
            "loss": 100.0 * (self.agree_last - self.agree) / count,
            "stated_loss": self.rule.stated_loss,
            "unit": self.rule.unit,
        }
