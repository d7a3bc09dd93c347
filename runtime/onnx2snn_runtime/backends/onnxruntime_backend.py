"""The default on a CPU: stateless parts in onnxruntime, the spiking laws fused by numba."""

import importlib.util
import os
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx

from onnx2snn_runtime.backends.base import Array, Backend, Runner
from onnx2snn_runtime.backends.large_models import split_weights
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

    @property
    def batches_at_once(self) -> int:
        """A batch per thread: both onnxruntime and the laws let other threads run."""
        return self.threads or len(os.sched_getaffinity(0))

    @classmethod
    def unavailable(cls) -> str:
        """Needs the package onnxruntime."""
        if importlib.util.find_spec("onnxruntime") is None:
            return "onnxruntime is not installed (pip install 'onnx2snn[cpu]')"
        return ""

    def compile(self, model: onnx.ModelProto, *, threads: int | None = None) -> Runner:
        """A session on the model."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = LOG_ERRORS_ONLY
        _share_memory()
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.intra_op_num_threads = threads or self.batches_at_once
        options.inter_op_num_threads = 1
        # waiting threads would take the cores from the laws and from other sessions
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        graph, beside = split_weights(model)
        if beside:
            arrays = [onnxruntime.OrtValue.ortvalue_from_numpy(item) for item in beside.values()]
            options.add_external_initializers(list(beside), arrays)
        try:
            session = onnxruntime.InferenceSession(
                graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
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


@cache
def _share_memory() -> None:
    """One arena for all sessions: each segment reuses what the one before has given back."""
    import onnxruntime

    same_as_requested = 1
    settings = onnxruntime.OrtArenaCfg(0, same_as_requested, -1, -1)
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    place = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    onnxruntime.create_and_register_allocator(place, settings)
