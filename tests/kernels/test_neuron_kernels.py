"""The kernels of single neurons, compiled for the CPU, against the laws as written in NumPy."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels.layers import (
    CONSTANTS,
    Case,
    assert_equal,
    burst_parameters,
    by_kernels,
    cases,
    plain_attributes,
    reference,
    refine_parameters,
)

from onnx2snn_runtime import kernels
from onnx2snn_runtime.neurons import ACTIVATIONS, FAMILIES, Chunk, Signature

# no two libraries agree in the last bits of these
TRANSCENDENTAL = re.compile(r"expf|expm1f|tanhf|softplus")
TOLERANCE = 3e-6  # of t · max(1, |f|)
FEW = settings(max_examples=40)
THRESHOLD = np.linspace(0.07, 0.31, 6, dtype=np.float32).reshape(1, 6, 1, 1)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(0.2, 1.0, shape).astype(np.float32)


def with_constants(family, op, x, **attributes):
    """A case with a usual set of numbers."""
    constants = {"Clip": [np.float32(-0.25), np.float32(1.5)]}.get(op, [])
    if op == "PRelu":
        constants = [np.linspace(-0.5, 0.5, x.shape[2], dtype=np.float32).reshape(-1, 1, 1)]
    threshold = THRESHOLD if FAMILIES[family].spiking else None
    numbers = {**plain_attributes(family, op), **attributes}
    return Case(family, op, numbers, x, threshold, constants)


@given(cases("BurstIF", "Relu", burst_parameters()))
def test_burst_neurons(host, case):
    """Bit for bit: odd sizes, ties, negative sums, every limit, any split into chunks."""
    assert_equal(by_kernels(case, host), reference(case))


@pytest.mark.parametrize(
    ("op", "attributes"), [("LeakyRelu", {"alpha": 0.25}), ("Clip", {}), ("PRelu", {})]
)
@FEW
@given(st.data())
def test_burst_neurons_of_other_rectifiers(host, op, attributes, data):
    case = data.draw(cases("BurstIF", op, burst_parameters(**attributes)))
    assert_equal(by_kernels(case, host), reference(case))


@given(cases("Refine", "Relu", refine_parameters(low=0.0)))
def test_refining_neurons(host, case):
    assert_equal(by_kernels(case, host), reference(case))


@FEW
@given(cases("Refine", "Clip", refine_parameters(low=-0.4, high=1.1)))
def test_refining_neurons_with_bounds(host, case):
    assert_equal(by_kernels(case, host), reference(case))


def with_first(case):
    """The case of a finer output, with a first estimate that is off by as much as x varies."""
    case.first = np.maximum(case.x, 0) + noise(*case.x.shape, seed=5)
    return case


@pytest.mark.parametrize("op", ["Relu", "Clip", "PRelu"])
@FEW
@given(st.data())
def test_finer_outputs(host, op, data):
    case = with_first(data.draw(cases("RefineFurther", op, refine_parameters())))
    assert_equal(by_kernels(case, host), reference(case))


@FEW
@given(cases("Readout", "Identity"))
def test_readouts(host, case):
    assert_equal(by_kernels(case, host), reference(case))


@pytest.mark.parametrize("op", ["PRelu", "Clip"])
@FEW
@given(st.data())
def test_graded_functions(host, op, data):
    case = data.draw(cases("Graded", op))
    assert_equal(by_kernels(case, host), reference(case))


def test_what_is_not_finite_is_not_kept(host):
    """The last finite F stays, at the first step and later ones."""
    x = noise(8, 2, 3, 5) * 10
    x[::3] *= 100
    x[4] = np.nan
    case = Case("Graded", "Exp", {}, x[:4], lengths=(1, 3))
    with np.errstate(over="ignore", invalid="ignore"):
        expected = reference(case)
    found = by_kernels(case, host)
    assert np.all(np.isfinite(found.states[1]))
    assert np.any(found.y[1:] == 0.0)  # where F was not finite
    np.testing.assert_allclose(found.states[1], expected.states[1], rtol=1e-5)
    np.testing.assert_allclose(found.y, expected.y, rtol=1e-5)
    linear = Case("Graded", "HardSigmoid", {}, x, lengths=(3, 5))
    assert_equal(by_kernels(linear, host), reference(linear))


@pytest.mark.parametrize("op", ACTIVATIONS)
def test_every_activation(host, op):
    """F_t of every function that has an expression: the same bits, or the same to 3e-6."""
    assert ACTIVATIONS[op].cuda, f"{op} has no kernel"
    x = np.concatenate([noise(5, 3, 6, 2, 3), 4 * noise(4, 3, 6, 2, 3, seed=1)])
    case = with_constants("Graded", op, x)
    found, expected = by_kernels(case, host), reference(case)
    if not TRANSCENDENTAL.search(ACTIVATIONS[op].cuda):
        assert_equal(found, expected)
        return
    scale = np.cumsum(np.abs(expected.y), axis=0) + np.arange(1, 10).reshape(-1, 1, 1, 1, 1)
    assert np.all(np.abs(found.y - expected.y) <= TOLERANCE * scale)


@pytest.mark.parametrize("family", ["BurstIF", "Refine"])
def test_neurons_of_a_transcendental_function(host, family):
    """A spike may move by a step where a quotient is next to a whole number; no charge is lost."""
    case = with_constants(family, "Sigmoid", noise(16, 3, 6, 5, 4))
    found, expected = by_kernels(case, host), reference(case)
    assert np.mean(found.counts == expected.counts) > 0.999
    if family == "Refine":
        assert np.mean(np.abs(found.y[-1] - expected.y[-1]) <= THRESHOLD) == 1
    else:
        assert np.all(np.abs((found.y - expected.y).sum(axis=0)) <= THRESHOLD * 1.001)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("LeakyRelu", {"alpha": 0.3}), ("HardSigmoid", {"alpha": 0.15, "beta": 0.4}),
        ("ThresholdedRelu", {"alpha": 0.5}), ("Shrink", {"bias": 0.25, "lambd": 0.75}),
    ],
)  # fmt: skip
def test_attributes_of_the_function(host, op, attributes):
    case = with_constants("Graded", op, noise(5, 2, 6, 3, 1), **attributes)
    assert_equal(by_kernels(case, host), reference(case))


@pytest.mark.parametrize("images", [1, 2, 4])  # with one, a thread takes one neuron
def test_constant_current(host, images):
    """Every step is the same memory, as in front of the first neuron."""
    x = np.broadcast_to(noise(1, images, 6, 1, 3), (9, images, 6, 1, 3))
    case = with_constants("BurstIF", "Relu", x)
    assert_equal(by_kernels(case, host), reference(case))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("size", [1, 4])
def test_bias_and_residual_in_the_same_pass(host, dtype, size):
    """The current is (x + bias) + residual in float32, also of half precision."""
    x, residual = (noise(6, 2, 6, 3, size, seed=seed).astype(dtype) for seed in (3, 4))
    bias = np.linspace(-0.5, 0.5, 6, dtype=np.float32).reshape(6, 1, 1)
    case = with_constants("BurstIF", "PRelu", x)
    case.lengths = (4, 2)
    current = (x.astype(np.float32) + bias) + residual.astype(np.float32)
    expected = reference(case, current)
    expected.y = expected.y.astype(dtype)
    both = [np.concatenate([part]) for part in (x, residual)]
    found = by_kernels(
        with_constants("BurstIF", "PRelu", both[0]), host, bias=bias, residual=both[1]
    )
    assert found.y.dtype == dtype
    assert_equal(found, expected)


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("sends", [np.float16, np.float32])
def test_half_precision_between_a_convolution_and_the_next(host, size, sends):
    """x in units of a power of two for each channel, a residual of another type than x."""
    x = noise(6, 2, 6, 3, size, seed=3).astype(np.float16)
    residual = noise(6, 2, 6, 3, size, seed=4).astype(sends)
    scale, bias = (np.float32(v).reshape(6, 1, 1) for v in (2.0 ** np.arange(-3, 3), range(6)))
    case = with_constants("BurstIF", "Relu", x)
    expected = reference(case, (x.astype(np.float32) * scale + bias) + residual.astype(np.float32))
    expected.y = expected.y.astype(sends)
    found = by_kernels(case, host, scale=scale, bias=bias, residual=residual, sends=sends)
    assert found.y.dtype == sends
    assert_equal(found, expected)


def test_finer_outputs_of_channels_that_lie_last(host):
    case = with_first(with_constants("RefineFurther", "PRelu", noise(6, 2, 6, 3, 4)))
    expected = reference(case)
    for name in ("x", "first"):
        lying = np.ascontiguousarray(np.moveaxis(getattr(case, name), 2, -1))
        setattr(case, name, np.moveaxis(lying, -1, 2))
    found = by_kernels(case, host)
    assert_equal(found, expected)
    assert np.moveaxis(found.states[0], 1, -1).flags.c_contiguous


@pytest.mark.parametrize("family", ["BurstIF", "Refine", "Readout"])
@pytest.mark.parametrize("stands", [False, True])
def test_channels_last(host, family, stands):
    """Views of memory whose channels lie last: so do results and states, and nothing is copied."""
    x, residual = (noise(1 if stands else 6, 2, 6, 3, 4, seed=seed) for seed in (3, 4))
    bias = np.linspace(-0.5, 0.5, 6, dtype=np.float32).reshape(6, 1, 1)
    case = with_constants(family, "Identity" if family == "Readout" else "PRelu", x)
    if stands:
        x = case.x = np.broadcast_to(x, (6, *x.shape[1:]))
    expected = reference(case, (x + bias) + residual)

    def last(array, axis):
        lying = np.ascontiguousarray(np.moveaxis(array, axis, -1))
        return np.moveaxis(lying, -1, axis)

    given = np.broadcast_to(last(x[:1], 2), x.shape) if stands else last(x, 2)
    case.reusable = not stands
    chunk = Chunk(
        [given, *case.constants], case.threshold, case.states(), 1, None, record=True,
        reusable=case.reusable, bias=bias, residual=last(residual, 2),
    )  # fmt: skip
    y = kernels.scan(np, host, case.operator(), chunk)
    assert np.moveaxis(y, 2, -1).flags.c_contiguous
    assert stands or np.shares_memory(y, given)
    assert all(np.moveaxis(held, 1, -1).flags.c_contiguous for held in chunk.states)
    found = type(expected)(y, chunk.counts, chunk.states)
    assert_equal(found, expected)


def test_float_in_half_out(host):
    case = with_constants("Refine", "Relu", noise(6, 2, 6, 3, 4))
    expected = reference(case)
    expected.y = expected.y.astype(np.float16)
    found = by_kernels(case, host, sends=np.float16)
    assert found.y.dtype == np.float16
    assert_equal(found, expected)


def test_residual_that_stands_still(host):
    x, residual = noise(6, 2, 6, 3, 4), noise(1, 2, 6, 3, 4, seed=1)
    case = with_constants("BurstIF", "Relu", x)
    for still in (residual, np.broadcast_to(residual, x.shape)):
        assert_equal(by_kernels(case, host, residual=still), reference(case, x + residual))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_counts_as_results(host, dtype):
    """int8 spike counts instead of values."""
    case = with_constants("BurstIF", "Relu", noise(6, 2, 6, 3, 4).astype(dtype))
    expected = reference(case, case.x.astype(np.float32))
    found = by_kernels(case, host, sends=np.int8)
    assert found.y.dtype == np.int8
    np.testing.assert_array_equal(found.y, expected.counts)


@pytest.mark.parametrize("family", ["BurstIF", "Refine"])
def test_half_precision_keeps_states_in_float32(host, family):
    case = with_constants(family, "Relu", noise(7, 2, 6, 3, 5).astype(np.float16))
    expected = reference(case, case.x.astype(np.float32))
    expected.y = expected.y.astype(np.float16)
    assert_equal(by_kernels(case, host), expected)


def test_conversion_to_half_rounds_as_numpy(host):
    """Ties, subnormal numbers, overflow, NaN: through a layer that hands on its first input."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**16, (1, 1, 4096), dtype=np.uint16)
    x = bits.view(np.float16)
    case = Case("Readout", "Identity", {}, x)
    found = by_kernels(case, host)
    np.testing.assert_array_equal(found.y, x)
    np.testing.assert_array_equal(found.states[0], x.astype(np.float32)[0])


