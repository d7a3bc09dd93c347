"""The reference backend: every operator on NumPy, slow and obviously right."""

from collections.abc import Collection

import numpy as np
import onnx

from onnx2snn_runtime.backends.base import Backend, Runner
from onnx2snn_runtime.interpreter import Interpreter


class NumpyBackend(Backend):
    """Interprets stateless models node by node and takes every law as it is written."""

    name = "numpy"
    xp = np

    @classmethod
    def unavailable(cls) -> str:
        """NumPy is always there."""
        return ""

    def compile(
        self, model: onnx.ModelProto, *, threads: int | None = None, blocked: Collection[str] = ()
    ) -> Runner:
        """An interpreter for the model; NumPy itself decides about threads."""
        del threads, blocked
        return Interpreter(model)
