"""What a run gives back: answers, and what was watched while it ran."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnx2snn_runtime.engine import Observer
from onnx2snn_runtime.planning.plan import Stateful

Array = Any


@dataclass
class Result:
    """Answers of a spiking network.

    Attributes:
        outputs: answer after the last step, output name to array [N,*] float32.
        by_step: the same for every step that was asked for.
        spikes: layer name to spikes per image and neuron over all steps, [N,*], if recorded.
        timesteps: number of steps run.
        exit_steps: with early exit, the steps that each image took, [N].
        decides: name of the output that tells classes; empty: the first.
    """

    outputs: dict[str, Array]
    by_step: dict[int, dict[str, Array]]
    timesteps: int
    spikes: dict[str, Array] = field(default_factory=dict)
    exit_steps: Array | None = None
    decides: str = ""

    @property
    def logits(self) -> Array:
        """The output that tells classes, usually [N, classes]."""
        return self.outputs[self.decides or next(iter(self.outputs))]


class SpikeRecorder(Observer):
    """Sums |n| over the steps, per layer, image and neuron."""

    def __init__(self) -> None:
        self.spikes: dict[str, Array] = {}

    def observe(self, unit: Stateful, first_step: int, outputs: Array, counts: Array) -> None:
        """Add the spikes of one chunk."""
        del first_step, outputs
        if counts is not None:
            total = np.abs(counts).sum(axis=0)
            self.spikes[unit.name] = self.spikes.get(unit.name, 0) + total
