"""The kernels of whole numbers, compiled for the CPU, against the laws as written in NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernels.layers import Case, assert_equal, by_kernels, reference, splits


@st.composite
def layers(draw):
    """Neurons of every bound and limit, with negative sums and quotients that are whole."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    images, steps = draw(st.integers(1, 3)), draw(st.integers(1, 9))
    features = (draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 5)))
    largest = draw(st.sampled_from([1, 3, 1000]))
    shape = draw(st.sampled_from([(1, 1, 1), (features[0], 1, 1), features]))
    threshold = generator.integers(1, largest + 1, (1, *shape)).astype(np.float32)
    x = generator.integers(-2 * largest, 3 * largest + 1, (steps, images, *features))
    limit = float(draw(st.integers(1, 16)))
    numbers = {
        "v0": draw(st.sampled_from([0.0, 0.5, 0.3])),
        "burst_limit": limit,
        "lower_limit": draw(st.sampled_from([0.0, -limit])),
    }
    constants = []
    if draw(st.booleans()):
        low = generator.integers(-largest, 1, shape)
        constants = [bound.astype(np.float32) for bound in (low, low + largest)]
    return Case(
        "IntegerIF", "Clip" if constants else "Relu", numbers, x.astype(np.float32), threshold,
        constants, draw(splits(steps)), draw(st.booleans()),
    )  # fmt: skip


@given(layers())
def test_neurons_in_whole_numbers(host, case):
    assert_equal(by_kernels(case, host), reference(case))


@pytest.mark.parametrize("width", [3, 4])
def test_readouts_of_whole_numbers(host, width):
    random = np.random.default_rng(0)
    x = random.integers(-(2**20), 2**20, (7, 2, 3, width)).astype(np.float32)
    scale = random.uniform(1e-6, 1e-3, (3, 1)).astype(np.float32)
    case = Case("IntegerReadout", "Identity", {}, x, None, [scale], (2, 5))
    assert_equal(by_kernels(case, host), reference(case))


def test_bias_and_residual(host):
    """Whole numbers stay whole: float32 adds them exactly."""
    random = np.random.default_rng(0)
    x, residual = (random.integers(-99, 200, (5, 2, 6, 2, 2)).astype(np.float32) for _ in "ab")
    bias = random.integers(-50, 50, (6, 1, 1)).astype(np.float32)
    threshold = random.integers(1, 90, (1, 6, 1, 1)).astype(np.float32)
    numbers = {"v0": 0.5, "burst_limit": 7.0, "lower_limit": -7.0}
    case = Case("IntegerIF", "Relu", numbers, x, threshold)
    expected = reference(case, x + bias + residual)
    assert_equal(by_kernels(case, host, bias=bias, residual=residual), expected)


def test_large_sums(host):
    """Near the ends of int32, where floats would lose units."""
    x = np.full((127, 1, 1, 1, 4), 2.0**24 - 1, np.float32)
    numbers = {"v0": 0.0, "burst_limit": 65535.0, "lower_limit": -65535.0}
    case = Case("IntegerIF", "Relu", numbers, x, np.float32([[[[3.0]]]]), [], (100, 27))
    assert_equal(by_kernels(case, host), reference(case))
