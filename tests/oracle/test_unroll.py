"""The network as one ONNX Loop, run by plain onnxruntime, against the runtime."""

import subprocess
import sys

import networks
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnx2snn import convert
from onnx2snn.export.unroll import unroll_loop
from onnx2snn_runtime.errors import ModelError

onnxruntime = pytest.importorskip("onnxruntime", reason="the oracle is onnxruntime")
IMAGES = networks.images(6, seed=8)


def run(model, timesteps=None, images=IMAGES):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feeds = {"input": images}
    if timesteps is not None:
        feeds["timesteps"] = np.array(timesteps, np.int64)
    return session.run(None, feeds)[0]


def gated():
    """A gate (graded product), SiLU (needs t) and answers from body and tail."""
    b = networks.Builder(7)
    x = b.add("Relu", [b.conv("input", 3, 6)])
    gate = b.add("Sigmoid", [b.conv(b.add("GlobalAveragePool", [x]), 6, 6, kernel=1)])
    x = b.add("Mul", [x, gate])
    y = b.add("Relu", [b.conv(x, 6, 4)])
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [y])])
    logits = b.add("Softmax", [b.add("Gemm", [flat, b.weight(4, 4), b.weight(4)], transB=1)])
    model = b.model(logits, [4])
    make = helper.make_tensor_value_info
    model.graph.output.append(make(y, TensorProto.FLOAT, ["N", 4, 8, 8]))
    return model


@pytest.mark.parametrize("recipe", ["fast", "paper", "if", "refine"])
@pytest.mark.parametrize("source", [networks.small_cnn, gated])
def test_it_equals_the_runtime(source, recipe):
    snn = convert(source(), calibration=networks.images(48, seed=4), recipe=recipe)
    loop = unroll_loop(snn.proto)
    for timesteps in (1, 2, 7):
        expected = snn.network().run(IMAGES, timesteps).logits
        # a rounding may move a spike: a few neurons, far below what a wrong state would do
        np.testing.assert_allclose(run(loop, timesteps), expected, rtol=0, atol=0.02)
    default = run(loop)
    recommended = snn.network().recommended_timesteps
    np.testing.assert_array_equal(default, run(loop, recommended))


def test_inputs_and_outputs_are_those_of_the_source():
    source = gated()
    loop = unroll_loop(convert(source, calibration=networks.images(16)).proto)
    assert [v.name for v in loop.graph.input] == ["input", "timesteps"]
    assert [v.name for v in loop.graph.output] == [v.name for v in source.graph.output]
    assert [node.op_type for node in loop.graph.node].count("Loop") == 1
    onnx.checker.check_model(loop, full_check=True)


def test_the_head_is_outside_and_runs_once():
    loop = unroll_loop(convert(networks.small_cnn(), calibration=networks.images(16)).proto)
    (over_time,) = [node for node in loop.graph.node if node.op_type == "Loop"]
    outside = [n.op_type for n in loop.graph.node]
    inside = [n.op_type for n in over_time.attribute[0].g.node]
    assert "Conv" in outside[: outside.index("Loop")]
    assert "Gemm" in outside[outside.index("Loop") :] and "Gemm" not in inside
    assert "Readout" in inside


def test_names_that_are_taken():
    model = networks.small_cnn()
    names = {"conv_0": "timesteps", "relu_1": "iteration"}
    for node in model.graph.node:
        for tensors in (node.input, node.output):
            for index, name in enumerate(tensors):
                tensors[index] = names.get(name, name)
    snn = convert(model, calibration=networks.images(16))
    loop = unroll_loop(snn.proto)
    free = loop.graph.input[1].name
    assert free != "timesteps"
    session = onnxruntime.InferenceSession(loop.SerializeToString())
    found = session.run(None, {"input": IMAGES, free: np.array(3, np.int64)})[0]
    np.testing.assert_allclose(found, snn.network().run(IMAGES, 3).logits, rtol=0, atol=0.02)


def test_an_ann_is_refused():
    with pytest.raises(ModelError, match="not a spiking network"):
        unroll_loop(networks.small_cnn())


def test_embedded_network_by_command(embedded, tmp_path):
    def call(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "onnx2snn", *map(str, arguments)],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    snn = tmp_path / "f.snn.onnx"
    done = call(embedded.model, "--calibration", embedded.calibration, "--preprocess", "unit",
                "-o", snn)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert call("export", snn, "--unroll", "loop").returncode == 0
    images = np.load(embedded.test)["images"][:16].astype(np.float32) / 255
    found = run(onnx.load(tmp_path / "f.loop.onnx"), 4, images)
    import onnx2snn_runtime

    expected = onnx2snn_runtime.load(snn).run(images, 4).logits
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.9
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.3)
