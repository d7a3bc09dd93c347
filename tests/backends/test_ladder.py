"""One ladder for every backend that exists; NumPy is the reference on each rung.

0. the reference itself against onnx's evaluator, which runs the functions in the file;
1. stateless models: the node cases of the onnx package;
2. every law with every activation, and the laws that do not spike;
3. whole networks with every recipe.

A backend joins by being registered. Where it cannot run here, its tests are skipped with the reason
that it gives itself.
"""

import functools
from dataclasses import replace

import networks
import numpy as np
import pytest
from conformance.node_cases import node_cases, reason_to_skip
from onnx import helper
from onnx.inliner import inline_local_functions
from onnx.reference import ReferenceEvaluator
from spiking_layers import (
    CONSTANTS,
    Layer,
    frames,
    one_layer,
    other_layers,
    spiking_layers,
    start,
    threshold,
)

import onnx2snn
from onnx2snn.recipes import RECIPES
from onnx2snn_runtime.backends import backend_classes, open_backend
from onnx2snn_runtime.data.preprocessing import Preprocessing
from onnx2snn_runtime.data.sources import open_data
from onnx2snn_runtime.engine import Observer
from onnx2snn_runtime.errors import BackendError
from onnx2snn_runtime.network import Network
from onnx2snn_runtime.ops import OPERATORS

WITHIN = 0.999  # share of neurons whose sums over T may differ by two thresholds at most
TOLERANCE = 1e-4  # of values that are no spikes, relative to the largest
LAYERS = [*spiking_layers(), *other_layers()]
STEPS = 8


@pytest.fixture(params=sorted(set(backend_classes()) - {"numpy"}))
def backend(request):
    """Name of a backend besides the reference that can run here."""
    reason = backend_classes()[request.param].unavailable()
    if reason:
        pytest.skip(f"backend {request.param}: {reason}")
    return request.param


def run(model, backend, feeds):
    """Answers of all steps, [T,N,*], and the spikes of a network of one layer."""
    result = Network(model, backend=backend).run(feeds, timesteps=range(1, STEPS + 1), record=True)
    return np.stack([answer["y"] for answer in result.by_step.values()]), result.spikes


def assert_same(layer, found, expected):
    """Equal bits where nothing is rounded, else what the numerics of the design allow."""
    if layer.is_exact and layer.family != "Graded":
        np.testing.assert_array_equal(found, expected)
        return
    if layer.family == "BurstIF":
        close = np.abs(found.sum(axis=0) - expected.sum(axis=0)) <= 2 * threshold()
    elif layer.family.startswith("Refine"):
        close = np.abs(found[-1] - expected[-1]) <= 2 * threshold()
    else:
        close = np.abs(found - expected) <= TOLERANCE * np.abs(expected).max()
    assert close.mean() >= WITHIN


# rung 0


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_the_reference_is_the_function_in_the_file(layer):
    model, feeds = one_layer(layer), frames(layer, STEPS)
    oracle = ReferenceEvaluator(inline_local_functions(model))
    names = [value.name for value in model.graph.output]
    states = {
        value.name: np.zeros(
            [size.dim_value or 4 for size in value.type.tensor_type.shape.dim],
            helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type),
        )
        for value in model.graph.input
        if value.name not in feeds
    }
    expected = []
    for t in range(STEPS):
        step = {name: array[t] for name, array in feeds.items()}
        results = dict(zip(names, oracle.run(None, {**step, **states}), strict=True))
        states = {name: results[f"{name}.next"] for name in states}
        expected.append(results["y"])
    found, _ = run(model, "numpy", feeds)
    assert_same(layer, found, np.stack(expected))


# rung 1


def float_cases(op):
    """Node cases of float32 signals, which is what stands between neurons."""
    for case in node_cases(op):
        if any(isinstance(x, list) for x in (*case.inputs, *case.outputs)):
            continue  # sequences
        names = [value.name for value in case.model.graph.input]
        feeds = {name: np.asarray(x) for name, x in zip(names, case.inputs, strict=True)}
        arrays = [*feeds.values(), *map(np.asarray, case.outputs)]
        usual = all(array.dtype in (np.float32, np.int64) for array in arrays)
        if usual and not reason_to_skip(case):
            yield case, feeds


