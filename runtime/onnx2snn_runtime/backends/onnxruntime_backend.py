"""The default on a CPU: stateless parts in onnxruntime, the spiking laws fused by numba."""

import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from onnx2snn_runtime.backends.base import Array, Backend, Runner
from onnx2snn_runtime.errors import BackendError
from onnx2snn_runtime.neurons import Chunk, StatefulOperator

LOG_ERRORS_ONLY = 3


class OnnxruntimeBackend(Backend):
    """onnxruntime sessions on the CPU; fused laws where numba is installed."""

    name = "onnxruntime"
    xp = np

    def __init__(self, threads: int | None = None) -> None:
        super().__init__(threads)
        self.fused = importlib.util.find_spec("numba") is not None

    @classmethod
    def unavailable(cls) -> str:
        """Needs the package onnxruntime."""
        if importlib.util.find_spec("onnxruntime") is None:
            return "onnxruntime is not installed (pip install 'onnx2snn[cpu]')"
        return ""

    def compile(self, model: onnx.ModelProto) -> Runner:
        """A session on the model."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = LOG_ERRORS_ONLY
        options.enable_cpu_mem_arena = False  # every segment would keep its largest chunk for good
        if self.threads is not None:
            options.intra_op_num_threads = self.threads
            options.inter_op_num_threads = 1
        try:
            session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise BackendError(f"onnxruntime refuses the model: {error}") from error
        names = [output.name for output in session.get_outputs()]
        wanted = {value.name for value in session.get_inputs()}

        def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
            chosen = {name: array for name, array in feeds.items() if name in wanted}
            try:
                return dict(zip(names, session.run(names, chosen), strict=True))
            except Exception as error:
                raise BackendError(f"onnxruntime failed: {error}") from error

        return run

    def scan(self, operator: StatefulOperator, chunk: Chunk) -> Any:
        """The fused kernel where there is one for this operator, else the law as written."""
        if self.fused:
            from onnx2snn_runtime.backends import fused

            if fused.handles(operator):
                return fused.scan(operator, chunk)
        return operator.scan(self.xp, chunk)
