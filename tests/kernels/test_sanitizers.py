"""The kernels under the sanitizers for addresses and undefined behaviour.

Each launch is a process of its own, with every array in memory of exactly its size: what a kernel
reads or writes beside them ends it.
"""

import numpy as np
import pytest
from kernels import host as host_module
from kernels.layers import assert_equal, by_kernels, reference
from kernels.test_neuron_kernels import noise, with_constants
from kernels.test_pool_kernels import Case, output_shape

from onnx2snn_runtime.kernels import KernelSource


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory):
    host_module.require()
    launch = host_module.Sanitized(tmp_path_factory.mktemp("sanitized"))
    probe = KernelSource(
        "probe", 'extern "C" __global__ void probe(int *x) { x[threadIdx.x] = 1; }'
    )
    try:
        launch(probe, (1,), (1,), [np.zeros(1, np.int32)])
    except AssertionError as error:
        pytest.skip(f"the sanitizers do not work here: {str(error)[:200]}")
    return launch


def test_the_sanitizers_see_a_fault(sanitized):
    """A write of one element too many, and a sum that overflows."""
    beside = KernelSource(
        "beside", 'extern "C" __global__ void beside(int *x) { x[threadIdx.x] = 1; }'
    )
    with pytest.raises(AssertionError, match="heap-buffer-overflow"):
        sanitized(beside, (1,), (5,), [np.zeros(4, np.int32)])
    overflow = KernelSource("over", 'extern "C" __global__ void over(int *x) { x[0] += 1; }')
    with pytest.raises(AssertionError, match="signed integer overflow"):
        sanitized(overflow, (1,), (1,), [np.full(1, 2**31 - 1, np.int32)])


@pytest.mark.parametrize(
    ("family", "op", "features", "dtype"),
    [
        ("BurstIF", "PRelu", (6, 1, 3), np.float32),  # 18 neurons an image: one a thread
        ("BurstIF", "PRelu", (6, 3, 2), np.float16),
        ("Refine", "Relu", (6, 1, 2), np.float32),
        ("RefineFurther", "Relu", (6, 1, 2), np.float32),
        ("Graded", "Clip", (6, 1, 2), np.float32),
        ("Readout", "Identity", (6, 1, 3), np.float32),
    ],
)
def test_neurons(sanitized, family, op, features, dtype):
    images = 3 if features == (6, 1, 3) else 2
    x, residual = (noise(5, images, *features, seed=k).astype(dtype) for k in (0, 1))
    case = with_constants(family, op, x)
    if family == "RefineFurther":
        case.first = residual
    if family != "BurstIF":
        assert_equal(by_kernels(case, sanitized), reference(case))
        return
    bias = np.linspace(-0.5, 0.5, 6, dtype=np.float32).reshape(6, 1, 1)
    expected = reference(case, (x.astype(np.float32) + bias) + residual.astype(np.float32))
    expected.y = expected.y.astype(dtype)
    assert_equal(by_kernels(case, sanitized, bias=bias, residual=residual), expected)


@pytest.mark.parametrize(
    ("size", "attributes"),
    [
        ((9, 6), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ((9, 11), {"kernel_shape": [3, 3], "strides": [4, 3], "dilations": [2, 1],
                   "pads": [2, 0, 0, 2], "ceil_mode": 1}),
        ((9, 8), {"kernel_shape": [7, 7], "strides": [1, 3], "pads": [3, 3, 3, 3]}),
    ],
)  # fmt: skip
def test_pools(sanitized, size, attributes):
    case = Case("LIPool", "MaxPool", attributes, noise(3, 2, 2, *size), lengths=(2, 1))
    output = output_shape(case)
    assert_equal(by_kernels(case, sanitized, output=output), reference(case, output=output))
