"""The default on a CPU: stateless parts in onnxruntime, the spiking laws fused by numba."""

import contextlib
import ctypes
import importlib.util
import io
import os
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx

from onnx2snn_runtime.backends.base import EXACT, Array, Backend, Runner, usable_processors
from onnx2snn_runtime.backends.blocked_models import channel_block, with_blocks
from onnx2snn_runtime.backends.large_models import make_inputs, split_weights
from onnx2snn_runtime.errors import BackendError
from onnx2snn_runtime.format import BATCH
from onnx2snn_runtime.neurons import Chunk, StatefulOperator

LOG_FATAL_ONLY = 4  # errors are raised, and say the same; names in them are not escaped
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class OnnxruntimeBackend(Backend):
    """onnxruntime sessions on the CPU; fused laws where numba is installed."""

    name = "onnxruntime"
    xp = np

    def __init__(self, threads: int | None = None, compute: str = EXACT) -> None:
        super().__init__(threads, compute)
        self.fused = importlib.util.find_spec("numba") is not None

    @property
    def batches_at_once(self) -> int:
        """A batch per thread: both onnxruntime and the laws let other threads run."""
        return self.threads or usable_processors()

    @property
    def channel_block(self) -> int:
        """What onnxruntime's convolutions use; the laws as written in NumPy know no blocks."""
        return channel_block() if self.fused else 1

    @classmethod
    def unavailable(cls) -> str:
        """Needs the package onnxruntime."""
        if importlib.util.find_spec("onnxruntime") is None:
            return "onnxruntime is not installed (pip install 'onnx2snn[cpu]')"
        return ""

    def compile(
        self,
        model: onnx.ModelProto,
        *,
        threads: int | None = None,
        blocked: Collection[str] = (),
    ) -> Runner:
        """A session on the model.

        With ``threads`` it is a part of a spiking network, whose laws run on the CPU. Without, it
        is a network by itself, as in calibration, and runs on CUDA where onnxruntime-gpu offers it.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = LOG_FATAL_ONLY
        _share_memory()
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.intra_op_num_threads = threads or self.batches_at_once
        options.inter_op_num_threads = 1
        # waiting threads would take the cores from the laws and from other sessions
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        graph, weights = split_weights(with_blocks(model, blocked))
        providers = _providers(threads is None)
        if weights and providers != [CPU]:
            arrays = [onnxruntime.OrtValue.ortvalue_from_numpy(item) for item in weights.values()]
            options.add_external_initializers(list(weights), arrays)
            weights = {}
        if weights:
            make_inputs(graph, weights)
        try:
            session = onnxruntime.InferenceSession(
                graph.SerializeToString(), options, providers=providers
            )
        except Exception as error:
            raise BackendError(f"onnxruntime refuses the model: {error}") from error
        run = _run_without_copies if _has_known_shapes(session, weights) else _run

        def runner(feeds: Mapping[str, Array]) -> dict[str, Array]:
            try:
                return run(session, feeds, weights)
            except Exception as error:
                raise BackendError(f"onnxruntime failed: {error}") from error

        return runner

    def scan(self, operator: StatefulOperator, chunk: Chunk) -> Any:
        """The fused kernel where there is one for this operator, else the law as written."""
        if self.fused:
            from onnx2snn_runtime.backends import fused

            if fused.handles(operator):
                return fused.scan(operator, chunk)
        return operator.scan(self.xp, chunk)

    def state_type(self, operator: StatefulOperator, state: str) -> np.dtype[Any]:
        """As small as the fused kernel can take it: the laws are bound by memory."""
        if self.fused:
            from onnx2snn_runtime.backends import fused

            if fused.handles(operator) and state in fused.BYTES:
                return np.dtype(np.int8)
        return super().state_type(operator, state)

    def begins(self, operator: StatefulOperator) -> bool:
        """Where the fused kernel does, while a block of neurons is in the cache."""
        if self.fused:
            from onnx2snn_runtime.backends import fused

            return fused.handles(operator) and fused.begins(operator)
        return False

    def writes_shares(self, operator: StatefulOperator) -> bool:
        """Where there is a fused kernel of a neuron."""
        if self.fused:
            from onnx2snn_runtime.backends import fused

            return operator.spiking and fused.handles(operator)
        return False


def _providers(is_alone: bool) -> list[Any]:
    """Where a session may run, the preferred place first."""
    import onnxruntime

    if is_alone and CUDA in onnxruntime.get_available_providers() and _cuda_loads():
        return [(CUDA, {"use_tf32": "0"}), CPU]
    return [CPU]


@cache
def _cuda_loads() -> bool:
    """Whether onnxruntime-gpu may reach a card: it tells what it was built with, not what works.

    Its libraries lie in packages of their own, where nobody looks for them unless they are loaded
    before. Without a driver nothing is tried, which would fill the terminal.
    """
    import onnxruntime

    try:
        ctypes.CDLL("libcuda.so.1" if os.name == "posix" else "nvcuda.dll")
    except OSError:
        return False
    onnxruntime.set_default_logger_severity(LOG_FATAL_ONLY)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
        getattr(onnxruntime, "preload_dlls", lambda: None)()
    return True


def _has_known_shapes(session: Any, weights: Collection[str]) -> bool:
    """Whether inputs and outputs are float32, and all sizes known but the batch."""
    values = [value for value in session.get_inputs() if value.name not in weights]
    values += session.get_outputs()
    return all(
        value.type == "tensor(float)"
        and len(value.shape) > 0
        and value.shape[0] == BATCH
        and all(isinstance(size, int) for size in value.shape[1:])
        for value in values
    )


def _run(
    session: Any, feeds: Mapping[str, Array], weights: Mapping[str, Array]
) -> dict[str, Array]:
    wanted = {value.name for value in session.get_inputs()}
    names = [output.name for output in session.get_outputs()]
    chosen = {name: array for name, array in {**feeds, **weights}.items() if name in wanted}
    return dict(zip(names, session.run(names, chosen), strict=True))


def _run_without_copies(
    session: Any, feeds: Mapping[str, Array], weights: Mapping[str, Array]
) -> dict[str, Array]:
    """onnxruntime reads and writes NumPy's own memory."""
    binding = session.io_binding()
    images = 0
    kept = []  # until the run has ended
    for value in session.get_inputs():
        if value.name in weights:
            _bind(binding.bind_input, value.name, weights[value.name])
            continue
        array = np.ascontiguousarray(feeds[value.name], dtype=np.float32)
        kept.append(array)
        images = len(array)
        _bind(binding.bind_input, value.name, array)
    results = {
        value.name: np.empty((images, *value.shape[1:]), np.float32)
        for value in session.get_outputs()
    }
    for name, array in results.items():
        _bind(binding.bind_output, name, array)
    session.run_with_iobinding(binding)
    return results


def _bind(bind: Any, name: str, array: Array) -> None:
    bind(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)


@cache
def _share_memory() -> None:
    """One arena for all sessions: each segment reuses what the one before has given back."""
    import onnxruntime

    same_as_requested = 1
    settings = onnxruntime.OrtArenaCfg(0, same_as_requested, -1, -1)
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    place = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    onnxruntime.create_and_register_allocator(place, settings)
