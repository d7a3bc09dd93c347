"""The typical method beside a spiking network: plain integrate-and-fire neurons, one spike a step.

The same network, its thresholds the 99.9th percentiles of the calibration images as recipe ``if``
takes them (stored in the file by the conversion), runs until it is as accurate as the network that
it stands beside. What it has cost by then is the energy that "spiking networks" are known for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from onnx2snn.calibration.calibrate import LayerCalibration
from onnx2snn.decision import told_classes
from onnx2snn.energy.estimate import EnergyMeter
from onnx2snn.evaluation.journal import Journal
from onnx2snn.evaluation.stand_in import reference, to_ann
from onnx2snn.evaluation.totals import Totals
from onnx2snn.evaluation.walk import Walk
from onnx2snn.recipes import find_recipe
from onnx2snn.rewriting.classify import Role, classify
from onnx2snn.rewriting.pool_first import pool_last
from onnx2snn.rewriting.rewrite import rewrite
from onnx2snn_runtime.backends import Runner
from onnx2snn_runtime.data.inputs import Piece
from onnx2snn_runtime.errors import ModelError, UsageError
from onnx2snn_runtime.network import Network
from onnx2snn_runtime.planning.planner import make_plan

Array = Any
MOST_STEPS = 512
ROUNDS = (32, 64, 128, 256, MOST_STEPS)  # as few steps as needed are run on all images
WITHIN = 0.2  # points


def typical_network(network: Network) -> onnx.ModelProto:
    """The network of the typical method that has the same ANN.

    Raises:
        UsageError: nothing spikes, the file does not hold its thresholds, or is in whole numbers.
        ModelError: the file holds thresholds of other layers.
    """
    if network.metadata.get("integer"):
        raise UsageError(
            "the typical method is measured beside a network of floats, this one is in integers",
            advice="convert with --precision float for this comparison",
        )
    if not any(unit.operator.spiking for unit in network.plan.stateful):
        raise UsageError("nothing spikes in this network: there is no typical method beside it")
    stored = network.metadata.get("typical")
    if not stored or not stored["thresholds"]:
        raise UsageError(
            "the file does not hold the thresholds of the typical method",
            advice="convert the network again with this version",
        )
    ann = to_ann(network.model, spell_out=False)
    ann = pool_last(ann, frozenset(stored["pool_last"]))
    placed = classify(ann)
    neurons = {item.node.name: item.node for item in placed if item.role is Role.NEURON}
    unknown = ", ".join(neurons.keys() - stored["thresholds"].keys())
    if unknown:
        raise ModelError(f"the file holds no threshold of the typical method for {unknown}")
    calibration = {
        node.output[0]: LayerCalibration(
            np.array([stored["thresholds"][name]], np.float32), 0.0, 0.0, 0.0
        )
        for name, node in neurons.items()
    }
    return rewrite(ann, placed, calibration, find_recipe("if"))


@dataclass(frozen=True)
class Round:
    """The typical method for some steps.

    Attributes:
        model: its network.
        steps: how many.
        against: the ANN; None: the one that the file stands for.
        labelled: a label is right, not the class that the ANN tells.
    """

    model: onnx.ModelProto
    steps: int
    against: onnx.ModelProto | None
    labelled: bool

    def open(self, network: Network) -> Callable[[Piece], Totals]:
        """What measures a batch; ``network`` is the one that it stands beside."""
        return RoundMeasurement(network, self).measure


class RoundMeasurement:
    """A round, ready to measure batches."""

    def __init__(self, network: Network, task: Round) -> None:
        self.task, self.beside, backend = task, network, network.backend
        self.network = Network(task.model, backend=backend, memory=network.memory)
        self.meter = EnergyMeter(self.network.model, self.network.plan)
        ann, self._weights = reference(network, task.against)
        self.ann: Runner | None = None if task.labelled else backend.compile(ann)

    def measure(self, piece: Piece) -> Totals:
        """Run one batch."""
        feeds, _ = self.network.check_feeds(piece.feeds())
        classes = piece.labels
        if self.ann is not None:
            classes = self.told(self.ann(feeds))
        steps = range(1, self.task.steps + 1)
        answers, traffic = self.network.observe(feeds, steps, self.meter.observer)
        totals = Totals(len(piece))
        for part in traffic:
            totals.count_tables(part.as_dict())
        for t, outputs in answers.items():
            totals.count(f"right/{t}", int(np.count_nonzero(self.told(outputs) == classes)))
        return totals

    def told(self, outputs: Mapping[str, Any]) -> Any:
        """Class numbers, [N]."""
        return told_classes(self.beside.decided(outputs))


class TypicalMethod:
    """Runs the typical method until it is as accurate.

    Args:
        network: the spiking network that it stands beside.
        against: the ANN; None: the one that the file stands for.

    Raises:
        UsageError: the file does not hold its thresholds.
    """

    def __init__(self, network: Network, against: onnx.ModelProto | None) -> None:
        self.model, self.against = typical_network(network), against

    def measure(
        self, walk: Walk, wanted: float, *, labelled: bool, journal: Journal | None = None
    ) -> dict[str, Any]:
        """Steps and energy at the smallest T at which it is as accurate.

        Args:
            walk: over the images.
            wanted: percentage of right answers to come within 0.2 points of.
            labelled: what is right is told by labels, not by the ANN.
            journal: knows where an interrupted measurement stood.

        Returns:
            ``t``, ``right`` in percent, ``lower_bound`` (it was not as accurate at the last T,
            whose figures these are), spikes and energies per image as in ``eval --json``.
        """
        known = journal.state if journal else None
        meter = EnergyMeter(self.model, make_plan(self.model))
        for steps in ROUNDS:
            if known is not None and steps < known["steps"]:
                continue
            totals = Totals()
            if known is not None and steps == known["steps"]:
                totals = Totals.from_dict(known["totals"])

            def keep(totals: Totals, steps: int = steps) -> None:
                if journal is not None:
                    journal.append({"steps": steps, "totals": totals.as_dict()})

            walk.measure(Round(self.model, steps, self.against, labelled), totals, keep)
            counts = [totals.counted(f"right/{t}") for t in range(1, steps + 1)]
            right = 100.0 * np.array(counts) / totals.images
            enough = np.flatnonzero(right >= wanted - WITHIN)
            if len(enough) or steps == MOST_STEPS:
                t = int(enough[0]) + 1 if len(enough) else MOST_STEPS
                meter.total.restore(totals.table)
                return {
                    "t": t,
                    "right": float(right[t - 1]),
                    "lower_bound": not len(enough),
                    **meter.up_to(t, totals.images),
                }
        raise AssertionError("the last round always answers")
