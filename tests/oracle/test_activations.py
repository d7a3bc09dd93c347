"""Every registered activation spikes between weights and approaches the ANN."""

import networks
import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

import onnx2snn
from onnx2snn_runtime.neurons import ACTIVATIONS

NEWER = {"Gelu": 20, "Swish": 24}
SMOOTH = sorted(name for name, entry in ACTIVATIONS.items() if not entry.rectifier)


def network(op):
    b = networks.Builder(3)
    x = b.add(op, [b.conv("input", 3, 6)])
    x = b.add(op, [b.conv(x, 6, 6)])
    return b.model(b.conv(x, 6, 4), [4, 8, 8], opset=NEWER.get(op, 18))


@pytest.mark.parametrize("op", SMOOTH)
@pytest.mark.parametrize(
    ("recipe", "timesteps", "limit"), [("fast", 128, 0.01), ("refine", 16, 1e-3)]
)
def test_smooth_activation_spikes(op, recipe, timesteps, limit):
    source, images = network(op), networks.images(6)
    expected = ReferenceEvaluator(source).run(None, {"input": images})[0]
    model = onnx2snn.convert(source, calibration=images, recipe=recipe, per_channel=False)
    assert [layer.role for layer in model.layers] == ["neuron", "neuron"]
    found = model.network().run(images, timesteps=timesteps).logits
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected - expected.mean())
    assert error < limit
