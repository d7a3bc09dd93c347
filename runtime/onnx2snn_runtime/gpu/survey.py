"""What there is of a GPU on this machine, for ``onnx2snn doctor`` and the benchmark."""

import importlib.metadata
from typing import Any

from onnx2snn_runtime.gpu.device import why_no_device
from onnx2snn_runtime.gpu.linear import LinearEngine

PACKAGES = (
    "cupy-cuda13x", "cupy-cuda12x", "nvidia-cudnn-frontend", "nvidia-cudnn-cu13",
    "nvidia-cudnn-cu12", "nvidia-cublas", "nvidia-cuda-nvrtc", "onnxruntime-gpu",
)  # fmt: skip


def survey(engines: tuple[type[LinearEngine], ...]) -> dict[str, Any]:
    """Device, driver, packages and engines as JSON data.

    ``why_not`` says why there is no device, and is empty where there is one; ``engines`` says the
    same of every engine for convolutions.
    """
    why_not = why_no_device()
    return {
        "why_not": why_not,
        "device": None if why_not else device_properties(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "engines": {engine.name: engine.unavailable() for engine in engines},
    }


def device_properties() -> dict[str, Any]:
    """Of the current device, as CuPy tells them."""
    import cupy

    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(cupy.cuda.Device().id)
    return {
        "name": properties["name"].decode(),
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "memory_bytes": int(properties["totalGlobalMem"]),
        "multiprocessors": int(properties["multiProcessorCount"]),
        "l2_bytes": int(properties["l2CacheSize"]),
        "driver": _dotted(runtime.driverGetVersion()),
        "runtime": _dotted(runtime.runtimeGetVersion()),
        "cupy": str(cupy.__version__),
    }


def _dotted(version: int) -> str:
    """13020 as 13.2."""
    return f"{version // 1000}.{version % 1000 // 10}"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
