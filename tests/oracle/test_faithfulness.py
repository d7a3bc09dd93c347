"""The check names the first layer that departs, and why; gains and reach are looked after."""

import networks
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

import onnx2snn
from onnx2snn.verification.diagnose import Evidence, cause
from onnx2snn_runtime.neurons import ACTIVATIONS


def deep(seed=0):
    return networks.small_cnn(seed, depth=3)


def test_saturation_is_named_with_the_layer():
    model = onnx2snn.convert(
        deep(), calibration=networks.images(32), recipe="paper", scale=0.05, threshold="max"
    )
    assert not model.check.passed
    assert "'relu_1' departs first" in model.check.text
    assert "saturates" in model.check.text
    assert "--scale" in model.check.text


@pytest.mark.parametrize(("scale", "words"), [(12.0, "too few steps"), (100.0, "not sent a spike")])
def test_too_few_steps_are_named(scale, words):
    source, images = networks.small_cnn(0, depth=8), networks.images(32)
    model = onnx2snn.convert(source, calibration=images, recipe="if", scale=scale)
    assert not model.check.passed
    assert "'relu_1' departs first" in model.check.text
    assert words in model.check.text
    assert "more steps" in model.check.text


CASES = {
    "saturates": Evidence({"a": 0.1, "b": 0.5}, {"b": 0.5}, {"b": 0.3}),
    "too few steps": Evidence({"a": 0.1, "b": 0.5}, {"b": 1.0}),
    "not sent a spike": Evidence({"b": 1.0}, {"b": 1.0}, silent={"b"}),
    "noise": Evidence({"b": 0.5}, {"b": 0.5}, noise=True),
    "no longer falls": Evidence({"b": 0.5}, {"b": 0.5}),
    "not finite": Evidence({"a": 0.1, "b": np.nan}, {}),
    "add up": Evidence({"a": 0.1, "b": 0.2}, {}),
}


@pytest.mark.parametrize("words", CASES)
def test_each_cause_has_its_words(words):
    text = cause(CASES[words])
    assert words in text
    assert ("'b'" in text) == (words != "add up")


def affine_net(gain):
    """A BatchNormalization behind a MaxPool, one of whose channels had no variance."""
    b = networks.Builder(3)
    x = b.add("Relu", [b.conv("input", 3, 6)])
    x = b.add("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    variance = np.ones(6, np.float32)
    variance[4] = 1 / gain**2
    names = []
    for name, array in {"g": np.ones(6), "o": np.zeros(6), "m": np.zeros(6), "v": variance}.items():
        b.weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        names.append(name)
    x = b.add("BatchNormalization", [x, *names], epsilon=0.0)
    return b.model(b.add("Relu", [x]), [6, 4, 4])


def test_a_large_gain_that_stays_is_warned_of():
    with pytest.warns(UserWarning, match="up to 462 in channel 4"):
        onnx2snn.convert(affine_net(462), calibration=networks.images(8))
    onnx2snn.convert(affine_net(8), calibration=networks.images(8))


@pytest.mark.parametrize("recipe", ["fast", "paper", "if"])
@pytest.mark.parametrize("op", ["Sigmoid", "Tanh", "HardSwish", "LeakyRelu", "Clip"])
def test_bounded_and_signed_activations_never_saturate_on_calibration_images(op, recipe):
    b = networks.Builder(3)
    x = b.conv("input", 3, 6)
    more = []
    if op == "Clip":
        more = ["low", "high"]
        for name, value in zip(more, (-1.0, 1.5), strict=True):
            b.weights.append(numpy_helper.from_array(np.float32(value), name))
    x = b.add(op, [x, *more])
    source = b.model(b.conv(x, 6, 4), [4, 8, 8])
    images = networks.images(16)
    model = onnx2snn.convert(source, calibration=images, recipe=recipe, percentile=90.0)
    (layer,) = [node for node in model.proto.graph.node if node.op_type.startswith("BurstIF")]
    threshold = next(
        numpy_helper.to_array(item)
        for item in model.proto.graph.initializer
        if item.name in layer.input and item.name.endswith("threshold")
    )
    extended = onnx.ModelProto()
    extended.CopyFrom(source)
    extended.graph.output.append(onnx.ValueInfoProto(name=x))
    activation = ReferenceEvaluator(extended).run([x], {"input": images})[0]
    largest = np.abs(activation).max(axis=(0, 2, 3))
    assert (model.recipe.burst_limit * threshold.reshape(-1) >= largest * (1 - 1e-6)).all()
    high = ACTIVATIONS[op].high
    assert threshold.max() <= (high if np.isfinite(high) else np.inf)


def test_shares_of_work():
    """Counted by hand: conv 3-6 is static, conv 6-6 sees spikes, the last sees gated values."""
    b = networks.Builder(3)
    x = b.add("Relu", [b.conv("input", 3, 6, kernel=1)])
    y = b.add("Relu", [b.conv(x, 6, 6, kernel=1)])
    gated = b.add("Mul", [x, y])
    z = b.add("Relu", [b.conv(gated, 6, 6, kernel=1)])
    source = b.model(b.conv(z, 6, 2, kernel=1), [2, 8, 8])
    work = onnx2snn.convert(source, calibration=networks.images(8)).work
    assert work.macs == {"spiking": 64 * 36, "graded": 64 * 36, "static": 64 * (18 + 12)}
    assert work.elements == {"spiking": 3 * 384, "pooling": 0, "graded": 384, "linear": 2 * 384}
    assert work.share("spiking") == 64 * 36 / (64 * 102)
