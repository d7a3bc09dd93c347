"""The typical method beside a spiking network: plain integrate-and-fire neurons, one spike a step.

The same network, its thresholds the 99.9th percentiles of the calibration images as recipe ``if``
takes them (stored in the file by the conversion), runs until it is as accurate as the network that
it stands beside. What it has cost by then is the energy that "spiking networks" are known for.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from onnx2snn.calibrate import LayerCalibration
from onnx2snn.classify import Role, classify
from onnx2snn.energy import EnergyMeter
from onnx2snn.pool_first import pool_last
from onnx2snn.recipes import find_recipe
from onnx2snn.rewrite import rewrite
from onnx2snn.stand_in import to_ann
from onnx2snn_runtime.errors import UsageError
from onnx2snn_runtime.network import Network

Array = Any
MOST_STEPS = 512
ROUNDS = (32, 64, 128, 256, MOST_STEPS)  # as few steps as needed are run on all images
WITHIN = 0.2  # points

Batches = Callable[[], Iterable[tuple[dict[str, Array], Array]]]
"""Starts over: images by input name, and the classes [n] that count as right."""


def typical_network(network: Network) -> onnx.ModelProto:
    """The network of the typical method that has the same ANN.

    Raises:
        UsageError: the file does not hold its thresholds.
    """
    stored = network.metadata.get("typical")
    if not stored or not stored["thresholds"]:
        raise UsageError(
            "the file does not hold the thresholds of the typical method",
            advice="convert the network again with this version",
        )
    ann = to_ann(network.model, spell_out=False)
    ann = pool_last(ann, frozenset(stored["pool_last"]))
    placed = classify(ann)
    calibration = {
        item.node.output[0]: LayerCalibration(
            np.array([stored["thresholds"][item.node.name]], np.float32), 0.0, 0.0, 0.0
        )
        for item in placed
        if item.role is Role.NEURON
    }
    return rewrite(ann, placed, calibration, find_recipe("if"))


@dataclass
class Totals:
    """What is known after some images of a round.

    Attributes:
        steps: steps of the round.
        done: images so far.
        right: step to the number of images that it answered right.
        traffic: what was sent, as ``Traffic.as_dict``.
    """

    steps: int
    done: int
    right: list[int]
    traffic: dict[str, Any]


class TypicalMethod:
    """Runs the typical method until it is as accurate.

    Args:
        network: the spiking network that it stands beside.

    Raises:
        UsageError: the file does not hold its thresholds.
    """

    def __init__(self, network: Network) -> None:
        self.network = Network(
            typical_network(network),
            backend=network.backend.name,
            threads=network.backend.threads,
            memory=network.memory,
        )

    def measure(
        self,
        batches: Batches,
        wanted: float,
        progress: Callable[[int], None] = lambda done: None,
        known: Totals | None = None,
        keep: Callable[[Totals], None] = lambda totals: None,
    ) -> dict[str, Any]:
        """Steps and energy at the smallest T at which it is as accurate.

        Args:
            batches: the images, with the classes that count as right.
            wanted: percentage of right answers to come within 0.2 points of.
            progress: is told how many images of the round are done.
            known: where an interrupted measurement stood.
            keep: is told where it stands after each batch.

        Returns:
            ``t``, ``right`` in percent, ``lower_bound`` (it was not as accurate at the last T,
            whose figures these are), spikes and energies per image as in ``eval --json``.
        """
        for steps in ROUNDS:
            if known is not None and steps < known.steps:
                continue
            meter = EnergyMeter(self.network.model, self.network.plan)
            totals = Totals(steps, 0, [0] * steps, meter.total.as_dict())
            if known is not None and known.steps == steps:
                totals = known
                meter.total.restore(known.traffic)
            done = 0
            for feeds, classes in batches():
                done += len(classes)
                if done > totals.done:
                    self.add(totals, meter, feeds, classes)
                    keep(totals)
                progress(done)
            right = 100.0 * np.array(totals.right) / totals.done
            enough = np.flatnonzero(right >= wanted - WITHIN)
            if len(enough) or steps == MOST_STEPS:
                t = int(enough[0]) + 1 if len(enough) else MOST_STEPS
                return {
                    "t": t,
                    "right": float(right[t - 1]),
                    "lower_bound": not len(enough),
                    **meter.up_to(t, totals.done),
                }
        raise AssertionError("the last round always answers")

    def add(
        self, totals: Totals, meter: EnergyMeter, feeds: dict[str, Array], classes: Array
    ) -> None:
        """Run one batch."""
        steps = range(1, totals.steps + 1)
        answers, traffic = self.network.observe(feeds, steps, meter.observer)
        for part in traffic:
            meter.add(part)
        for t, outputs in answers.items():
            predicted = next(iter(outputs.values())).argmax(axis=1)
            totals.right[t - 1] += int((predicted == classes).sum())
        totals.done += len(classes)
        totals.traffic = meter.total.as_dict()
