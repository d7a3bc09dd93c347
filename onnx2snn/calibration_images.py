"""The images that calibration and the check run on: data sets, or noise where there are none."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from onnx2snn_runtime.data import Dataset, input_batches
from onnx2snn_runtime.plan import tensor_shape
from onnx2snn_runtime.preprocessing import Preprocessing

NOISE_IMAGES = 64


@dataclass(frozen=True)
class CalibrationSource:
    """Where calibration images come from: a data set per input, or noise when there is none."""

    datasets: Mapping[str, Dataset]
    samples: int
    preprocessing: Preprocessing | None
    seed: int = 0

    @property
    def is_noise(self) -> bool:
        """Whether there are no images."""
        return not self.datasets

    @property
    def count(self) -> int:
        """Number of images."""
        if self.is_noise:
            return NOISE_IMAGES
        return min(self.samples, *(dataset.count for dataset in self.datasets.values()))

    def batches(self, model: onnx.ModelProto, size: int) -> Iterator[dict[str, Any]]:
        """Batches of at most ``size`` images by input name."""
        shapes = image_inputs(model)
        if self.is_noise:
            generator = np.random.default_rng(self.seed)
            images = {
                name: generator.standard_normal((NOISE_IMAGES, *shape), dtype=np.float32)
                for name, shape in shapes.items()
            }
            for start in range(0, NOISE_IMAGES, size):
                yield {name: array[start : start + size] for name, array in images.items()}
            return
        done = 0
        for batch in input_batches(self.datasets, size, shapes, self.preprocessing):
            yield {name: images[: self.count - done] for name, images in batch.items()}
            done += len(next(iter(batch.values())))
            if done >= self.count:
                return


def image_inputs(network: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Name and shape without batch of every input that is an image."""
    return {
        value.name: tuple(int(size) for size in tensor_shape(value)[1:])
        for value in network.graph.input
    }
