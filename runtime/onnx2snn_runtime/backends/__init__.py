"""Backends, one file each: ``backends/<name>_backend.py`` with a subclass of ``Backend``."""

import importlib
import pkgutil
from functools import cache

from onnx2snn_runtime.backends.base import EXACT, Backend, Runner, usable_processors
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


def open_backend(
    name: str = "auto", threads: int | None = None, compute: str = EXACT
) -> tuple[Backend, str]:
    """The backend called ``name`` and the reason for the choice.

    Args:
        name: a backend's name, or ``auto`` for the preferred one of those that work here.
        threads: number of CPU threads, or None for the library's default.
        compute: arithmetic of convolutions and matrix products: fp32, or what else it offers.

    Raises:
        UsageError: there is no such backend, or it does not offer this arithmetic.
        BackendError: it cannot run here; the text says why and what to do.
    """
    if threads is not None and threads < 1:
        raise UsageError(f"--threads must be at least 1, got {threads}")
    chosen, reason = _choose(name)
    if compute not in chosen.computes:
        able = [each.name for each in backend_classes().values() if compute in each.computes]
        raise UsageError(
            f"backend {chosen.name} ({reason}) computes in {', '.join(chosen.computes)}, "
            f"not in {compute!r}",
            advice=f"--compute {compute} needs --backend {' or '.join(able)}" if able else "",
        )
    backend = chosen(threads, compute)
    return backend, f"{reason}; {backend.description}" if backend.description else reason


def _choose(name: str) -> tuple[type[Backend], str]:
    """The class of the backend called ``name`` and the reason for the choice."""
    classes = backend_classes()
    if name == "auto":
        reasons: list[str] = []
        for candidate in (item for item in PREFERENCE if item in classes):
            reason = classes[candidate].unavailable()
            if not reason:
                passed = f" ({'; '.join(reasons)})" if reasons else ""
                return classes[candidate], f"{candidate} is preferred here{passed}"
            reasons.append(f"{candidate}: {reason}")
        raise BackendError("no backend works here: " + "; ".join(reasons))
    if name not in classes:
        raise UsageError(f"unknown backend {name!r}; choose from auto, {', '.join(classes)}")
    reason = classes[name].unavailable()
    if reason:
        raise BackendError(f"backend {name} cannot run here: {reason}")
    return classes[name], "asked for"


__all__ = ["EXACT", "Backend", "Runner", "backend_classes", "open_backend", "usable_processors"]
