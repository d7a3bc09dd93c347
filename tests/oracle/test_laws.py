"""The spiking laws against traces computed by hand and against onnx's ReferenceEvaluator."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper
from onnx.inliner import inline_local_functions
from onnx.reference import ReferenceEvaluator

from onnx2snn_runtime.backends import open_backend
from onnx2snn_runtime.neurons import FAMILIES, Chunk, Signature

BURST = {"v0": 0.0, "burst_limit": 5.0, "lower_limit": 0.0, "rounding": 1.0}
REFINE = {
    "burst_limit": 7.0, "growth": 2.0, "decay": 1.0, "dead_zone": 0.5,
    "lowest": -20.0, "highest": 2.0, "low": 0.0, "high": 3.4e38,
}  # fmt: skip
CASES = [
    ("BurstIF", "Relu", {}, BURST),
    ("BurstIF", "Relu", {}, {**BURST, "v0": 0.5, "lower_limit": -5.0}),
    ("BurstIF", "LeakyRelu", {"alpha": 0.25}, {**BURST, "lower_limit": -5.0}),
    ("BurstIF", "Clip", {}, {**BURST, "rounding": 1.000001}),
    ("Refine", "Relu", {}, REFINE),
    ("Refine", "LeakyRelu", {"alpha": 0.25}, {**REFINE, "low": -3.4e38}),
    ("Refine", "Relu", {}, {**REFINE, "decay": 2.0, "dead_zone": 0.75}),
]
CONSTANTS = {"Clip": [np.float32(0), np.float32(1.5)]}


def scan(backend, family, op, attributes, x, threshold, chunks=(None,), states=None):
    """Run the law over x [T,N,*] on a backend in chunks; returns y and counts."""
    engine, _ = open_backend(backend)
    constants = CONSTANTS.get(op, [])
    signature = Signature(op, 1 + len(constants), (0,))
    operator = FAMILIES[family](signature, attributes)
    runner = engine.compile(operator.base_model(18))

    def evaluate(arrays):
        names = operator.base_inputs()
        merged = dict(zip(names, arrays, strict=True))
        merged[names[0]] = arrays[0].reshape(-1, *arrays[0].shape[2:])
        (result,) = runner(merged).values()
        return result.reshape(arrays[0].shape)

    states = [np.zeros(x.shape[1:], np.float32) for _ in operator.state_names]
    outputs, counts, first = [], [], 1
    for length in chunks:
        part = x[first - 1 : None if length is None else first - 1 + length]
        chunk = Chunk([part, *constants], threshold, states, first, evaluate, record=True)
        outputs.append(engine.scan(operator, chunk))
        counts.append(chunk.counts)
        states = list(chunk.states)
        first += len(part)
    return np.concatenate(outputs), np.concatenate(counts)


def test_paper_neuron_by_hand():
    """V ← V + x; n = clip(⌊V/θ⌋, 0, γ); V ← V − nθ with θ = 1, γ = 2: worked on paper."""
    x = np.array([0.6, 0.6, 3.0, 0.0, -1.0, 0.9], np.float32).reshape(6, 1, 1)
    attributes = {**BURST, "burst_limit": 2.0}
    y, counts = scan("numpy", "BurstIF", "Relu", attributes, x, np.ones((1, 1), np.float32))
    # V: .6 | 1.2→.2 | 3.2→1.2 | 1.2→.2 | −.8 | .1
    assert counts.ravel().tolist() == [0, 1, 2, 1, 0, 0]
    assert np.array_equal(y, counts)


def test_signed_neuron_takes_back_by_hand():
    """The signed neuron sends −1 when its input proves too large."""
    x = np.array([2.0, -1.5, 0.0], np.float32).reshape(3, 1, 1)
    attributes = {**BURST, "lower_limit": -5.0}
    _, counts = scan("numpy", "BurstIF", "Relu", attributes, x, np.ones((1, 1), np.float32))
    assert counts.ravel().tolist() == [2, -2, 0]


def test_refining_neuron_by_hand():
    """θ = 1, γ = 4, target 2.6: sends 3, then the quarter... every step halves the unit."""
    x = np.full((3, 1, 1), 2.6, np.float32)
    attributes = {**REFINE, "burst_limit": 8.0}
    y, counts = scan("numpy", "Refine", "Relu", attributes, x, np.ones((1, 1), np.float32))
    assert counts.ravel().tolist() == [3, -1, 0]
    assert y.ravel().tolist() == [3.0, 2.5, 2.5]


def test_finer_output_by_hand():
    """Adds to the estimates 3, 2.5 and 2.5 of 2.6 what they leave: θ = 1/4, γ = 8."""
    x = np.full((3, 1, 1), 2.6, np.float32)
    coarse = np.array([3.0, 2.5, 2.5], np.float32).reshape(3, 1, 1)
    attributes = {**REFINE, "burst_limit": 8.0, "low": -3.4e38}
    operator = FAMILIES["RefineFurther"](Signature("Relu", 2, (0, 1)), attributes)
    states = [np.zeros((1, 1), np.float32)] * 2
    unit = np.full((1, 1), 0.25, np.float32)
    chunk = Chunk([x, coarse], unit, states, 1, lambda arrays: np.maximum(arrays[0], 0))
    chunk.record = True
    y = operator.scan(np, chunk)
    # left: −.4, −2 quarters, the unit halves | .1 + .5, 5 eighths, the unit stays | .1 − .125
    assert chunk.counts.ravel().tolist() == [-2, 5, 0]
    assert y.ravel().tolist() == [2.5, 2.625, 2.625]


@given(
    x=hnp.arrays(np.float32, (9, 2, 3), elements=st.floats(-2, 2, width=32)),
    threshold=st.floats(0.0625, 2, width=32),
    burst_limit=st.integers(1, 15),
)
def test_law_is_the_membrane_form(x, threshold, burst_limit):
    """One law = V-form: V ← V + x, n = clip(⌊V/θ⌋, 0, γ), V ← V − nθ, in exact arithmetic."""
    grid = np.float32(2.0**-10)
    x = np.round(x / grid) * grid  # sums and differences are exact in float64
    theta = float(np.round(threshold / 2**-4) * 2**-4)
    attributes = {**BURST, "burst_limit": float(burst_limit)}
    theta_array = np.full((1, 1), theta, np.float32)
    _, counts = scan("numpy", "BurstIF", "Relu", attributes, x, theta_array)
    membrane, sent = np.zeros(x.shape[1:]), np.zeros(x.shape[1:])
    for t, step in enumerate(x.astype(np.float64)):
        membrane = membrane + step
        n = np.clip(np.floor(membrane / theta), 0, burst_limit)
        assert np.array_equal(counts[t], n)
        membrane = membrane - n * theta
        sent = sent + n
        total = x[: t + 1].astype(np.float64).sum(axis=0)
        assert np.allclose(membrane + theta * sent, total, atol=1e-6)  # charge is conserved


@pytest.mark.parametrize("backend", ["numpy", "onnxruntime"])
@pytest.mark.parametrize(("family", "op", "extra", "parameters"), CASES)
def test_scan_equals_the_function_in_the_reference_evaluator(
    backend, family, op, extra, parameters
):
    """The law on every backend is the model-local function, spike for spike."""
    if backend == "onnxruntime":
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    generator = np.random.default_rng(3)
    x = generator.normal(0.3, 1.0, (12, 2, 4, 3)).astype(np.float32)
    threshold = generator.uniform(0.1, 0.6, (1, 4, 1)).astype(np.float32)
    y, counts = scan(backend, family, op, {**parameters, **extra}, x, threshold)
    constants = CONSTANTS.get(op, [])
    operator = FAMILIES[family](Signature(op, 1 + len(constants), (0,)), {})
    function = operator.function(18)
    inputs = list(function.input)
    node = helper.make_node(
        function.name, inputs, list(function.output), domain="ai.onnx2snn",
        family=family, op=op, moving=[0], **parameters, **extra,
    )  # fmt: skip
    make = helper.make_tensor_value_info
    kinds = {"step": TensorProto.INT64}
    model = helper.make_model(
        helper.make_graph(
            [node], "one", [make(n, kinds.get(n, TensorProto.FLOAT), None) for n in inputs],
            [make(n, TensorProto.FLOAT, None) for n in function.output],
        ),
        functions=[function],
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx2snn", 1)],
    )  # fmt: skip
    oracle = ReferenceEvaluator(inline_local_functions(model))
    states = {name: np.zeros(x.shape[1:], np.float32) for name in operator.state_names}
    for t, step in enumerate(x):
        feeds = {"threshold": threshold, **states}
        feeds.update(zip(operator.base_inputs(), [step, *constants], strict=True))
        if operator.needs_step:
            feeds["step"] = np.array(t + 1, np.int64)
        expected, *following = oracle.run(None, {n: feeds[n] for n in inputs})
        states = dict(zip(operator.state_names, following, strict=True))
        assert np.allclose(y[t], expected, atol=1e-6), t
        if family == "BurstIF":
            assert np.array_equal(counts[t], np.round(expected / threshold)), t


@pytest.mark.parametrize(("family", "op", "extra", "parameters"), CASES)
def test_fused_kernels_are_bit_equal(family, op, extra, parameters):
    """The compiled laws give the very bits of the NumPy laws, for any split into chunks."""
    pytest.importorskip("numba", reason="numba is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    generator = np.random.default_rng(5)
    x = generator.normal(0.2, 1.0, (10, 3, 5, 7)).astype(np.float32)
    threshold = generator.uniform(0.05, 0.5, (1, 5, 1)).astype(np.float32)
    attributes = {**parameters, **extra}
    reference = scan("numpy", family, op, attributes, x, threshold)
    for chunks in [(None,), (3, 3, None), (1,) * 10]:
        fused = scan("onnxruntime", family, op, attributes, x, threshold, chunks)
        for ours, theirs in zip(fused, reference, strict=True):
            assert np.array_equal(ours, theirs)


def test_bounded_neuron_keeps_its_last_spike():
    """A cap of k thresholds is reached although F/θ rounds below k."""
    theta = np.float32(0.1)
    x = np.full((4, 1, 1), 9.0, np.float32)
    attributes = {**BURST, "rounding": 1.000001, "burst_limit": 15.0}
    y, _ = scan("numpy", "BurstIF", "Clip", attributes, x, np.full((1, 1), theta))
    assert np.allclose(y.sum() / 4, 1.5, atol=1e-5)
