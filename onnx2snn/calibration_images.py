"""The images that calibration and the check run on: a data set, or noise where there is none."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from onnx2snn_runtime.data import Dataset
from onnx2snn_runtime.errors import UsageError
from onnx2snn_runtime.plan import tensor_shape
from onnx2snn_runtime.preprocessing import Preprocessing

NOISE_IMAGES = 64


@dataclass(frozen=True)
class CalibrationSource:
    """Where calibration images come from: a data set, or noise when there is none."""

    dataset: Dataset | None
    samples: int
    preprocessing: Preprocessing | None
    seed: int = 0

    @property
    def count(self) -> int:
        """Number of images."""
        return NOISE_IMAGES if self.dataset is None else min(self.samples, self.dataset.count)

    def batches(self, model: onnx.ModelProto, size: int) -> Iterator[dict[str, Any]]:
        """Batches of at most ``size`` images by input name."""
        inputs = image_inputs(model)
        if self.dataset is None:
            generator = np.random.default_rng(self.seed)
            images = {
                name: generator.standard_normal((NOISE_IMAGES, *shape), dtype=np.float32)
                for name, shape in inputs.items()
            }
            for start in range(0, NOISE_IMAGES, size):
                yield {name: array[start : start + size] for name, array in images.items()}
            return
        if len(inputs) != 1:
            raise UsageError(
                f"the model has {len(inputs)} inputs ({', '.join(inputs)}); calibration data can "
                "feed one",
                advice="convert without --calibration",
            )
        ((name, shape),) = inputs.items()
        done = 0
        for batch, _ in self.dataset.batches(size, shape, self.preprocessing):
            yield {name: batch[: self.count - done]}
            done += len(batch)
            if done >= self.count:
                return


def image_inputs(network: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Name and shape without batch of every input that is an image."""
    return {
        value.name: tuple(int(size) for size in tensor_shape(value)[1:])
        for value in network.graph.input
    }
