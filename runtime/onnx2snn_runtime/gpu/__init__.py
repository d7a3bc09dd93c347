"""What the CuPy backend stands on: the device, and libraries for convolutions."""

from onnx2snn_runtime.gpu.columns import ColumnsEngine
from onnx2snn_runtime.gpu.cudnn import CudnnEngine
from onnx2snn_runtime.gpu.device import CupyDevice, Device, why_no_device
from onnx2snn_runtime.gpu.linear import COMPUTES, LinearEngine
from onnx2snn_runtime.gpu.survey import survey

ENGINES: tuple[type[LinearEngine], ...] = (CudnnEngine, ColumnsEngine)
"""Engines for convolutions, the preferred first; the last one needs CuPy only."""


def choose_engine(device: Device, compute: str) -> tuple[LinearEngine, str]:
    """The first engine that works here, and why those before it do not."""
    passed: list[str] = []
    for engine in ENGINES[:-1]:
        why = engine.unavailable()
        try:
            if not why:
                return engine(device, compute), "; ".join(passed)
        except RuntimeError as error:  # the library is there, but does not start
            why = str(error)
        passed.append(f"{engine.name}: {why}")
    return ENGINES[-1](device, compute), "; ".join(passed)


__all__ = [
    "COMPUTES",
    "ENGINES",
    "ColumnsEngine",
    "CudnnEngine",
    "CupyDevice",
    "Device",
    "LinearEngine",
    "choose_engine",
    "survey",
    "why_no_device",
]
