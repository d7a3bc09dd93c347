"""Networks and images that the benchmarks measure, and where they are.

The embedded network and its images are in the repository; all others are not part of the project
and lie in a folder of the same form: ``models/*.onnx``, ``data/*.npz``.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from onnx2snn.embedded import EMBEDDED_CALIBRATION, EMBEDDED_MODEL, EMBEDDED_TEST, embedded_file

EMBEDDED = (EMBEDDED_MODEL, EMBEDDED_CALIBRATION, EMBEDDED_TEST)
LONG = (1, 2, 4, 8, 16, 32, 64)
CIFAR_OWN = "mean=0.4914,0.4822,0.4465,std=0.2470,0.2435,0.2616"
CIFAR_JPEGS = ("data/cifar10_calib.npz", "data/cifar10_test.npz")
CIFAR_ORIGINALS = ("data/cifar10_original_calib.npz", "data/cifar10_original_test.npz")
FASHION = ("data/fashion_calib.npz", "data/fashion_test.npz", "unit")
PHOTOS = ("data/imagenet_sample_calib.npz", "data/imagenet_sample_test.npz", "imagenet")
SQUEEZENET = ("models/imagenet_squeezenet1_1_legacy.onnx", *PHOTOS)


@dataclass(frozen=True)
class Case:
    """One network on one set of images."""

    name: str
    model: str
    calibration: str
    test: str
    preprocess: str
    limit: int | None = None
    timesteps: tuple[int, ...] = LONG

    def files(self, shared: Path) -> tuple[Path, Path, Path]:
        """Model, calibration images and test images."""
        model, calibration, test = (
            embedded_file(name) if name in EMBEDDED else shared / name
            for name in (self.model, self.calibration, self.test)
        )
        return model, calibration, test

    def is_there(self, shared: Path) -> bool:
        """Whether all of it is embedded, or the folder is there."""
        return {self.model, self.calibration, self.test} <= set(EMBEDDED) or shared.is_dir()


def present(cases: Iterable[Case], shared: Path, only: str = "") -> Iterator[Case]:
    """The cases with ``only`` in their names whose files are there; tells of the others."""
    for case in cases:
        if only not in case.name:
            continue
        if case.is_there(shared):
            yield case
        else:
            print(f"skipped {case.name}: no folder {shared}")
