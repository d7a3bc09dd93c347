"""The kernels compiled for GPUs, without one: what they take, and that they read whole vectors."""

import pytest
from kernels import nvrtc

from onnx2snn_runtime.kernels.formula import bounds_struct, function_struct
from onnx2snn_runtime.kernels.source import HERE, kernel_source, layer_struct
from onnx2snn_runtime.neurons import ACTIVATIONS, FAMILIES, Signature

# registers a thread: up to 64 an H100 keeps 1024 threads a multiprocessor, up to 96 still 512
LIMITS = {
    "burst": 64, "refine": 64, "graded": 64, "readout": 56, "running_sum": 48,
    "pool": 64, "pool_sums": 48, "integer_readout": 56,
    "integer": 96,  # quotients of whole numbers take more
    "refine_further": 96,  # and so does a second signal in flight
}  # fmt: skip
MOST_REGISTERS = 96


def neuron_kernel(name, op="Relu", width=4, x="float", y="float", **options):
    """A variant of a kernel of scan.h."""
    function = ""
    if name == "integer":
        function = bounds_struct(FAMILIES["IntegerIF"](Signature("Clip", 3), {}))
    elif name not in ("readout", "running_sum", "integer_readout"):
        inputs = 1 + len(ACTIVATIONS[op].constants)
        function = function_struct(FAMILIES["BurstIF"](Signature(op, inputs), {}))
    switches = dict.fromkeys(("SCALED", "BIASED", "JOINS", "COUNTS"), False) | options
    types = {"Input": x, "Residual": x, "Output": y}
    return kernel_source(name, layer_struct(**{**types, **switches}, WIDTH=width, F=function))


def pool_kernel(*kernel):
    """A variant of the pooling kernel."""
    shape = {f"KERNEL{axis}": taps for axis, taps in enumerate(kernel)}
    return kernel_source("pool", layer_struct(Input="float", Output="float", **shape))


def assert_lean(kernel, architecture, registers):
    nvrtc.require()
    used = nvrtc.usage(kernel, architecture)
    assert used.spilled == used.stack == 0, used
    assert used.registers <= registers, used


@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize("file", sorted(HERE.glob("*.cu")), ids=lambda file: file.stem)
def test_every_kernel_for_every_architecture(file, architecture):
    name = file.stem
    if name == "pool":
        kernel = pool_kernel(1, 3, 3)
    elif name == "pool_sums":
        kernel = kernel_source(name, layer_struct(Output="float"))
    else:
        kernel = neuron_kernel(name)
    assert_lean(kernel, architecture, LIMITS[name])


@pytest.mark.parametrize("op", ACTIVATIONS)
def test_every_activation(op):
    architecture = nvrtc.ARCHITECTURES[list(ACTIVATIONS).index(op) % len(nvrtc.ARCHITECTURES)]
    assert_lean(neuron_kernel("burst", op, width=1), architecture, LIMITS["burst"])


@pytest.mark.parametrize(
    "kernel",
    [
        neuron_kernel("burst", x="Half", y="Half", BIASED=True, JOINS=True),
        neuron_kernel("burst", "PRelu", BIASED=True, JOINS=True),
        neuron_kernel(
            "burst", "PRelu", x="Half", Residual="float", SCALED=True, BIASED=True, JOINS=True
        ),
        neuron_kernel("burst", "Mish", y="signed char", COUNTS=True),
        neuron_kernel("refine", "TanhGelu"),
        pool_kernel(1, 2, 2),
        pool_kernel(2, 4, 4),  # the most taps
    ],
    ids=lambda kernel: kernel.name,
)
def test_heavy_variants(kernel):
    assert_lean(kernel, "sm_90", MOST_REGISTERS)


def test_code_is_as_written():
    """Four float32 at a time by one instruction; quotients and no product fused with a sum."""
    nvrtc.require()
    code = nvrtc.assembly(neuron_kernel("burst"), "compute_90")
    assert "ld.global.v4.f32" in code
    assert "st.global.v4.f32" in code
    assert "div.rn.ftz.f32" in code
    assert "fma" not in code
