"""Fixtures and settings that all tests share."""

import importlib.util
import os
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings

from onnx2snn.embedded import (
    EMBEDDED_CALIBRATION,
    EMBEDDED_MODEL,
    EMBEDDED_TEST,
    embedded_file,
)

# The same examples on every machine; a slow machine is no failure.
settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
# More examples, other ones each time: HYPOTHESIS_PROFILE=explore make test
settings.register_profile("explore", parent=settings.get_profile("ci"), derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


class Embedded(NamedTuple):
    """Paths of the model and the data that come with the program."""

    model: Path
    calibration: Path
    test: Path


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the large models and data sets that are not part of the project."""
    told = os.environ.get("ONNX2SNN_SHARED")
    folder = Path(told) if told else Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}: set ONNX2SNN_SHARED to where the shared models are")
    return folder


@pytest.fixture(scope="session")
def embedded() -> Embedded:
    """The embedded model with its calibration and test images."""
    return Embedded(
        model=embedded_file(EMBEDDED_MODEL),
        calibration=embedded_file(EMBEDDED_CALIBRATION),
        test=embedded_file(EMBEDDED_TEST),
    )


def cuda_devices() -> int:
    """How many CUDA devices CuPy can use; 0 without CuPy or driver."""
    if importlib.util.find_spec("cupy") is None:
        return 0
    import cupy

    try:
        return int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError:
        return 0


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("gpu") and not cuda_devices():
        pytest.skip("needs CuPy and a CUDA device")
