"""The quantised ANN beside a spiking network depends on the ANN and its images alone."""

import networks
import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import onnx2snn
from onnx2snn.evaluation.stand_in import calibrated_ranges

IMAGES = networks.images(64, seed=3)
SOURCE = networks.small_cnn(2)
SETTINGS = {
    "fast": {"recipe": "fast"},
    "refine": {"recipe": "refine"},
    "tuned": {"target_drop": 5.0},
    "early": {"target_drop": 5.0, "prefer": "latency"},
}


def activations():
    """Every Relu of the source on the calibration images."""
    shown = onnx.ModelProto()
    shown.CopyFrom(SOURCE)
    names = [node.output[0] for node in SOURCE.graph.node if node.op_type == "Relu"]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return ReferenceEvaluator(shown).run(names, {"input": IMAGES})


@pytest.mark.parametrize("setting", SETTINGS)
def test_ranges_are_those_of_the_activations(setting):
    model = onnx2snn.convert(SOURCE, calibration=IMAGES, **SETTINGS[setting])
    ranges = list(calibrated_ranges(model.network()).values())
    expected = [np.percentile(values, 99.9) for values in activations()]
    assert ranges == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("setting", SETTINGS)
def test_many_bits_change_nothing(setting):
    model = onnx2snn.convert(SOURCE, calibration=IMAGES, **SETTINGS[setting])
    found = onnx2snn.evaluate(model.network(), IMAGES, timesteps=[1])["quantised_ann"]
    assert found["agreement"] >= 90.0
