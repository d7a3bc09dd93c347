"""How much work of a timestep meets nothing new: layers and channels that send nothing in a step.

A share is of the synapses behind the layers, so that it is what skipping could save at best.
Prints a Markdown table.

    python benchmarks/idle.py --shared ../shared
"""

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import CASES
from cases import present

import onnx2snn
from onnx2snn.energy.estimate import EnergyMeter
from onnx2snn_runtime.data.sources import open_data
from onnx2snn_runtime.engine import Observer
from onnx2snn_runtime.planning.plan import Stateful

CHOSEN = ("embedded CNN, 1,000 Fashion-MNIST", "resnet20, 2,000 JPEGs", "vgg_bn, 2,000 JPEGs",
          "squeezenet, 200 photos")  # fmt: skip
IMAGES, LAST, CALIBRATION = 16, 8, 128


class Idle(Observer):
    """Sums the synapses behind what sent nothing: whole layers of an image, and channels."""

    def __init__(self, meter: EnergyMeter) -> None:
        self.meter = meter
        self.synapses = 0.0
        self.layers: defaultdict[int, float] = defaultdict(float)
        self.channels: defaultdict[int, float] = defaultdict(float)

    def observe(self, unit: Stateful, first_step: int, outputs: Any, counts: Any) -> None:
        """Look at one chunk of a layer, [C,N,*]."""
        del outputs
        if counts is None:
            return
        shape = counts.shape[2:]
        behind = self.meter.fan_out[unit.name].reshape(shape[0], -1).sum(axis=1)
        if first_step == 1:
            self.synapses += behind.sum() * counts.shape[1]
        for offset, sent in enumerate(counts != 0):
            silent = ~sent.reshape(len(sent), shape[0], -1).any(axis=2)  # [N, channels]
            self.channels[first_step + offset] += float((silent @ behind).sum())
            self.layers[first_step + offset] += float(silent.all(axis=1).sum() * behind.sum())


def main() -> None:
    """Measure some networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    options = parser.parse_args()
    print("| network | recipe | silent | " + " | ".join(f"t={t}" for t in range(1, LAST + 1)))
    print("| --- | --- | --- |" + " --- |" * LAST)
    for case in present((case for case in CASES if case.name in CHOSEN), options.shared):
        model, calibration, test = case.files(options.shared)
        for recipe in ("fast", "refine"):
            network = onnx2snn.convert(
                model, calibration=calibration, recipe=recipe, preprocess=case.preprocess,
                calibration_samples=CALIBRATION,
            ).network()  # fmt: skip
            ((_, shape),) = network.input_shapes.items()
            sizes = tuple(size for size in shape[1:] if isinstance(size, int))
            data = open_data(test).batches(IMAGES, sizes, network.preprocessing)
            feeds, _ = network.check_feeds(next(iter(data))[0])
            meter = EnergyMeter(network.model, network.plan)
            _, parts = network.observe(feeds, [LAST], lambda meter=meter: Idle(meter))
            synapses = sum(part.synapses for part in parts)
            for name in ("layers", "channels"):
                shares = [
                    sum(getattr(part, name)[t] for part in parts) / synapses
                    for t in range(1, LAST + 1)
                ]
                label = case.name.split(",")[0] if name == "layers" else ""
                code = f"`{recipe}`" if name == "layers" else ""
                print(f"| {label} | {code} | {name} | "
                      + " | ".join(f"{np.round(100 * share, 1):g} %" for share in shares) + " |",
                      flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
