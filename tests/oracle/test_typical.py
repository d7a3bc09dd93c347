"""The typical method beside a network is what recipe ``if`` makes of the network's source."""

import networks
import numpy as np
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

import onnx2snn
from onnx2snn.evaluation.typical import MOST_STEPS, WITHIN, RoundMeasurement, typical_network
from onnx2snn_runtime import Network
from onnx2snn_runtime.errors import UsageError

IMAGES = networks.images(40, seed=3)
SOURCE = networks.small_cnn(2)
LABELS = ReferenceEvaluator(SOURCE).run(None, {"input": IMAGES})[0].argmax(axis=1)


def two_branches():
    """Branches that are pooled behind their concatenation, one of them a SiLU."""
    b = networks.Builder(4)
    gate = b.conv("input", 3, 4)
    parts = [b.add("Relu", [b.conv("input", 3, 4)]),
             b.add("Mul", [gate, b.add("Sigmoid", [gate])]),
             b.add("LeakyRelu", [b.conv("input", 3, 4)], alpha=0.2)]  # fmt: skip
    x = b.add("Concat", parts, axis=1)
    x = b.add("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = b.add("Relu", [b.conv(x, 12, 6)])
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [x])])
    return b.model(b.add("Gemm", [flat, b.weight(4, 6), b.weight(4)], transB=1), [4])


@pytest.mark.parametrize("recipe", ["fast", "refine", "paper"])
@pytest.mark.parametrize("source", [SOURCE, two_branches()], ids=["small", "branches"])
def test_the_network_is_that_of_the_recipe_if(source, recipe):
    shown = onnx2snn.convert(source, calibration=IMAGES, recipe=recipe)
    model = typical_network(shown.network())
    onnxruntime.InferenceSession(model.SerializeToString())  # plain onnxruntime takes it
    typical = Network(model)
    expected = onnx2snn.convert(source, calibration=IMAGES, recipe="if").network()
    steps = [1, 5, 20]
    ours, theirs = typical.run(IMAGES, steps, record=True), expected.run(IMAGES, steps, record=True)
    for t in steps:
        (mine,), (other,) = ours.by_step[t].values(), theirs.by_step[t].values()
        assert np.allclose(mine, other, atol=1e-4)
    counts = [sorted(float(s.sum()) for s in r.spikes.values()) for r in (ours, theirs)]
    assert counts[0] == pytest.approx(counts[1], rel=1e-3)


@pytest.mark.parametrize("labels", [LABELS, None], ids=["labels", "agreement"])
def test_the_smallest_t_that_is_as_accurate(labels, tmp_path):
    data = tmp_path / "data.npz"
    np.savez(data, **{"images": IMAGES} | ({} if labels is None else {"labels": labels}))
    shown = onnx2snn.convert(SOURCE, calibration=IMAGES, recipe="fast").network()
    result = onnx2snn.evaluate(shown, data, timesteps=[2, 4], typical=True)
    found, beside = result["typical"], result["steps"][1]
    assert found["beside_t"] == beside["t"] == 4
    reference = onnx2snn.convert(SOURCE, calibration=IMAGES, recipe="if").network()
    rows = onnx2snn.evaluate(reference, data, timesteps=list(range(1, found["t"] + 1)))["steps"]
    measure = "agreement" if labels is None else "accuracy"
    enough = [row["t"] for row in rows if row[measure] >= beside[measure] - WITHIN]
    assert enough[0] == found["t"]
    for key in (measure, "spikes_per_image", "energy_uj", "energy_int_uj"):
        assert found[key] == pytest.approx(rows[-1][key], rel=1e-3)
    assert not found["lower_bound"]


def test_where_it_never_gets_there_the_last_step_is_a_lower_bound(tmp_path):
    data = tmp_path / "data.npz"
    np.savez(data, images=IMAGES[:8], labels=LABELS[:8])
    shown = onnx2snn.convert(SOURCE, calibration=IMAGES, recipe="fast").network()
    stored = shown.metadata["typical"]["thresholds"]
    for name in stored:  # so large that hardly a neuron spikes within all steps
        stored[name] *= 1e6
    found = onnx2snn.evaluate(shown, data, timesteps=[4], typical=True)["typical"]
    assert found["lower_bound"]
    assert found["t"] == MOST_STEPS


def test_an_interrupted_measurement_goes_on(tmp_path, monkeypatch):
    model, data = tmp_path / "net.snn.onnx", tmp_path / "data.npz"
    np.savez(data, images=IMAGES, labels=LABELS)
    onnx2snn.convert(SOURCE, calibration=IMAGES, recipe="refine").save(model)
    settings = {"timesteps": [4], "typical": True, "batch_size": 8}
    expected = onnx2snn.evaluate(model, data, **settings)
    seen = []

    def stop(done, total):
        seen.append(done)
        if len(seen) == 7:  # five batches of the network itself, two of the typical method
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        onnx2snn.evaluate(model, data, resume=model, progress=stop, **settings)
    assert stopped.value.document["typical"] is None
    assert len(list(tmp_path.glob("*.journal"))) == 2
    ran = []
    measure = RoundMeasurement.measure
    monkeypatch.setattr(
        RoundMeasurement, "measure", lambda self, piece: (ran.append(1), measure(self, piece))[1]
    )
    assert onnx2snn.evaluate(model, data, resume=model, **settings) == expected
    assert len(ran) % 5 == 3
    assert not list(tmp_path.glob("*.journal"))


def test_outputs_that_are_no_classes_have_none():
    b = networks.Builder(5)
    x = b.add("Relu", [b.conv("input", 3, 4)])
    source = b.model(b.conv(x, 4, 2), [2, 8, 8])
    shown = onnx2snn.convert(source, calibration=IMAGES)
    assert onnx2snn.evaluate(shown.network(), IMAGES, typical=True)["typical"] is None


def test_a_file_without_thresholds_is_refused():
    shown = onnx2snn.convert(SOURCE, calibration=IMAGES).network()
    del shown.metadata["typical"]
    with pytest.raises(UsageError, match="thresholds of the typical method"):
        onnx2snn.evaluate(shown, IMAGES, typical=True)
