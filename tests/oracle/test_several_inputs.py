"""Networks with several inputs and outputs: calibration, the Python API and the command line."""

import json

import networks
import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import onnx2snn
from onnx2snn.cli import main
from onnx2snn_runtime.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore:the ANN itself")  # labels are random


def two_by_two():
    """An image and a vector; class scores and a map."""
    b = networks.Builder(5)
    image = b.add("Relu", [b.conv("input", 3, 6)])
    pooled = b.add("Flatten", [b.add("GlobalAveragePool", [image])])
    hidden = b.add("Relu", [b.add("Gemm", ["vector", b.weight(6, 4)], transB=1)])
    joined = b.add("Relu", [b.add("Add", [pooled, hidden])])
    b.add("Gemm", [joined, b.weight(5, 6)], transB=1)
    b.nodes[-1].output[0] = "scores"
    b.conv(image, 6, 2)
    b.nodes[-1].output[0] = "map"
    return b.model("scores", [5], more_inputs={"vector": [4]}, more_outputs={"map": [2, 8, 8]})


def feeds(count, seed=1):
    generator = np.random.default_rng(seed)
    return {
        "input": generator.standard_normal((count, 3, 8, 8)).astype(np.float32),
        "vector": 100 * generator.standard_normal((count, 4)).astype(np.float32),
    }


@pytest.mark.parametrize(("recipe", "timesteps"), [("fast", 128), ("refine", 16)])
def test_all_inputs_are_calibrated_and_all_outputs_right(recipe, timesteps):
    source = two_by_two()
    model = onnx2snn.convert(source, calibration=feeds(32), recipe=recipe)
    assert model.check.passed
    data = feeds(3, 2)
    expected = ReferenceEvaluator(source).run(None, data)
    found = model.network().run(data, timesteps=timesteps).outputs
    assert list(found) == ["scores", "map"]
    for array, reference in zip(found.values(), expected, strict=True):
        assert np.linalg.norm(array - reference) < 0.03 * np.linalg.norm(reference)


def test_commands_take_an_archive_by_input_names(tmp_path, capsys):
    onnx.save(two_by_two(), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", **feeds(8))
    path = str(tmp_path / "net.onnx")
    assert main([path, "--calibration", str(tmp_path / "data.npz"), "-q"]) == 0
    command = ["run", str(tmp_path / "net.snn.onnx"), str(tmp_path / "data.npz"), "--json"]
    capsys.readouterr()
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["outputs"] == {"scores": [8, 5], "map": [8, 2, 8, 8]}


def test_missing_data_is_named():
    with pytest.raises(DataError, match="'vector'"):
        onnx2snn.convert(two_by_two(), calibration={"input": feeds(4)["input"]})
    data = feeds(4)
    data["vector"] = data["vector"][:3]
    with pytest.raises(DataError, match="differ in their number"):
        onnx2snn.convert(two_by_two(), calibration=data)


def test_an_image_and_a_vector_are_evaluated(tmp_path):
    """Bytes of a picture with its preprocessing, and a vector that is taken as it is."""
    source, data = two_by_two(), feeds(32)
    data["input"] = np.random.default_rng(3).integers(0, 256, (32, 3, 8, 8), np.uint8)
    data["labels"] = np.arange(32) % 5
    np.savez(tmp_path / "data.npz", **data)
    model = onnx2snn.convert(source, calibration=tmp_path / "data.npz", preprocess="unit")
    model.save(tmp_path / "net.snn.onnx")
    found = onnx2snn.evaluate(
        tmp_path / "net.snn.onnx", tmp_path / "data.npz", timesteps=[8], against=source
    )
    given = {"input": data["input"] / np.float32(255), "vector": data["vector"]}
    (scores, _) = ReferenceEvaluator(source).run(None, given)
    right = scores.argmax(axis=1) == data["labels"]
    assert found["ann"]["accuracy"] == pytest.approx(100 * right.mean())
    assert found["steps"][0]["agreement"] > 90
