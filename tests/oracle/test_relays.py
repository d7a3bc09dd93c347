"""Relays: the same ANN, no value at any weight, and a step of plain onnxruntime that agrees."""

import networks
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from passes.helpers import run
from small_graphs import graphs

import onnx2snn
from onnx2snn.evaluation.typical import typical_network
from onnx2snn.passes import normalise, to_proto
from onnx2snn.rewriting.classify import classify, values_met
from onnx2snn.rewriting.relays import with_relays
from onnx2snn_runtime import Network
from onnx2snn_runtime.errors import UnsupportedError, UsageError

IMAGES = networks.images(64, seed=2)


def bottlenecks():
    """Two linear bottlenecks, the second with a shortcut around it that stays exact."""
    b = networks.Builder(5)
    x = b.add("Relu", [b.conv("input", 3, 8)])
    x = b.conv(x, 8, 4, kernel=1)
    inner = b.add("Relu", [b.conv(x, 4, 8, kernel=1)])
    x = b.add("Add", [x, b.conv(inner, 8, 4, kernel=1)])
    x = b.add("Relu", [b.conv(x, 4, 8, kernel=1)])
    return head(b, x)


def gated():
    """A gate of squeeze and excitation in front of a convolution."""
    b = networks.Builder(7)
    x = b.add("Relu", [b.conv("input", 3, 8)])
    squeezed = b.add("GlobalAveragePool", [x])
    gate = b.add("Sigmoid", [b.conv(b.add("Relu", [b.conv(squeezed, 8, 4, 1)]), 4, 8, 1)])
    x = b.add("Relu", [b.conv(b.add("Mul", [x, gate]), 8, 8)])
    return head(b, x)


def head(b, x):
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [x])])
    return b.model(b.add("Gemm", [flat, b.weight(4, 8), b.weight(4)], transB=1), [4])


NETWORKS = {"bottlenecks": (bottlenecks(), 2), "gated": (gated(), 1)}


def relays_of(model):
    return [layer for layer in model.layers if layer.name.endswith(".relay")]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs(), st.booleans())
def test_the_same_function_and_no_values_at_weights(model, pools):
    normal = to_proto(normalise(model, run=run)[0])
    try:
        classify(normal)
    except UnsupportedError:
        return
    relayed, count = with_relays(normal, pools=pools)
    onnx.checker.check_model(relayed, full_check=True)
    assert not values_met(relayed, classify(relayed), pools=pools)
    assert len(relayed.graph.node) == len(normal.graph.node) + count
    assert with_relays(relayed, pools=pools) == (relayed, 0)
    image = {"input": networks.images(2, shape=(2, 6, 6))}
    expected = ReferenceEvaluator(normal).run(None, image)
    for found, wanted in zip(ReferenceEvaluator(relayed).run(None, image), expected, strict=True):
        assert np.array_equal(found, wanted, equal_nan=True)


@pytest.mark.parametrize("recipe", ["fast", "refine"])
@pytest.mark.parametrize("name", NETWORKS)
def test_all_weights_meet_spikes(name, recipe):
    source, count = NETWORKS[name]
    plain = onnx2snn.convert(source, calibration=IMAGES, recipe=recipe)
    model = onnx2snn.convert(source, calibration=IMAGES, recipe=recipe, relays=True)
    assert len(relays_of(model)) == count
    assert not relays_of(plain)
    assert plain.work.macs["graded"] > 0
    assert "--relays" in plain.summary()
    assert "--relays" not in model.summary()
    assert model.work.macs["graded"] == 0
    assert model.check.passed
    expected = ReferenceEvaluator(source).run(None, {"input": IMAGES})[0]
    answers = model.network().run(IMAGES, [32])
    (found,) = answers.by_step[32].values()
    assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)
    energies = [
        onnx2snn.evaluate(m, IMAGES, timesteps=[4])["steps"][0]["energy_uj"] for m in (model, plain)
    ]
    assert energies[0] < energies[1]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_file_is_stepped_alike_by_every_backend(name):
    model = onnx2snn.convert(NETWORKS[name][0], calibration=IMAGES, recipe="fast", relays=True)
    onnxruntime.InferenceSession(model.proto.SerializeToString())
    runs = [model.network(backend).run(IMAGES, [5]) for backend in ("numpy", "onnxruntime")]
    ours, theirs = (next(iter(run.by_step[5].values())) for run in runs)
    assert np.median(np.abs(ours - theirs)) < 1e-5  # roundings move single spikes
    assert np.abs(ours - theirs).max() < 0.1


@pytest.mark.parametrize("recipe", ["fast", "refine"])
def test_compare_and_the_typical_method_know_relays(recipe):
    """They are layers of ``compare``, and the typical method has them as well."""
    source = bottlenecks()
    model = onnx2snn.convert(source, calibration=IMAGES, recipe=recipe, relays=True)
    layers = onnx2snn.compare(source, model.network(), IMAGES, timesteps=16)["layers"]
    assert [layer["name"] for layer in layers] == [layer.name for layer in model.layers]
    assert all(layer["error"] < 0.2 for layer in layers)
    typical = onnx2snn.convert(source, calibration=IMAGES, recipe="if", relays=True)
    ours, theirs = (
        Network(proto).run(IMAGES, 20)
        for proto in (typical_network(model.network()), typical.proto)
    )
    assert np.allclose(ours.logits, theirs.logits, atol=1e-4)


def test_the_tuner_takes_relays_unless_latency_counts():
    source = bottlenecks()
    chosen = {
        options: onnx2snn.convert(source, calibration=IMAGES, target_drop=5.0, **dict(options))
        for options in ((), (("relays", False),), (("prefer", "latency"),))
    }
    taken = [(model.recipe.relays, len(relays_of(model))) for model in chosen.values()]
    assert taken == [(True, 2), (False, 0), (False, 0)]
    assert not onnx2snn.convert(
        networks.small_cnn(), calibration=IMAGES, recipe="fast", relays=True
    ).recipe.relays


def test_whole_numbers_need_them():
    with pytest.raises(UsageError, match="--no-relays"):
        onnx2snn.convert(bottlenecks(), calibration=IMAGES, precision="int8", relays=False)


def test_relays_are_neurons_of_the_layer_table():
    model = onnx2snn.convert(gated(), calibration=IMAGES, relays=True)
    (relay,) = relays_of(model)
    assert relay.role == "neuron"
    assert relay.op == "Clip"


def test_names_that_are_taken():
    """A tensor is called as the relay behind another one would be."""
    source = bottlenecks()
    for node in source.graph.node:
        for names in (node.input, node.output):
            names[:] = ["conv_2.relay" if name == "conv_3" else name for name in names]
    model = onnx2snn.convert(source, calibration=IMAGES, relays=True)
    assert "conv_2.relay_2" in [layer.name for layer in model.layers]
    assert model.check.passed
