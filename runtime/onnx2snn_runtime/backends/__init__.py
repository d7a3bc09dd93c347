"""Backends, one file each: ``backends/<name>_backend.py`` with a subclass of ``Backend``."""

import importlib
import pkgutil
from functools import cache

from onnx2snn_runtime.backends.base import Backend, Runner, usable_processors
from onnx2snn_runtime.errors import BackendError, UsageError

PREFERENCE = ("cupy", "onnxruntime", "numpy")
_SUFFIX = "_backend"


@cache
def backend_classes() -> dict[str, type[Backend]]:
    """All backends by name, found by their file names."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        if module.name.endswith(_SUFFIX):
            importlib.import_module(f"{__name__}.{module.name}")
    for backend_class in Backend.__subclasses__():
        found[backend_class.name] = backend_class
    return dict(sorted(found.items()))


def open_backend(name: str = "auto", threads: int | None = None) -> tuple[Backend, str]:
    """The backend called ``name`` and the reason for the choice.

    Args:
        name: a backend's name, or ``auto`` for the fastest that works here.
        threads: number of CPU threads, or None for the library's default.

    Raises:
        UsageError: there is no such backend.
        BackendError: it cannot run here; the text says why and what to do.
    """
    classes = backend_classes()
    if threads is not None and threads < 1:
        raise UsageError(f"--threads must be at least 1, got {threads}")
    if name == "auto":
        reasons: list[str] = []
        for candidate in (item for item in PREFERENCE if item in classes):
            reason = classes[candidate].unavailable()
            if not reason:
                passed = f" ({'; '.join(reasons)})" if reasons else ""
                return classes[candidate](threads), f"{candidate} is the fastest here{passed}"
            reasons.append(f"{candidate}: {reason}")
        raise BackendError("no backend works here: " + "; ".join(reasons))
    if name not in classes:
        raise UsageError(f"unknown backend {name!r}; choose from auto, {', '.join(classes)}")
    reason = classes[name].unavailable()
    if reason:
        raise BackendError(f"backend {name} cannot run here: {reason}")
    return classes[name](threads), "asked for"


__all__ = ["Backend", "Runner", "backend_classes", "open_backend", "usable_processors"]
