"""The images that calibration and the check run on: data sets, or noise where there are none."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from onnx2snn_runtime.data.input_preprocessing import Preprocessings
from onnx2snn_runtime.data.inputs import InputData
from onnx2snn_runtime.planning.plan import tensor_shape

NOISE_IMAGES = 64


@dataclass(frozen=True)
class CalibrationSource:
    """Where calibration images come from: data for every input, or noise when there is none."""

    data: InputData | None
    samples: int
    preprocessing: Preprocessings | None
    seed: int = 0

    @property
    def is_noise(self) -> bool:
        """Whether there are no images."""
        return self.data is None

    @property
    def notes(self) -> list[str]:
        """Remarks on the images that have been read so far."""
        return [] if self.data is None else self.data.notes

    @property
    def count(self) -> int:
        """Number of images."""
        return NOISE_IMAGES if self.data is None else min(self.samples, self.data.count)

    def batches(self, model: onnx.ModelProto, size: int) -> Iterator[dict[str, Any]]:
        """Batches of at most ``size`` images by input name."""
        shapes = {value.name: tensor_shape(value) for value in model.graph.input}
        if self.data is None:
            generator = np.random.default_rng(self.seed)
            images = {
                name: generator.standard_normal((NOISE_IMAGES, *map(int, shape[1:])), np.float32)
                for name, shape in shapes.items()
            }
            for start in range(0, NOISE_IMAGES, size):
                yield {name: array[start : start + size] for name, array in images.items()}
            return
        for piece in self.data.pieces(size, shapes, self.preprocessing, self.count):
            yield piece.feeds()

    def labels(self, count: int) -> Any | None:
        """Classes of the first images, [count], or None where they are not known."""
        if self.data is None or self.data.labels is None:
            return None
        return self.data.labels[:count]
