"""Channel blocks: the same answers from another layout, for every way to cut images and steps."""

import networks
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import onnx2snn
from onnx2snn_runtime.backends import onnxruntime_backend, open_backend
from onnx2snn_runtime.backends.blocked_models import with_blocks
from onnx2snn_runtime.network import Network
from onnx2snn_runtime.neurons import FAMILIES, Chunk, Signature
from onnx2snn_runtime.planning.blocks import NotBlockedError, from_blocks, to_blocks

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("numba", reason="numba is not installed")

IMAGES = networks.images(7, shape=(3, 12, 12))
STEPS = [1, 2, 3, 6]


def wide_cnn(seed=0):
    """Conv/ReLU of 32 and 20 channels, residual Add, overlapping MaxPool, Concat, GAP and Gemm."""
    b = networks.Builder(seed, size=12)
    x = b.add("Relu", [b.conv("input", 3, 32)])
    y = b.add("Relu", [b.conv(x, 32, 32)])
    x = b.add("Relu", [b.add("Add", [y, b.conv(y, 32, 32)])])
    x = b.add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    left, right = b.add("Relu", [b.conv(x, 32, 32)]), b.add("Relu", [b.conv(x, 32, 20, kernel=1)])
    x = b.add("Relu", [b.conv(b.add("Concat", [left, right], axis=1), 52, 32)])
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [x])])
    logits = b.add("Gemm", [flat, b.weight(4, 32), b.weight(4)], transB=1)
    return b.model(logits, [4])


@pytest.fixture(scope="module", params=["fast", "refine"])
def spiking(request):
    return onnx2snn.convert(
        wide_cnn(), calibration=networks.images(16, shape=(3, 12, 12)), recipe=request.param
    ).proto


def run(model, *, images=IMAGES, batch_size=None, backend="onnxruntime", **options):
    network = Network(model, backend=backend, **options)
    return network.run(images, STEPS, batch_size=batch_size, record=True)


@given(st.integers(1, 3), st.integers(1, 4), st.sampled_from([8, 16]))
def test_blocks_hold_neighbouring_channels_side_by_side(images, blocks, block):
    array = np.arange(images * blocks * block * 6).reshape(images, blocks * block, 2, 3)
    moved = to_blocks(array, block)
    assert np.array_equal(from_blocks(moved, block), array)
    first_pixel = moved.reshape(-1)[:block]
    assert np.array_equal(first_pixel, array[0, :block, 0, 0])


def test_the_network_really_uses_blocks(spiking):
    engine = Network(spiking, backend="onnxruntime").engine
    if engine.backend.channel_block == 1:
        pytest.skip("onnxruntime has no blocked layout on this machine")
    blocked = [unit.output in engine.blocked for unit in engine.plan.stateful]
    assert any(blocked) and not all(blocked)  # 20 channels make no whole blocks


def test_tensors_that_are_refused_lie_as_usual(spiking, monkeypatch):
    """onnxruntime may optimise a door away from the part that it convolves in blocks."""
    plain = Network(spiking, backend="onnxruntime").engine
    if plain.backend.channel_block == 1:
        pytest.skip("onnxruntime has no blocked layout on this machine")
    refused = sorted(plain.blocked)[0]

    def stubborn(model, blocked):
        if refused in blocked:
            raise NotBlockedError([refused])
        return with_blocks(model, blocked)

    monkeypatch.setattr(onnxruntime_backend, "with_blocks", stubborn)
    engine = Network(spiking, backend="onnxruntime").engine
    assert engine.blocked
    assert refused not in engine.blocked
    reference, result = run(spiking, backend="numpy"), run(spiking)
    np.testing.assert_allclose(result.logits, reference.logits, rtol=1e-3, atol=1e-3)


def test_every_cut_gives_the_same_bits(spiking):
    reference = run(spiking, threads=1)
    for options in (
        {"threads": 2},
        {"threads": 1, "batch_size": 1},
        {"threads": 1, "batch_size": 3},
        {"threads": 1, "memory": 1},
        {"threads": 3, "memory": 2**18},
    ):
        result = run(spiking, **options)
        for t in STEPS:
            for name, expected in reference.by_step[t].items():
                assert np.array_equal(result.by_step[t][name], expected), (options, t)
        for name, expected in reference.spikes.items():
            assert np.array_equal(result.spikes[name], expected), options


def test_blocks_and_the_numpy_backend_agree(spiking):
    """Convolutions round differently, and a rounding may move a spike; hardly any does."""
    ours, reference = run(spiking), run(spiking, backend="numpy")
    for name, expected in reference.spikes.items():
        assert np.mean(np.abs(ours.spikes[name] - expected) <= 2) >= 0.99, name
    assert np.allclose(ours.logits, reference.logits, atol=0.05)


@st.composite
def pools(draw):
    kernel = draw(st.lists(st.integers(1, 3), min_size=2, max_size=2))
    pair = st.lists(st.integers(1, 3), min_size=2, max_size=2)
    return {
        "kernel_shape": kernel,
        "strides": draw(pair),
        "dilations": draw(st.lists(st.integers(1, 2), min_size=2, max_size=2)),
        "pads": [draw(st.integers(0, kernel[i % 2] - 1)) for i in range(4)],
        "ceil_mode": draw(st.integers(0, 1)),
    }


@given(pools(), st.integers(5, 8), st.integers(5, 8), st.sampled_from([1, 8, 16]), st.booleans())
def test_fused_pooling_is_bit_equal(attributes, height, width, block, still):
    generator = np.random.default_rng(height * width)
    x = generator.normal(0, 1, (5, 2, 32, height, width)).astype(np.float32)
    if still:
        x = np.broadcast_to(x[:1], x.shape)
    operator = FAMILIES["LIPool"](Signature("MaxPool"), attributes)
    runner = open_backend("numpy")[0].compile(operator.base_model(18))

    def evaluate(arrays):
        (result,) = runner({"x": arrays[0].reshape(-1, *arrays[0].shape[2:])}).values()
        return result.reshape(*arrays[0].shape[:2], *result.shape[1:])

    shape = evaluate([x]).shape[1:]
    assume(np.all(np.isfinite(evaluate([x]))))  # every window holds a real element

    def zeros():
        return [np.zeros(x.shape[1:], np.float32), np.zeros(shape, np.float32)]

    expected = operator.scan(np, Chunk([x], None, zeros(), 1, evaluate))
    moved = x if block == 1 else np.stack([to_blocks(step, block) for step in x])
    if still:
        moved = np.broadcast_to(moved[:1], moved.shape)
    states, found = zeros(), []
    for part in (slice(0, 2), slice(2, 5)):
        chunk = Chunk([moved[part]], None, states, 1, evaluate, block=block)
        found.append(open_backend("onnxruntime")[0].scan(operator, chunk))
        states = chunk.states
    result = np.concatenate(found)
    assert np.array_equal(result if block == 1 else from_blocks(result, block), expected)


def test_tensors_may_be_called_what_they_like():
    """Such as what the parts of a law call theirs."""
    model = wide_cnn()
    first = model.graph.node[1].output[0]
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["relu_0" if name == first else name for name in names]
    data = networks.images(16, shape=(3, 12, 12))
    answer = run(onnx2snn.convert(model, calibration=data).proto)
    expected = run(onnx2snn.convert(wide_cnn(), calibration=data).proto)
    np.testing.assert_array_equal(answer.logits, expected.logits)
