"""Run spiking neural networks stored as ONNX files, on numpy and onnx alone."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx2snn_runtime.network import Network, Result, load

__version__ = "0.1.0"
_NETWORK = ("Network", "Result", "load")
__all__ = ["Network", "Result", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used, so that ``--help`` stays fast."""
    if name in _NETWORK:
        from onnx2snn_runtime import network

        return getattr(network, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
