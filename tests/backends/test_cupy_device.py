"""``CupyDevice`` on a module that stands for CuPy, and what the real one has, where it is there."""

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
        cupy.cuda: "Device get_current_stream",
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
