"""The GPU: operators on CuPy, convolutions by cuDNN or cuBLAS, the laws by kernels of our own."""

import contextlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np
import onnx

from onnx2snn_runtime import kernels
from onnx2snn_runtime.backends.base import EXACT, Array, Backend, Captive, Runner
from onnx2snn_runtime.errors import BackendError
from onnx2snn_runtime.gpu import (
    COMPUTES,
    CupyDevice,
    Device,
    LinearEngine,
    choose_engine,
    why_no_device,
)
from onnx2snn_runtime.gpu.linear import replacements
from onnx2snn_runtime.gpu.staging import Staging
from onnx2snn_runtime.interpreter import Interpreter
from onnx2snn_runtime.neurons import Chunk, StatefulOperator
from onnx2snn_runtime.planning.schedule import DeviceSchedule, Footprint, Schedule

GRAPHS = "ONNX2SNN_CUDA_GRAPHS"  # environment variable, 1 turns them on
USED_PERCENT = 60  # of the memory that is free; the rest is for columns, workspaces and the pool


class CupyBackend(Backend):
    """Interprets stateless models on a device.

    Args:
        threads: not used.
        compute: arithmetic of convolutions, see ``LinearEngine``.
        device: where to compute; default: the current CUDA device.
        engine: what convolves; default: the best that works here.
    """

    name = "cupy"
    computes = COMPUTES

    def __init__(
        self,
        threads: int | None = None,
        compute: str = EXACT,
        device: Device | None = None,
        engine: LinearEngine | None = None,
    ) -> None:
        super().__init__(threads, compute)
        self.device = CupyDevice() if device is None else device
        self.xp = self.device.xp
        self.staging = Staging(self.device)
        self.passed = ""
        if engine is None:
            engine, self.passed = choose_engine(self.device, compute)
        self.engine = engine

    @property
    def description(self) -> str:
        """What convolves, and in which arithmetic."""
        passed = f" ({self.passed})" if self.passed else ""
        graphs = ", CUDA graphs" if self.captures else ""
        return f"convolutions by {self.engine.description} in {self.compute}{graphs}{passed}"

    @property
    def captures(self) -> bool:
        """Where CUDA graphs are asked for: nobody has run them on a card yet."""
        return os.environ.get(GRAPHS) == "1"

    def capture(self, work: Callable[[], Captive]) -> tuple[Callable[[], None], Captive]:
        """As a CUDA graph."""
        return self.device.capture(work)

    @classmethod
    def unavailable(cls) -> str:
        """Needs CuPy and a CUDA device."""
        return why_no_device()

    def compile(
        self, model: onnx.ModelProto, *, threads: int | None = None, blocked: Collection[str] = ()
    ) -> Runner:
        """An interpreter on the device; results lie where the inputs lay."""
        del threads, blocked
        interpreter = Interpreter(model, self.xp, replacements(self.engine))

        def runner(feeds: Mapping[str, Array]) -> dict[str, Array]:
            with self.named_failures():
                results = interpreter({name: self.to_device(x) for name, x in feeds.items()})
            if any(isinstance(array, self.xp.ndarray) for array in feeds.values()):
                return results
            return {name: self.to_host(array) for name, array in results.items()}

        return runner

    def fuses(self, operator: StatefulOperator) -> bool:
        """Where there is a kernel for it."""
        return self.device.launch is not None and kernels.joins(operator)

    def narrows(self, operator: StatefulOperator) -> bool:
        """Where there is a kernel for it, and convolutions compute in 16 bits."""
        is_half = self.compute == "fp16" and self.device.launch is not None
        return is_half and kernels.handles(operator)

    def begins(self, operator: StatefulOperator) -> bool:
        """Where there is a kernel: states are then made in the layout of the signals."""
        return self.device.launch is not None and operator.family in kernels.KERNELS

    def scan(self, operator: StatefulOperator, chunk: Chunk) -> Array:
        """By one kernel where there is one for this operator, else the law as written."""
        launch = self.device.launch
        with self.named_failures():
            sent = None if launch is None else kernels.scan(self.xp, launch, operator, chunk)
            if sent is not None:
                return sent
            chunk.begin()
            chunk.join()
            return operator.scan(self.xp, chunk)

    @contextlib.contextmanager
    def named_failures(self) -> Iterator[None]:
        """What CuPy's compiler and cuDNN raise is no error that anybody else would expect.

        Raises:
            BackendError: in its place.
        """
        try:
            yield
        except (*self.device.failures, *self.engine.failures) as problem:
            raise BackendError(
                f"the GPU's libraries refuse: {type(problem).__name__}: {problem}",
                advice="onnx2snn doctor tells their versions",
            ) from problem

    def schedule(self, size: Footprint, memory: int | None) -> Schedule:
        """As much at once as the device holds."""
        free = self.device.free_bytes() * USED_PERCENT // 100
        return DeviceSchedule(size, free if memory is None else memory)

    @property
    def stages(self) -> bool:
        """Copies run beside what is computed."""
        return True

    def stage(self, images: Any) -> None:
        """Through pinned memory, on a stream of its own."""
        try:
            self.staging.put(images)
        except self.out_of_memory:  # then they are copied when they are asked for
            self.staging.clear()
        except RuntimeError:  # as CUDA tells that nothing can be pinned
            self.staging.clear()

    def to_device(self, array: Any) -> Array:
        """What has been staged of it, else a copy."""
        staged = self.staging.find(array) if isinstance(array, np.ndarray) else None
        return self.xp.asarray(array) if staged is None else staged

    def to_host(self, array: Array) -> Array:
        """Copied from the device, and waited for."""
        return self.device.to_host(array)

    def release(self) -> None:
        """Give back memory that is kept for later."""
        self.staging.clear()
        self.device.release()
