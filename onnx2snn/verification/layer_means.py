"""What every layer of a spiking network sends on average, gathered while it runs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx2snn_runtime.engine import Observer
from onnx2snn_runtime.planning.plan import Stateful

Array = NDArray[Any]


class LayerMeans(Observer):
    """Observer of one part of the images.

    Args:
        timesteps: number of steps that will run.
        refine: whether an output is the answer so far, instead of one step's share of it.

    Attributes:
        early: name of a layer to its mean after half of the steps, [N,*].
        spikes: name to the spikes of each neuron, sent or taken back, [N,*].
        at_limit: name to how often, in the second half, a neuron sent the burst limit.
    """

    def __init__(self, timesteps: int, *, refine: bool) -> None:
        self.timesteps, self.refine = timesteps, refine
        self.half = max(1, timesteps // 2)
        self.sums: dict[str, Array] = {}
        self.early: dict[str, Array] = {}
        self.spikes: dict[str, Array] = {}
        self.at_limit: dict[str, float] = {}

    def observe(self, unit: Stateful, first_step: int, outputs: Any, counts: Any) -> None:
        """Add what one layer sent in one chunk, ``outputs`` and ``counts`` [C,N,*]."""
        if unit.operator.is_readout:
            return
        name = unit.name
        for offset, output in enumerate(outputs):
            step = first_step + offset
            if self.refine:
                self.sums[name] = np.asarray(output, np.float32) * np.float32(step)
            else:
                self.sums[name] = self.sums.get(name, np.float32(0)) + np.asarray(output)
            if step == self.half:
                self.early[name] = self.sums[name] / np.float32(step)
            if counts is None:
                continue
            sent = np.abs(np.asarray(counts[offset]))
            self.spikes[name] = self.spikes.get(name, np.float32(0)) + sent
            if step > self.half:
                full = float((sent >= unit.operator.attributes["burst_limit"]).sum())
                self.at_limit[name] = self.at_limit.get(name, 0.0) + full

    def mean(self, name: str) -> Array:
        """Mean output of a layer after the last step, [N,*]."""
        mean: Array = self.sums[name] / np.float32(self.timesteps)
        return mean

    def saturated(self, name: str) -> float:
        """Share of (neuron, step) pairs of the second half that sent the burst limit."""
        pairs = self.spikes[name].size * (self.timesteps - self.half)
        return self.at_limit.get(name, 0.0) / max(1, pairs)
