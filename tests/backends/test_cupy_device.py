"""``CupyDevice`` on a module that stands for CuPy, and what the real one has, where it is there."""

import contextlib
import importlib
import sys
import types
from types import SimpleNamespace

import numpy as np
import pytest

from onnx2snn_runtime.errors import BackendError
from onnx2snn_runtime.gpu import CupyDevice, why_no_device
from onnx2snn_runtime.gpu.device import TF32_MATH
from onnx2snn_runtime.kernels import KernelSource

KERNEL = KernelSource("law", "some text", ("--fmad=false",))


class CompileError(Exception):
    """What CuPy raises when NVRTC refuses."""


@pytest.fixture
def cupy(monkeypatch):
    """As much of CuPy as the device touches; ``calls`` tells what was asked of it."""
    calls = []
    module = types.ModuleType("cupy")
    module.matmul = lambda a, b: calls.append(("matmul", module.mode)) or a @ b
    module.mode = 0
    module.__version__ = "14"

    def set_mode(handle, mode):
        assert handle == 5
        module.mode = mode

    class RawModule:
        def __init__(self, code, options, backend):
            calls.append(("compile", code, options, backend))

        def get_function(self, name):
            if "error" in name:
                raise CompileError("law.cu(1): error\nmore")
            return lambda grid, block, arguments: calls.append((name, grid, block, arguments))

    pool = SimpleNamespace(free_bytes=lambda: 10, free_all_blocks=lambda: calls.append("freed"))
    module.RawModule = RawModule
    module.get_default_memory_pool = lambda: pool
    module.asnumpy = np.asarray
    module.cuda = types.ModuleType("cupy.cuda")
    module.cuda.cublas = SimpleNamespace(getMathMode=lambda _: module.mode, setMathMode=set_mode)
    module.cuda.device = SimpleNamespace(get_cublas_handle=lambda: 5)
    module.cuda.compiler = SimpleNamespace(CompileException=CompileError)
    module.cuda.runtime = SimpleNamespace(
        memGetInfo=lambda: (100, 1000), getDeviceCount=lambda: module.devices
    )
    module.cuda.get_current_stream = lambda: SimpleNamespace(ptr=7)
    module.devices = 1
    module.calls = calls
    module.cuda.nvrtc = SimpleNamespace(getVersion=lambda: (13, 0))
    module.__spec__ = importlib.machinery.ModuleSpec("cupy", None)
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setitem(sys.modules, "cupy.cuda", module.cuda)
    return module


def test_a_kernel_is_compiled_once(cupy):
    device = CupyDevice()
    for steps in (1, 2):
        device.launch(KERNEL, (3,), (256,), [np.int32(steps)])
    assert cupy.calls == [
        ("compile", "some text", ("--fmad=false",), "nvrtc"),
        ("law", (3,), (256,), (1,)),
        ("law", (3,), (256,), (2,)),
    ]


def test_a_kernel_that_does_not_compile_is_an_error_of_ours(cupy):
    del cupy
    with pytest.raises(BackendError, match=r"refuses the kernel error: law.cu\(1\): error\n"):
        CupyDevice().launch(KernelSource("error", ""), (1,), (1,), [])


def test_tf32_holds_for_the_products_that_ask_for_it(cupy):
    device, one = CupyDevice(), np.ones((1, 1))
    device.product("tf32")(one, one)
    device.product("fp32")(one, one)
    assert cupy.calls == [("matmul", TF32_MATH), ("matmul", 0)]
    with pytest.raises(ValueError, match="matmul"):
        device.product("tf32")(one, np.ones((2, 2)))
    assert cupy.mode == 0


def test_memory_and_stream(cupy):
    device = CupyDevice()
    assert device.free_bytes() == 110
    assert device.stream() == 7
    device.release()
    assert cupy.calls == ["freed"]


@pytest.fixture
def capturing(cupy):
    """With as much of streams and pools as a capture touches."""
    calls = cupy.calls

    class Stream:
        ptr = 7

        def __init__(self, non_blocking=False):
            assert non_blocking, "CUDA refuses to capture the default stream"

        def __enter__(self):
            calls.append("on the stream")

        def __exit__(self, *_):
            calls.append("off the stream")

        def begin_capture(self):
            calls.append("begin")

        def end_capture(self):
            calls.append("end")
            if cupy.broken:
                raise RuntimeError("cudaErrorStreamCaptureInvalidated")
            return SimpleNamespace(launch=lambda: calls.append("replay"))

    @contextlib.contextmanager
    def using_allocator(allocate):
        assert allocate == "of the pool"
        yield calls.append("own pool")

    cupy.cuda.Stream = Stream
    cupy.cuda.MemoryPool = lambda: SimpleNamespace(malloc="of the pool")
    cupy.cuda.using_allocator = using_allocator
    current = SimpleNamespace(ptr=7, synchronize=lambda: calls.append("waited"))
    cupy.cuda.get_current_stream = lambda: current
    cupy.broken = False
    return cupy


