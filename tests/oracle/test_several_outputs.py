"""Of several outputs one tells classes: settings, early exit, accuracy and ``run`` look at it."""

import json

import networks
import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

import onnx2snn
from onnx2snn.cli import main
from onnx2snn_runtime.errors import DataError, UsageError

IMAGES = networks.images(64, seed=3)


def two_heads():
    """Two numbers of a regression come first, five classes second."""
    b = networks.Builder(4)
    x = b.add("Relu", [b.conv("input", 3, 6)])
    x = b.add("Flatten", [b.add("GlobalAveragePool", [b.add("Relu", [b.conv(x, 6, 8)])])])
    numbers = b.add("Gemm", [x, b.weight(2, 8)], transB=1)
    classes = b.add("Gemm", [x, b.weight(5, 8), b.weight(5)], transB=1)
    return b.model(numbers, [2], more_outputs={classes: [5]}), numbers, classes


SOURCE, NUMBERS, CLASSES = two_heads()
ANSWERS = dict(
    zip((NUMBERS, CLASSES), ReferenceEvaluator(SOURCE).run(None, {"input": IMAGES}), strict=True)
)
LABELS = ANSWERS[CLASSES].argmax(axis=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("several") / "data.npz"
    np.savez(path, images=IMAGES, labels=LABELS)
    return path


@pytest.mark.parametrize("options", [{}, {"target_drop": 5.0}])
def test_labels_choose_the_output_that_is_wide_enough(data, options):
    model = onnx2snn.convert(SOURCE, calibration=data, **options)
    network = model.network()
    assert network.decides == CLASSES
    assert any(CLASSES in remark and "--decides" in remark for remark in model.remarks)
    result = network.run(IMAGES)
    assert result.logits is result.outputs[CLASSES]
    found = onnx2snn.evaluate(network, data, timesteps=[model.recipe.recommended_timesteps])
    assert found["ann"]["accuracy"] == 100.0
    (step,) = found["steps"]
    assert step["agreement"] == 100.0 * np.mean(result.logits.argmax(axis=1) == LABELS)
    compared = onnx2snn.compare(SOURCE, network, IMAGES, timesteps=8)
    after = network.run(IMAGES, 8).logits.argmax(axis=1)
    assert compared["agreement"] == 100.0 * np.mean(after == LABELS)


def test_early_exit_looks_at_the_output(data):
    network = onnx2snn.convert(SOURCE, calibration=data).network()
    result = network.run(IMAGES, early_exit=True)
    whole = network.run(IMAGES, list(range(1, 9)))
    for image, step in enumerate(result.exit_steps):
        assert np.allclose(result.logits[image], whole.by_step[step][CLASSES][image], atol=1e-4)
    assert network.exit_rule is not None


def test_a_name_chooses_and_a_wrong_one_is_refused(data):
    model = onnx2snn.convert(SOURCE, calibration=IMAGES, decides=CLASSES)
    assert model.network().decides == CLASSES
    assert not model.remarks
    assert onnx2snn.convert(SOURCE, calibration=IMAGES).network().decides == NUMBERS
    with pytest.raises(UsageError, match="outputs"):
        onnx2snn.convert(SOURCE, calibration=IMAGES, decides="elsewhere")
    with pytest.warns(UserWarning, match="labels count from 0"):
        numbers = onnx2snn.convert(SOURCE, calibration=data, decides=NUMBERS)
    with pytest.raises(DataError, match="label") as refusal:
        onnx2snn.evaluate(numbers, data)
    assert "--decides" in refusal.value.advice


def test_run_tells_the_classes_of_the_output(data, tmp_path, capsys):
    path = tmp_path / "model.snn.onnx"
    onnx2snn.convert(SOURCE, calibration=data).save(path)
    assert main(["run", str(path), str(data), "-T", "32", "--json"]) == 0
    classes = json.loads(capsys.readouterr().out)["classes"]
    assert np.mean(np.array(classes) == LABELS) > 0.95


def test_a_network_of_one_output_needs_no_remark():
    model = onnx2snn.convert(networks.small_cnn(), calibration=IMAGES)
    assert not model.remarks
