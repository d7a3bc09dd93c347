"""Converted networks against the ANN and against plain ONNX runtimes."""

import networks
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.inliner import inline_local_functions
from onnx.reference import ReferenceEvaluator

import onnx2snn

RECIPES = ["fast", "paper", "if", "refine"]


def error(found, expected):
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected - expected.mean()))


def ten_line_loop(run, inputs, outputs, feeds, timesteps):
    """The whole protocol of the file, without reading any metadata."""
    count = len(next(iter(feeds.values())))
    for name, shape, dtype in inputs:
        if name + ".next" in outputs:
            feeds[name] = np.zeros([s if isinstance(s, int) else count for s in shape], dtype)
    for _ in range(timesteps):
        results = dict(zip(outputs, run(feeds), strict=True))
        feeds.update({n: results[n + ".next"] for n in feeds if n + ".next" in results})
    return results


def session_loop(model, images, timesteps):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = onnxruntime.InferenceSession(model.SerializeToString())
    inputs = [
        (v.name, v.shape, np.int64 if "int64" in v.type else np.float32)
        for v in session.get_inputs()
    ]
    outputs = [v.name for v in session.get_outputs()]
    return ten_line_loop(
        lambda feeds: session.run(outputs, feeds), inputs, outputs, {"input": images}, timesteps
    )


def reference_loop(model, images, timesteps):
    oracle = ReferenceEvaluator(inline_local_functions(model))
    inputs = [
        (
            v.name,
            [d.dim_value or d.dim_param for d in v.type.tensor_type.shape.dim],
            np.int64 if v.type.tensor_type.elem_type == onnx.TensorProto.INT64 else np.float32,
        )
        for v in model.graph.input
    ]
    outputs = [v.name for v in model.graph.output]
    return ten_line_loop(
        lambda feeds: oracle.run(None, feeds), inputs, outputs, {"input": images}, timesteps
    )


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("loop", [session_loop, reference_loop])
def test_ten_line_loop_gives_the_runtimes_answer(recipe, loop):
    model = onnx2snn.convert(
        networks.small_cnn(), calibration=networks.images(64, seed=2), recipe=recipe
    )
    onnx.checker.check_model(model.proto, full_check=True)
    images = networks.images(3)
    results = loop(model.proto, images, 6)
    answer = model.network().run(images, timesteps=6).logits
    assert np.allclose(next(iter(results.values())), answer, atol=1e-3)


@settings(max_examples=6)
@given(seed=st.integers(0, 99), depth=st.integers(1, 3), pool=st.booleans(), residual=st.booleans())
def test_spiking_network_approaches_the_ann(seed, depth, pool, residual):
    source = networks.small_cnn(seed, depth, pool, residual)
    images = networks.images(6, seed + 1)
    expected = ReferenceEvaluator(source).run(None, {"input": images})[0]
    rate = onnx2snn.convert(source, calibration=images, per_channel=False, scale=2 / 15)
    answers = rate.network().run(images, timesteps=[8, 256]).by_step
    errors = {t: error(next(iter(a.values())), expected) for t, a in answers.items()}
    assert errors[256] < 0.03
    assert errors[256] < max(errors[8], 1e-3)


@settings(max_examples=5)
@given(seed=st.integers(0, 99), burst=st.sampled_from([7, 15]))
def test_refining_code_converges(seed, burst):
    """The error of the refining code falls below 1e-5 on random deep networks."""
    source = networks.small_cnn(seed, depth=5)
    images = networks.images(4, seed + 1)
    expected = ReferenceEvaluator(source).run(None, {"input": images})[0]
    model = onnx2snn.convert(source, calibration=images, recipe="refine", burst=burst)
    assert error(model.network().run(images, timesteps=28).logits, expected) < 1e-5


def test_stream_and_run_are_the_same():
    model = onnx2snn.convert(networks.small_cnn(), calibration=networks.images(32, seed=2))
    network, images = model.network(), networks.images(4)
    streamed = [next(iter(answer.values())) for answer in network.stream(images, timesteps=5)]
    by_step = network.run(images, timesteps=range(1, 6)).by_step
    for t, answer in enumerate(streamed, 1):
        assert np.array_equal(answer, next(iter(by_step[t].values())))


def test_sequence_of_equal_frames_is_the_image():
    model = onnx2snn.convert(networks.small_cnn(), calibration=networks.images(32, seed=2))
    network, images = model.network(), networks.images(4)
    frames = np.repeat(images[np.newaxis], 5, axis=0)
    still = network.run(images, timesteps=5).logits
    assert np.allclose(network.run(frames, timesteps=5).logits, still, atol=1e-4)


def test_activations_of_the_leaky_kind_spike():
    b = networks.Builder(4)
    x = b.add("LeakyRelu", [b.conv("input", 3, 6)], alpha=0.1)
    slope = b.weight(6, 1, 1, scale=0.2)
    x = b.add("PRelu", [b.conv(x, 6, 6), slope])
    x = b.add("Clip", [b.conv(x, 6, 6), b.weight(), b.weight()])
    for weight, value in zip(b.weights[-2:], (0.0, 1.0), strict=True):
        weight.CopyFrom(onnx.numpy_helper.from_array(np.float32(value), weight.name))
    source = b.model(b.conv(x, 6, 4), [4, 8, 8])
    images = networks.images(6)
    expected = ReferenceEvaluator(source).run(None, {"input": images})[0]
    for recipe, timesteps, limit in [("fast", 128, 0.02), ("refine", 16, 1e-3)]:
        model = onnx2snn.convert(source, calibration=images, recipe=recipe, per_channel=False)
        assert [layer.role for layer in model.layers] == ["neuron"] * 3
        assert error(model.network().run(images, timesteps=timesteps).logits, expected) < limit