@pytest.mark.parametrize("op", sorted(op for op in OPERATORS if any(float_cases(op))))
def test_stateless_models(backend, op):
    """What the library of a backend does not know it must refuse at once, with our error."""
    reference, engine = open_backend("numpy")[0], open_backend(backend)[0]
    refused = []
    for case, feeds in float_cases(op):
        try:
            runner = engine.compile(case.model)
        except BackendError as error:
            refused.append(f"{case.name}: {error}")
            continue
        expected, found = reference.compile(case.model)(feeds), runner(feeds)
        assert list(found) == list(expected), case.name
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, rtol=1e-3, atol=1e-5, err_msg=case.name)
    if len(refused) == len(list(float_cases(op))):
        pytest.skip(f"{backend} refuses every case: {refused[0]}")


# rung 2


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_laws(backend, layer):
    model, feeds = one_layer(layer), frames(layer, STEPS)
    expected, counts = run(model, "numpy", feeds)
    found, ours = run(model, backend, feeds)
    assert found.dtype == np.float32
    assert_same(layer, found, expected)
    assert list(ours) == list(counts)
    if layer.is_exact and counts:
        np.testing.assert_array_equal(ours["layer"], counts["layer"])


@pytest.mark.parametrize("op", ["Relu", "Clip", "Sigmoid"])
def test_a_start_is_a_first_estimate(op):
    """The law that begins at a stored value is the other law, once its state holds that value."""
    layer = Layer("RefineFrom", op, constants=tuple(CONSTANTS.get(op, ())))
    feeds = frames(layer, STEPS)
    found, _ = run(one_layer(layer), "numpy", feeds)
    oracle = ReferenceEvaluator(inline_local_functions(one_layer(replace(layer, family="Refine"))))
    estimate = np.broadcast_to(start(layer), feeds["signal_0"].shape[1:]).astype(np.float32)
    exponent = np.zeros_like(estimate)
    for t, frame in enumerate(feeds["signal_0"]):
        y, estimate, exponent = oracle.run(
            None, {"signal_0": frame, "estimate": estimate, "exponent": exponent}
        )
        np.testing.assert_allclose(found[t], y, atol=1e-6)


# rung 3


class Sums(Observer):
    """What every layer has sent in all, [N,*], or its last estimate where it sends corrections."""

    def __init__(self):
        self.sent = {}
        self.thresholds = {}

    def observe(self, unit, first_step, outputs, counts):
        del first_step, counts
        if unit.operator.family.startswith("Refine"):
            self.sent[unit.name] = np.array(outputs[-1])
        else:
            self.sent[unit.name] = self.sent.get(unit.name, 0) + outputs.sum(axis=0)
        if unit.threshold is not None:
            self.thresholds[unit.name] = unit.threshold


@pytest.fixture(scope="module")
def reference(embedded):
    """Networks by name and recipe, with images, and what the reference makes of them."""

    @functools.cache
    def build(name, recipe):
        if name == "small":
            calibration, images = networks.images(64, seed=2), networks.images(100)
            model = onnx2snn.convert(networks.small_cnn(), calibration=calibration, recipe=recipe)
        else:
            model = onnx2snn.convert(
                embedded.model, calibration=embedded.calibration, calibration_samples=32,
                preprocess="unit", recipe=recipe,
            )  # fmt: skip
            shape = Network(model.proto, backend="numpy").input_shapes["input"][1:]
            batches = open_data(embedded.test).batches(100, shape, Preprocessing.parse("unit"))
            images, _ = next(batches)
        return model.proto, images, *observed(model.proto, images, "numpy")

    return build


def observed(model, images, backend):
    """First output of two steps, and what the layers sent."""
    network = Network(model, backend=backend)
    feeds, _ = network.check_feeds(images)
    answers, parts = network.observe(feeds, [2, 4], Sums)
    whole = Sums()
    whole.thresholds = parts[0].thresholds
    for layer in parts[0].sent:
        whole.sent[layer] = np.concatenate([part.sent[layer] for part in parts])
    return {t: next(iter(outputs.values())) for t, outputs in answers.items()}, whole


@pytest.mark.parametrize(
    ("name", "recipe"),
    [*(("small", recipe) for recipe in sorted(RECIPES)), ("embedded", "fast")],
)
def test_networks(backend, reference, name, recipe):
    model, images, expected, sums = reference(name, recipe)
    found, ours = observed(model, images, backend)
    for t, answer in expected.items():
        agreement = np.mean(found[t].argmax(axis=1) == answer.argmax(axis=1))
        assert agreement >= 0.99, (t, agreement)
    assert list(ours.sent) == list(sums.sent)
    for layer, unit in sums.thresholds.items():
        close = np.abs(ours.sent[layer] - sums.sent[layer]) <= 2 * unit
        assert close.mean() >= WITHIN, (layer, close.mean())
