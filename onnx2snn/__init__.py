"""Turn any trained ONNX CNN into a spiking neural network."""

from typing import TYPE_CHECKING, Any

from onnx2snn_runtime import __version__

if TYPE_CHECKING:
    from onnx2snn.comparison.compare import compare
    from onnx2snn.conversion import convert
    from onnx2snn.evaluation.evaluate import evaluate
    from onnx2snn.frameworks import from_keras, from_torch
    from onnx2snn.spiking_model import SpikingModel
    from onnx2snn_runtime.errors import Onnx2SnnError

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

# no module may have the name of a function here: importing it would hide the function
_HOME = {
    "Onnx2SnnError": "onnx2snn_runtime.errors",
    "SpikingModel": "onnx2snn.spiking_model",
    "compare": "onnx2snn.comparison.compare",
    "convert": "onnx2snn.conversion",
    "evaluate": "onnx2snn.evaluation.evaluate",
    "from_keras": "onnx2snn.frameworks",
    "from_torch": "onnx2snn.frameworks",
}


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used, so that ``--help`` stays fast."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)