def refused(host, family, op, attributes, inputs=1, x=None, threshold=None, **more):
    """Whether there is no kernel; the chunk must be as it was."""
    operator = FAMILIES[family](Signature(op, inputs, tuple(range(inputs))), attributes)
    x = noise(3, 2, 6, 3, 4) if x is None else x
    states = [np.zeros(x.shape[1:], np.float32) for _ in operator.state_names]
    threshold = THRESHOLD if threshold is None else threshold
    chunk = Chunk([x] * inputs, threshold, list(states), 1, None, reusable=True, **more)
    launches = host.launches
    y = kernels.scan(np, host, operator, chunk)
    same = all(ours is theirs for ours, theirs in zip(chunk.states, states, strict=True))
    return y is None and same and host.launches == launches


def test_what_has_no_kernel_is_left_to_the_law(host):
    numbers = plain_attributes("BurstIF", "Relu")
    assert refused(host, "BurstIF", "Atan", numbers)  # not in the registry
    assert refused(host, "BurstIF", "Gelu", {**numbers, "approximate": "tanh"})
    assert refused(host, "BurstIF", "LeakyRelu", {**numbers, "alpha": float("inf")})
    assert refused(host, "Graded", "Softmax", {"axis": 1})
    assert refused(host, "Graded", "Mul", {}, inputs=2)
    assert refused(host, "BurstIF", "Relu", numbers, x=np.zeros((3, 0, 6, 3, 4), np.float32))
    several = np.ones((2, 6, 1, 1), np.float32)
    assert refused(host, "BurstIF", "Relu", numbers, threshold=several)
    assert refused(host, "BurstIF", "Relu", {**numbers, "burst_limit": 128.0}, sends=np.int8)
    assert refused(host, "Refine", "Relu", plain_attributes("Refine", "Relu"), sends=np.int8)
    assert not refused(host, "BurstIF", "Relu", numbers)


def test_unaligned_arrays(host):
    """Whole vectors need an aligned address; what has none is read neuron by neuron."""
    memory = np.zeros(6 * 2 * 6 * 4 + 1, np.float32)
    x = memory[1:].reshape(6, 2, 6, 1, 4)
    x[...] = noise(*x.shape)
    case = with_constants("BurstIF", "Relu", x)
    assert_equal(by_kernels(case, host), reference(case))


def test_thresholds_are_laid_out_once():
    """The same arrays give the same table; a changed threshold gives another."""
    case = with_constants("BurstIF", "Relu", noise(4, 2, 6, 3, 4))
    operator, tables = case.operator(), []

    def launch(kernel, blocks, threads, arguments):
        tables.append(arguments[6])

    for threshold in (THRESHOLD, THRESHOLD, THRESHOLD * 2):
        kernels.scan(np, launch, operator, Chunk([case.x], threshold, case.states(), 1, None))
    assert tables[0] is tables[1]
    np.testing.assert_array_equal(tables[2], 2 * tables[0])


def test_constants_are_known():
    """Every input that an expression names is one that the tests give."""
    named = {op: len(entry.constants) for op, entry in ACTIVATIONS.items() if entry.constants}
    assert named == CONSTANTS
