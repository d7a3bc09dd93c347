"""Every registered activation spikes between weights and approaches the ANN."""

import networks
import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import onnx2snn
from onnx2snn.evaluation.stand_in import to_ann
from onnx2snn_runtime.neurons import ACTIVATIONS

SMOOTH = sorted(
    name for name, entry in ACTIVATIONS.items() if not entry.rectifier and name != "TanhGelu"
)
SPELLED = {  # activations as files write them whose operator set lacks them
    "Swish": [("Sigmoid", ["x"], "s"), ("Mul", ["x", "s"], "y")],
    "Gelu": [("Div", ["x", "root"], "d"), ("Erf", ["d"], "e"), ("Add", ["e", "one"], "a"),
             ("Mul", ["x", "a"], "m"), ("Mul", ["m", "half"], "y")],
    "TanhGelu": [("Mul", ["x", "x"], "q"), ("Mul", ["q", "x"], "p"), ("Mul", ["p", "k"], "l"),
                 ("Add", ["x", "l"], "b"), ("Mul", ["b", "r"], "c"), ("Tanh", ["c"], "t"),
                 ("Add", ["t", "one"], "a"), ("Mul", ["x", "a"], "m"), ("Mul", ["m", "half"], "y")],
}  # fmt: skip
NUMBERS = {"root": 2**0.5, "one": 1, "half": 0.5, "k": 0.044715, "r": (2 / np.pi) ** 0.5}


def network(op):
    b = networks.Builder(3)
    x = "input"
    for channels in (3, 6):
        x = b.conv(x, channels, 6)
        if op == "Exp":  # twice in a row it grows beyond all bounds
            b.weights.append(onnx.numpy_helper.from_array(np.float32(0.1), f"tenth_{channels}"))
            x = b.add("Mul", [x, f"tenth_{channels}"])
        x = b.add(op, [x])
    return b.model(b.conv(x, 6, 4), [4, 8, 8], opset=max(18, ACTIVATIONS[op].since))


def spelled_network(op, opset=18):
    b = networks.Builder(3)
    for name, number in NUMBERS.items():
        b.weights.append(onnx.numpy_helper.from_array(np.float32(number), name))
    x, channels = "input", 3
    for _ in range(2):
        names = {"x": b.conv(x, channels, 6)}
        for part, inputs, output in SPELLED[op]:
            names[output] = b.add(part, [names.get(name, name) for name in inputs])
        x, channels = names["y"], 6
    return b.model(b.conv(x, 6, 4), [4, 8, 8], opset=opset)


@pytest.mark.parametrize("op", SPELLED)
@pytest.mark.parametrize(
    ("recipe", "timesteps", "limit"), [("fast", 128, 0.01), ("refine", 16, 1e-3)]
)
def test_spelled_out_activation_spikes(op, recipe, timesteps, limit):
    source, images = spelled_network(op), networks.images(6)
    expected = ReferenceEvaluator(source).run(None, {"input": images})[0]
    model = onnx2snn.convert(source, calibration=images, recipe=recipe, per_channel=False)
    assert [(layer.role, layer.op) for layer in model.layers] == [("neuron", op)] * 2
    onnx.checker.check_model(model.proto, full_check=True)
    for backend in ("numpy", "auto"):
        found = model.network(backend).run(images, timesteps=timesteps).logits
        error = np.linalg.norm(found - expected) / np.linalg.norm(expected - expected.mean())
        assert error < limit
    again = ReferenceEvaluator(to_ann(model.proto)).run(None, {"input": images})[0]
    assert np.allclose(again, expected, atol=1e-5)


def test_spelled_out_activations_of_head_and_tail_stay():
    """Nothing of the converter's own is left where it is not a neuron."""
    b = networks.Builder(3)
    x = b.add("Mul", ["input", b.add("Sigmoid", ["input"])])
    x = b.add("Relu", [b.conv(x, 3, 6)])
    y = b.conv(x, 6, 4)
    source = b.model(b.add("Mul", [y, b.add("Sigmoid", [y])]), [4, 8, 8])
    images = networks.images(6)
    expected = ReferenceEvaluator(source).run(None, {"input": images})[0]
    model = onnx2snn.convert(source, calibration=images, recipe="refine")
    onnx.checker.check_model(model.proto, full_check=True)
    assert [layer.op for layer in model.layers] == ["Relu"]
    found = model.network().run(images, timesteps=16).logits
    assert np.abs(found - expected).max() < 1e-3


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