def test_copies_beside_run_on_a_stream_of_their_own(cupy, monkeypatch):
    calls = cupy.calls

    class Stream:
        def __init__(self, name="copies", **options):
            self.name = name
            calls.append(("stream", name, options))

        def record(self):
            return f"event of {self.name}"

        def wait_event(self, event):
            calls.append((self.name, "waits for", event))

    current = Stream("current")
    cupy.cuda.Stream, cupy.cuda.get_current_stream = Stream, lambda: current
    extra = types.ModuleType("cupyx")
    extra.empty_pinned = np.empty
    monkeypatch.setitem(sys.modules, "cupyx", extra)
    device = CupyDevice()
    pinned = device.pinned(3)
    assert (pinned.shape, pinned.dtype) == ((3,), np.float32)
    target = SimpleNamespace(set=lambda source, stream: calls.append(("copied", stream.name)))
    for _ in range(2):
        event = device.copy_beside(target, pinned)
        device.wait_for(event)
    turn = [
        ("copies", "waits for", "event of current"), ("copied", "copies"),
        ("current", "waits for", "event of copies"),
    ]  # fmt: skip
    streams = [("stream", "current", {}), ("stream", "copies", {"non_blocking": True})]
    assert calls == [*streams, *turn, *turn]


def test_a_capture_is_a_graph_with_a_pool_of_its_own(capturing):
    device, array = CupyDevice(), np.ones(3)

    def work():
        device.launch(KERNEL, (1,), (2,), [array])
        return "results"

    replay, made = device.capture(work)
    assert made == "results"
    assert any(kept is array for kept in replay.kept)  # the graph knows its address only
    device.launch(KERNEL, (1,), (2,), [np.zeros(1)])  # not captured, not kept
    replay()
    replay()
    launched = [call for call in capturing.calls if call[0] != "compile"]
    law = ("law", (1,), (2,))
    assert [call[:3] if isinstance(call, tuple) else call for call in launched] == [
        "waited", "own pool", "on the stream", "begin", law, "end", "off the stream",
        law, "replay", "replay",
    ]  # fmt: skip
    assert len(replay.kept) == 3


@pytest.mark.parametrize("broken", [False, True])
def test_a_capture_that_fails_is_ended(capturing, broken):
    """The work's own error is told, not that of the end."""
    capturing.broken = broken

    def work():
        raise MemoryError("the pool is full")

    device = CupyDevice()
    with pytest.raises(MemoryError, match="the pool is full"):
        device.capture(work)
    assert capturing.calls[-2:] == ["end", "off the stream"]
    assert device._noted is None


def test_why_there_is_no_device(cupy, monkeypatch):
    assert why_no_device() == ""
    cupy.devices = 0
    assert "finds no CUDA device" in why_no_device()

    def fail():
        raise RuntimeError("cudaErrorInsufficientDriver: too old")

    cupy.cuda.runtime.getDeviceCount = fail
    assert "cudaErrorInsufficientDriver" in why_no_device()
    cupy.cuda.nvrtc.getVersion = fail
    assert "does not find cuBLAS or NVRTC (cudaError" in why_no_device()
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert "pip install 'onnx2snn[gpu]'" in why_no_device()


def test_cupy_has_what_the_device_asks_for():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    for owner, names in {
        cupy: "RawModule asnumpy get_default_memory_pool matmul copyto",
        cupy.cuda: "Device MemoryPool Stream get_current_stream using_allocator",
        cupy.cuda.Stream: "begin_capture end_capture record synchronize wait_event",
        cupy.ndarray: "set",
        cupy.cuda.Graph: "launch",
        cupy.cuda.runtime: "memGetInfo getDeviceCount getDeviceProperties driverGetVersion "
        "runtimeGetVersion",
        cupy.cuda.compiler: "CompileException",
        cupy.get_default_memory_pool(): "free_bytes total_bytes free_all_blocks set_limit",
    }.items():
        assert not [name for name in names.split() if not hasattr(owner, name)]
    assert issubclass(cupy.cuda.memory.OutOfMemoryError, MemoryError)
    assert callable(cupy.cuda.nvrtc.getVersion)
    try:
        cublas = cupy.cuda.cublas
    except ImportError:
        pytest.skip("cuBLAS is not installed")
    assert callable(cublas.setMathMode) and callable(cublas.getMathMode)
