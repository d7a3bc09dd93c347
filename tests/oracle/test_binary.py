"""One probability for each image, of a Sigmoid: class 1 from a half on."""

import json

import networks
import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

import onnx2snn
from onnx2snn.cli import main
from onnx2snn_runtime.errors import DataError

IMAGES = networks.images(120)
pytestmark = pytest.mark.filterwarnings("ignore:the ANN itself")


def source(flat, last="Sigmoid"):
    """A network whose answers lie on both sides of a half."""

    def build(bias, last):
        b = networks.Builder(3)
        x = b.add("Relu", [b.conv("input", 3, 6)])
        x = b.add("Flatten", [b.add("GlobalAveragePool", [b.add("Relu", [b.conv(x, 6, 6)])])])
        dense, shift = b.weight(1, 6, scale=9.0), b.constant([bias], np.float32)
        x = b.add(last, [b.add("Gemm", [x, dense, shift], transB=1)])
        if flat:
            x = b.add("Reshape", [x, b.constant([-1])])
        return b.model(x, [] if flat else [1])

    (logits,) = ReferenceEvaluator(build(0.0, "Identity")).run(None, {"input": IMAGES})
    return build(-np.median(logits), last)


@pytest.mark.parametrize("flat", [False, True])
def test_accuracy_and_agreement_of_two_classes(flat):
    model = source(flat)
    (answers,) = ReferenceEvaluator(model).run(None, {"input": IMAGES})
    ann = answers.reshape(-1) >= 0.5
    assert 0.3 < ann.mean() < 0.7
    labels = np.where(np.arange(len(ann)) % 10 == 0, ~ann, ann).astype(np.int64)
    network = onnx2snn.convert(model, calibration=IMAGES).network()
    found = onnx2snn.evaluate(network, (IMAGES, labels), timesteps=[2, 32], typical=True)
    for step in found["steps"]:
        told = network.run(IMAGES, timesteps=step["t"]).logits.reshape(-1) >= 0.5
        assert step["accuracy"] == pytest.approx(100 * (told == labels).mean())
        assert step["agreement"] == pytest.approx(
            100 * (told == (answers.reshape(-1) >= 0.5)).mean()
        )
    assert found["typical"]["accuracy"] is not None
    with pytest.raises(DataError, match="2 classes"):
        onnx2snn.evaluate(network, (IMAGES, labels + 1), timesteps=2)


def test_settings_and_early_exit_are_chosen_by_points_of_accuracy():
    model = onnx2snn.convert(source(False), calibration=IMAGES, target_drop=2.0)
    assert model.tuning.chosen.agreement is not None
    assert model.check.agreement is not None
    network = model.network()
    early = network.run(IMAGES, early_exit=True)
    assert len(set(early.exit_steps)) > 1
    found = onnx2snn.evaluate(network, IMAGES, timesteps=[1], early_exit=True)["early_exit"]
    assert found["agreement"] > 90
    (answers,) = ReferenceEvaluator(source(False)).run(None, {"input": IMAGES})
    sure = np.abs(answers.reshape(-1) - 0.5)
    first = early.exit_steps == early.exit_steps.min()
    assert sure[first].mean() > sure[~first].mean()


def test_run_tells_the_class(tmp_path, capsys):
    model = onnx2snn.convert(source(False), calibration=IMAGES)
    model.save(tmp_path / "net.snn.onnx")
    np.save(tmp_path / "images.npy", IMAGES)
    assert (
        main(["run", str(tmp_path / "net.snn.onnx"), str(tmp_path / "images.npy"), "--json"]) == 0
    )
    found = json.loads(capsys.readouterr().out)["classes"]
    assert found == (model.network().run(IMAGES).logits.reshape(-1) >= 0.5).astype(int).tolist()


def test_a_number_without_a_sigmoid_is_no_class():
    network = onnx2snn.convert(source(False, "Abs"), calibration=IMAGES).network()
    found = onnx2snn.evaluate(network, (IMAGES, np.zeros(len(IMAGES), int)), timesteps=2)
    assert found["steps"][0]["accuracy"] is None
