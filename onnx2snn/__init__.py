"""Turn any trained ONNX CNN into a spiking neural network."""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx2snn.compare import compare
    from onnx2snn.convert import convert
    from onnx2snn.evaluate import evaluate
    from onnx2snn.exporters import from_keras, from_torch
    from onnx2snn.spiking_model import SpikingModel
    from onnx2snn_runtime.errors import Onnx2SnnError

__version__ = "0.1.0"
__all__ = [
    "Onnx2SnnError",
    "SpikingModel",
    "__version__",
    "compare",
    "convert",
    "evaluate",
    "from_keras",
    "from_torch",
]

_HOME = {
    "Onnx2SnnError": "onnx2snn_runtime.errors",
    "SpikingModel": "onnx2snn.spiking_model",
    "compare": "onnx2snn.compare",
    "convert": "onnx2snn.convert",
    "evaluate": "onnx2snn.evaluate",
    "from_keras": "onnx2snn.exporters",
    "from_torch": "onnx2snn.exporters",
}


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used, so that ``--help`` stays fast."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


class _Package(ModuleType):
    """Keeps submodules from hiding the public functions of the same name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _HOME or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
