"""The kernels of lateral-inhibition pooling, compiled for the CPU, against the law in NumPy."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kernels.layers import Case, assert_equal, by_kernels, reference, splits

from onnx2snn_runtime import kernels
from onnx2snn_runtime.kernels import pool
from onnx2snn_runtime.neurons import FAMILIES, Chunk, Signature
from onnx2snn_runtime.ops.registry import Call
from onnx2snn_runtime.ops.windows import make_windows
from onnx2snn_runtime.planning.blocks import from_blocks, to_blocks

# the kernel shape is compiled in: a few, so that there is not much to compile
SMALL = [(2,), (3,), (1, 1), (2, 2), (3, 3), (1, 4), (5, 2), (2, 2, 2), (3, 1, 2)]


@st.composite
def pools(draw, kernels_of):
    """A pooling of any geometry, its input and the shape of its output."""
    kernel = draw(kernels_of)
    rank = len(kernel)
    attributes = {"kernel_shape": list(kernel), "ceil_mode": draw(st.integers(0, 1))}
    numbers = {"strides": st.integers(1, 4), "dilations": st.integers(1, 3)}
    for name, values in numbers.items():
        attributes[name] = draw(st.lists(values, min_size=rank, max_size=rank))
    attributes["pads"] = [draw(st.integers(0, kernel[i % rank] - 1)) for i in range(2 * rank)]
    least = [1 + d * (k - 1) for d, k in zip(attributes["dilations"], kernel, strict=True)]
    size = [draw(st.integers(low, low + 6)) for low in least]
    return make_case(draw, attributes, size)


def make_case(draw, attributes, size):
    """The case, with noise whose sums may be negative."""
    steps = draw(st.integers(1, 6))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (steps, draw(st.integers(1, 2)), draw(st.integers(1, 3)), *size)
    x = generator.normal(draw(st.sampled_from([-1.0, 0.3])), 1.0, shape).astype(np.float32)
    case = Case("LIPool", "MaxPool", attributes, x, lengths=draw(splits(steps)))
    output = output_shape(case)
    assume(output is not None)
    return case, output


def output_shape(case):
    """[N,C,*] of the output, or None where a window lies in the padding alone."""
    call = Call(np, case.attributes, opset=18)
    sizes = case.x.shape[3:]
    kernel, ceil_mode = case.attributes["kernel_shape"], bool(call.get("ceil_mode", 0))
    windows = make_windows(call, sizes, kernel, ceil_mode)
    for axis, size in enumerate(sizes):
        for o in range(windows.outputs[axis]):
            start = o * windows.strides[axis] - windows.before[axis]
            taps = (start + k * windows.dilations[axis] for k in range(windows.kernel[axis]))
            if not any(0 <= tap < size for tap in taps):
                return None
    return (*case.x.shape[1:3], *windows.outputs)


@settings(max_examples=200)
@given(pools(st.sampled_from(SMALL)))
def test_windows_in_registers(host, given_case):
    """Every stride, dilation, padding and size, overlapping or with gaps, in any chunks."""
    case, output = given_case
    assert_equal(by_kernels(case, host, output=output), reference(case, output=output))


@settings(max_examples=200)
@given(pools(st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)))
def test_windows_in_memory(host, given_case):
    """What large windows take, for windows of every shape."""
    case, output = given_case
    taps, pool.MOST_TAPS = pool.MOST_TAPS, 0
    try:
        found = by_kernels(case, host, output=output)
    finally:
        pool.MOST_TAPS = taps
    assert_equal(found, reference(case, output=output))


def test_large_windows(host):
    """As in spatial pyramids."""
    attributes = {"kernel_shape": [7, 7], "strides": [1, 1], "pads": [3, 3, 3, 3]}
    x = np.random.default_rng(0).normal(0, 1, (4, 1, 2, 9, 8)).astype(np.float32)
    case = Case("LIPool", "MaxPool", attributes, x)
    expected = reference(case, output=(1, 2, 9, 8))
    assert_equal(by_kernels(case, host, output=(1, 2, 9, 8)), expected)


@pytest.mark.parametrize("size", [2, 7])
def test_constant_input(host, size):
    attributes = {"kernel_shape": [size, size], "strides": [2, 2]}
    x = np.random.default_rng(0).normal(0, 1, (1, 2, 3, 8, 8)).astype(np.float32)
    case = Case("LIPool", "MaxPool", attributes, np.broadcast_to(x, (5, *x.shape[1:])))
    output = output_shape(case)
    assert_equal(by_kernels(case, host, output=output), reference(case, output=output))


@pytest.mark.parametrize("size", [3, 7])
def test_half_precision(host, size):
    attributes = {"kernel_shape": [size, size], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    x = np.random.default_rng(0).normal(0, 1, (5, 2, 3, 9, 8)).astype(np.float16)
    case = Case("LIPool", "MaxPool", attributes, x)
    output = output_shape(case)
    expected = reference(case, x.astype(np.float32), output)
    expected.y = expected.y.astype(np.float16)
    assert_equal(by_kernels(case, host, output=output), expected)


@pytest.mark.parametrize("block", [2, 8])
@pytest.mark.parametrize("size", [3, 7])
def test_blocks_of_channels(host, block, size):
    """Channels side by side in memory, as a fast convolution leaves them; all of them is NHWC."""
    attributes = {"kernel_shape": [size, size], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    x = np.random.default_rng(0).normal(0, 1, (3, 2, 8, 9, 8)).astype(np.float32)
    case = Case("LIPool", "MaxPool", attributes, x)
    output = output_shape(case)
    expected = reference(case, output=output)
    blocked = np.stack([to_blocks(step, block) for step in x])
    found = by_kernels(case, host, x=blocked, output=output, block=block)
    found.y = from_blocks(found.y, block)
    found.states = [from_blocks(held, block) for held in found.states]
    assert_equal(found, expected)


@pytest.mark.parametrize("size", [3, 7])
def test_channels_last(host, size):
    """As a convolution in 16 bits leaves them: a view whose strides say so."""
    attributes = {"kernel_shape": [size, size], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    x = np.random.default_rng(0).normal(0, 1, (5, 2, 6, 9, 8)).astype(np.float32)
    case = Case("LIPool", "MaxPool", attributes, x, lengths=(2, 3))
    output = output_shape(case)
    view = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 2, -1)), -1, 2)
    found = by_kernels(case, host, x=view, output=output)
    assert_equal(found, reference(case, output=output))
    assert all(np.moveaxis(held, 1, -1).flags.c_contiguous for held in found.states)


def test_a_nan_is_not_lost(host):
    x = np.ones((2, 1, 1, 4, 4), np.float32)
    x[:, :, :, 1, 2] = np.nan
    case = Case("LIPool", "MaxPool", {"kernel_shape": [2, 2]}, x)
    output = output_shape(case)
    assert_equal(by_kernels(case, host, output=output), reference(case, output=output))


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "rank"),
    [
        ("GlobalMaxPool", 1, {}, 2),
        ("Max", 2, {}, 2),
        ("MaxPool", 1, {"kernel_shape": [1, 1, 1, 1]}, 4),
        ("MaxPool", 1, {"kernel_shape": [1], "pads": [1, 1]}, 1),  # windows of padding alone
    ],
)
def test_what_has_no_kernel_is_left_to_the_law(host, op, inputs, attributes, rank):
    operator = FAMILIES["LIPool"](Signature(op, inputs, tuple(range(inputs))), attributes)
    x = np.zeros((2, 1, 1, *(3,) * rank), np.float32)
    chunk = Chunk([x] * inputs, None, [x[0]] * (inputs + 1), 1, None)
    assert kernels.scan(np, host, operator, chunk) is None
