"""The GPU as the backend sees it: an array module, memory, matrix products, kernels."""

import contextlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, TypeVar

import numpy as np

from onnx2snn_runtime.errors import BackendError
from onnx2snn_runtime.kernels import KernelSource, Launch

Array = Any
Captive = TypeVar("Captive")
Size = tuple[int, ...]
TF32_MATH = 3  # CUBLAS_TF32_TENSOR_OP_MATH, which CuPy does not name
NEEDED = "it needs an NVIDIA card and a driver for its CUDA version"
INSTALL = "pip install 'onnx2snn[gpu]' for CUDA 13, 'onnx2snn[gpu-cu12]' for CUDA 12"


class Device(Protocol):
    """Where arrays lie and what is launched there.

    Attributes:
        xp: array module.
        launch: starts a kernel with a grid, a block and arguments; None where there is no way to.
        failures: what its array module raises besides the errors that everybody expects.
    """

    xp: Any
    launch: Launch | None
    failures: tuple[type[Exception], ...]

    def to_host(self, array: Array) -> Any:
        """An array of the device as one of NumPy."""

    def free_bytes(self) -> int:
        """Memory that can be allocated now."""

    def release(self) -> None:
        """Give back memory that is kept for later."""

    def pinned(self, size: int) -> Any:
        """Memory of the host for so many float32, which the device can read while others work."""

    def copy_beside(self, target: Array, source: Any) -> Any:
        """Copy pinned memory beside what is computed, behind what has been launched so far.

        Returns:
            An event: its ``synchronize`` lets the host wait, ``wait_for`` the device.
        """

    def wait_for(self, event: Any) -> None:
        """Let what is launched from now on wait for an event."""

    def product(self, compute: str) -> Callable[..., Array]:
        """The matrix product of float32, called as ``xp.matmul`` is; ``tf32`` may round inputs."""

    def stream(self) -> int:
        """Address of the stream that work is put on."""

    def capture(self, work: Callable[[], Captive]) -> tuple[Callable[[], None], Captive]:
        """Note what is launched without doing it: what launches it all, and what it writes."""


def why_no_device() -> str:
    """Why CuPy cannot compute here, with what to do; empty if it can."""
    if importlib.util.find_spec("cupy") is None:
        return f"CuPy is not installed ({INSTALL})"
    try:
        import cupy
    except Exception as error:  # what a broken installation raises is not limited to ImportError
        return f"CuPy is installed but cannot be imported ({_first_line(error)}); {INSTALL}"
    try:
        _ = cupy.cuda.cublas  # CuPy looks for the libraries at their first use
        cupy.cuda.nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:
        return f"CuPy does not find cuBLAS or NVRTC ({_first_line(error)}); {INSTALL}"
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
    except RuntimeError as error:
        return f"CuPy {cupy.__version__} finds no CUDA device: {_first_line(error)} ({NEEDED})"
    return "" if count else f"CuPy {cupy.__version__} finds no CUDA device ({NEEDED})"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]


@dataclass(frozen=True, eq=False)
class CapturedGraph:
    """A CUDA graph, and what must live as long as it."""

    graph: Any
    kept: tuple[Any, ...]

    def __call__(self) -> None:
        """Launch all of it on the current stream."""
        self.graph.launch()


class CupyDevice:
    """The current CUDA device through CuPy, on CuPy's current stream."""

    def __init__(self) -> None:
        import cupy

        self.xp: Any = cupy
        self.launch: Launch | None = self.start
        self.failures: tuple[type[Exception], ...] = (cupy.cuda.compiler.CompileException,)
        self._function = cache(self._compile)
        self._copies: Any = None  # the stream of ``copy_beside``
        self._noted: list[Any] | None = None  # arguments of kernels, while there is a capture

    def to_host(self, array: Array) -> Any:
        """Copied, and waited for."""
        return self.xp.asnumpy(array)

    def free_bytes(self) -> int:
        """Free memory of the device and of CuPy's pool."""
        free, _ = self.xp.cuda.runtime.memGetInfo()
        return int(free) + int(self.xp.get_default_memory_pool().free_bytes())

    def release(self) -> None:
        """Empty CuPy's pool."""
        self.xp.get_default_memory_pool().free_all_blocks()

    def pinned(self, size: int) -> Any:
        """By cudaHostAlloc."""
        import cupyx

        return cupyx.empty_pinned(size, dtype=np.float32)

    def copy_beside(self, target: Array, source: Any) -> Any:
        """On a stream of its own, which the current stream does not wait for."""
        cuda = self.xp.cuda
        if self._copies is None:
            self._copies = cuda.Stream(non_blocking=True)
        self._copies.wait_event(cuda.get_current_stream().record())
        target.set(source, stream=self._copies)
        return self._copies.record()

    def wait_for(self, event: Any) -> None:
        """The current stream waits, the host does not."""
        self.xp.cuda.get_current_stream().wait_event(event)

    def product(self, compute: str) -> Callable[..., Array]:
        """cuBLAS through CuPy; its default mode is true float32."""
        matmul: Callable[..., Array] = self.xp.matmul
        if compute != "tf32":
            return matmul
        from cupy.cuda import cublas, device

        def matmul_tf32(*arrays: Array, **options: Any) -> Array:
            handle = device.get_cublas_handle()
            before = cublas.getMathMode(handle)
            cublas.setMathMode(handle, TF32_MATH)
            try:
                return matmul(*arrays, **options)
            finally:
                cublas.setMathMode(handle, before)

        return matmul_tf32

    def stream(self) -> int:
        """The pointer that other libraries take."""
        return int(self.xp.cuda.get_current_stream().ptr)

    def capture(self, work: Callable[[], Captive]) -> tuple[Callable[[], None], Captive]:
        """As a CUDA graph, with all that it allocates in a pool of its own.

        CuPy captures on a stream of its own only, refuses cuBLAS meanwhile, and CUDA refuses to
        copy to the host. The pool may grow: CuPy captures in the relaxed mode.

        Raises:
            RuntimeError: something in the work cannot be captured.
            MemoryError: the pool does not fit.
        """
        cuda = self.xp.cuda
        pool, stream = cuda.MemoryPool(), cuda.Stream(non_blocking=True)
        cuda.get_current_stream().synchronize()  # the other stream would not wait for it
        kept: list[Any] = [pool, stream]
        self._noted = kept
        try:
            with cuda.using_allocator(pool.malloc), stream:
                stream.begin_capture()
                try:
                    made = work()
                except BaseException:
                    with contextlib.suppress(RuntimeError):  # a capture that failed has no graph
                        stream.end_capture()
                    raise
                graph = stream.end_capture()
        finally:
            self._noted = None
        return CapturedGraph(graph, tuple(kept)), made

    def start(
        self, kernel: KernelSource, grid: Size, block: Size, arguments: Sequence[Any]
    ) -> None:
        """Compile a kernel by NVRTC at its first use (CuPy keeps it on disk), and launch it.

        Raises:
            BackendError: the compiler refuses it.
        """
        if self._noted is not None:
            self._noted.extend(arguments)
        self._function(kernel)(grid, block, tuple(arguments))

    def _compile(self, kernel: KernelSource) -> Any:
        module = self.xp.RawModule(code=kernel.source, options=kernel.options, backend="nvrtc")
        try:
            return module.get_function(kernel.name)
        except self.xp.cuda.compiler.CompileException as error:
            raise BackendError(
                f"the CUDA compiler refuses the kernel {kernel.name}: {_first_line(error)}",
                advice="please report it with the output of `onnx2snn doctor`",
            ) from error
