"""The tuner keeps its promise by the measurements of others, and the balance by its definition."""

import json
import subprocess
import sys
from dataclasses import replace

import networks
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

import onnx2snn
from onnx2snn.calibration.balance import rounded, step_name
from onnx2snn.decision import expected_loss
from onnx2snn.recipes import MAX_BURST, find_recipe
from onnx2snn_runtime.errors import UsageError
from onnx2snn_runtime.format import read_metadata


@pytest.fixture(scope="module")
def images():
    return networks.images(48, seed=5)


@pytest.fixture(scope="module")
def tuned(images):
    return onnx2snn.convert(networks.small_cnn(3), calibration=images, target_drop=1.0)


def price(trial):
    """Energy, a quarter more for each step beyond the fourth."""
    return trial.energy_uj * (1 + 0.25 * max(0, trial.timesteps - 4))


def test_the_choice_keeps_the_target_and_nothing_cheaper_does(tuned, images):
    tuning = tuned.tuning
    assert tuning.reached
    good = [trial for trial in tuning.trials if round(trial.likely_loss, 2) <= 1.0]
    assert price(tuning.chosen) == min(price(trial) for trial in good)
    source = networks.small_cnn(3)
    ann = ReferenceEvaluator(source).run(None, {"input": images})[0]
    steps = tuning.chosen.timesteps
    found = tuned.network("numpy").run(images, timesteps=steps).logits
    assert expected_loss(found, ann).points == pytest.approx(tuning.chosen.expected_loss, abs=0.5)


def test_the_file_recommends_the_chosen_steps(tuned):
    network = tuned.network()
    assert network.recommended_timesteps == tuned.tuning.chosen.timesteps <= 8
    assert network.metadata["recipe"]["burst_limit"] <= MAX_BURST
    assert network.metadata["tuning"]["reached"]


def test_energy_and_spikes_are_those_of_an_evaluation(tuned, images):
    chosen = tuned.tuning.chosen
    result = onnx2snn.evaluate(tuned.network(), images, timesteps=[chosen.timesteps])
    (step,) = result["steps"]
    assert step["energy_uj"] == pytest.approx(chosen.energy_uj)
    assert step["spikes_per_image"] == pytest.approx(chosen.spikes)


def test_no_trial_of_the_front_beats_another(tuned):
    front = tuned.tuning.pareto
    assert front
    for a in front:
        for b in tuned.tuning.trials:
            pairs = [
                (b.energy_uj, a.energy_uj),
                (b.expected_loss + b.standard_error, a.expected_loss + a.standard_error),
                (b.timesteps, a.timesteps),
            ]
            assert any(y > x for y, x in pairs) or all(y == x for y, x in pairs)


def test_same_images_same_file(tuned, images):
    again = onnx2snn.convert(networks.small_cnn(3), calibration=images, target_drop=1.0)
    assert again.proto.SerializeToString(deterministic=True) == tuned.proto.SerializeToString(
        deterministic=True
    )


def test_some_unit_halves_in_the_last_step_of_every_trial(images):
    network = networks.small_cnn(3)
    tuning = onnx2snn.convert(network, calibration=images, target_drop=0.1, recipe="refine").tuning
    assert len({trial.timesteps for trial in tuning.trials}) > 1
    for trial in tuning.trials:
        assert trial.recipe.recommended_timesteps == trial.timesteps
        tried = onnx2snn.convert(network, calibration=images, recipe=trial.recipe)
        halvings = [
            -(-entry.halvings // entry.decay) for entry in tried.calibration.values()
        ]  # steps in which a unit halves, rounded up
        assert 1 + max(halvings) == trial.timesteps
    assert len({trial.recipe for trial in tuning.trials}) == len(tuning.trials)


def test_activations_without_a_channel_are_tuned(images):
    shape = onnx.helper.make_tensor_value_info
    arrays = {"weight": np.ones((1, 3, 8, 8), np.float32) / 64, "rest": np.array([1, 2, 3])}
    nodes = [
        onnx.helper.make_node("Conv", ["input", "weight"], ["sum"]),
        onnx.helper.make_node("Squeeze", ["sum", "rest"], ["one"]),
        onnx.helper.make_node("Relu", ["one"], ["output"]),
    ]
    size = [8, 8]
    graph = onnx.helper.make_graph(
        nodes, "one number an image",
        [shape("input", onnx.TensorProto.FLOAT, ["N", 3, *size])],
        [shape("output", onnx.TensorProto.FLOAT, ["N"])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )  # fmt: skip
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)
    given = np.ascontiguousarray(images[:, :3, :8, :8])
    spiking = onnx2snn.convert(model, calibration=given, target_drop=1.0, recipe="refine")
    assert spiking.check.passed


@pytest.mark.parametrize("burst", [1, 2, 5])
def test_small_bursts_are_kept(images, burst):
    model = onnx2snn.convert(
        networks.small_cnn(3), calibration=images, target_drop=5.0, burst=burst
    )
    assert all(layer.burst_limit == burst for layer in model.layers if layer.role == "neuron")
    assert all(trial.recipe.burst_limit == burst for trial in model.tuning.trials)


def test_small_bursts_catch_up_while_no_unit_halves(images):
    """A spike a step needs more steps than its units have halvings."""
    tuning = onnx2snn.convert(
        networks.small_cnn(3), calibration=images, target_drop=0.01, burst=1, recipe="refine",
        max_timesteps=32,
    ).tuning  # fmt: skip
    assert {trial.timesteps for trial in tuning.trials} == {1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32}
    least = {
        steps: min(trial.expected_loss for trial in tuning.trials if trial.timesteps == steps)
        for steps in (8, 32)
    }
    assert least[32] < least[8] / 2


def test_an_impossible_target_takes_the_most_accurate_and_says_so(images):
    with pytest.warns(UserWarning, match="no setting met the target"):
        model = onnx2snn.convert(
            networks.small_cnn(3), calibration=images, target_drop=1e-9, max_timesteps=1
        )
    losses = [trial.likely_loss for trial in model.tuning.trials]
    assert model.tuning.chosen.likely_loss == min(losses)


def test_nothing_but_energy_takes_the_least_of_all_that_keep_the_target(images):
    tuning = onnx2snn.convert(
        networks.small_cnn(3), calibration=images, target_drop=1.0, prefer="energy"
    ).tuning
    good = [trial for trial in tuning.trials if round(trial.likely_loss, 2) <= 1.0]
    assert tuning.chosen.energy_uj == min(trial.energy_uj for trial in good)


def test_latency_takes_the_fewest_steps_that_keep_the_target(tuned, images):
    model = onnx2snn.convert(
        networks.small_cnn(3), calibration=images, target_drop=1.0, prefer="latency"
    )
    tuning = model.tuning
    assert tuning.reached
    good = [trial for trial in tuning.trials if round(trial.likely_loss, 2) <= 1.0]
    assert tuning.chosen.timesteps == min(trial.timesteps for trial in good)
    assert tuning.chosen.timesteps <= tuned.tuning.chosen.timesteps
    assert len(tuning.trials) <= 8  # one for each number of steps
    assert read_metadata(model.proto)["early_exit"]["steps"][-1] == tuning.chosen.timesteps


def test_the_first_burst_covers_the_range_where_latency_counts(images):
    """After one step no activation is further from its estimate than half a unit, but for outliers:
    a single layer, whose input is exact."""
    b = networks.Builder(2)
    x = b.add("Relu", [b.conv("input", 3, 4)])
    source = onnx.shape_inference.infer_shapes(b.model(b.conv(x, 4, 2, kernel=1), [2, 8, 8]))
    model = onnx2snn.convert(
        source, calibration=images, target_drop=5.0, prefer="latency", burst=15
    )
    (layer,) = [layer for layer in model.layers if layer.role == "neuron"]
    unit = float(np.max(layer.threshold))
    front = onnx.utils.Extractor(source).extract_model(["input"], [x])
    activations = ReferenceEvaluator(front).run(None, {"input": images})[0]
    assert 15 * unit >= 0.99 * np.quantile(activations, 0.999)


@pytest.mark.parametrize(
    "options",
    [
        {"target_drop": 0.0},
        {"target_drop": 101.0},
        {"max_timesteps": 0},
        {"target_drop": 1.0, "prefer": "luck"},
        {"prefer": "latency"},
        {"burst": 2.5},
        {"max_timesteps": 3.7},
        {"calibration_samples": 16.5},
        {"seed": -1},
        {"seed": True},
    ],
)
def test_numbers_out_of_range_are_refused(images, options):
    with pytest.raises(UsageError):
        onnx2snn.convert(networks.small_cnn(3), calibration=images, **options)


def test_a_recipe_restricts_the_search(images):
    model = onnx2snn.convert(
        networks.small_cnn(3), calibration=images, target_drop=2.0, recipe="fast"
    )
    assert {trial.recipe.name for trial in model.tuning.trials} == {"fast"}


def test_rounding_inputs_round_one_layer(images):
    """The ANN whose layers are rounded by request, against rounding by hand."""
    b = networks.Builder(1)
    x = b.add("Relu", [b.conv("input", 3, 4)])
    y = b.add("Relu", [b.conv(x, 4, 4)])
    model = onnx.shape_inference.infer_shapes(b.model(b.conv(y, 4, 2, kernel=1), [2, 8, 8]))
    changed = ReferenceEvaluator(rounded(model, [x, y]))
    feeds = {step_name(x): np.float32(0.25), step_name(y): np.float32(0)}
    found = changed.run(None, {"input": images[:2], **feeds})[0]
    front = onnx.utils.Extractor(model).extract_model(["input"], [x])
    back = onnx.utils.Extractor(model).extract_model([x], [model.graph.output[0].name])
    exact = ReferenceEvaluator(front).run(None, {"input": images[:2]})[0]
    by_hand = np.round(exact / np.float32(0.25)) * np.float32(0.25)
    expected = ReferenceEvaluator(back).run(None, {x: by_hand})[0]
    assert np.allclose(found, expected, atol=1e-6)


def test_command_line(tmp_path, images):
    onnx.save(networks.small_cnn(3), tmp_path / "net.onnx")
    np.save(tmp_path / "images.npy", images)
    done = subprocess.run(
        [sys.executable, "-m", "onnx2snn", str(tmp_path / "net.onnx"), "--calibration",
         str(tmp_path / "images.npy"), "--target-drop", "2", "--max-timesteps", "4", "--json"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["tuning"]["chosen"]["timesteps"] <= 4
    assert document["tuning"]["chosen"]["expected_loss"] <= 2.005


def test_estimates_start_at_what_a_channel_usually_answers(images):
    """A quantile of the activations by another evaluator, in whole multiples of two last units."""
    recipe = replace(find_recipe("refine"), precision=1 / 32)
    model = onnx2snn.convert(networks.small_cnn(3), calibration=images, recipe=recipe)
    arrays = {item.name: numpy_helper.to_array(item) for item in model.proto.graph.initializer}
    ann = onnx.ModelProto()
    ann.CopyFrom(model.ann)
    nodes = [n for n in model.proto.graph.node if n.op_type.startswith("RefineFrom")]
    assert nodes
    del ann.graph.output[:]
    ann.graph.output.extend(
        onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, None)
        for node in nodes
    )
    activations = ReferenceEvaluator(ann).run(None, {"input": images})
    for node, values in zip(nodes, activations, strict=True):
        lowest = next(item.f for item in node.attribute if item.name == "lowest")
        grid = 2 * float(arrays[node.input[1]].max()) * 2.0**lowest
        start = arrays[node.input[2]]
        axes = (0, *range(2, values.ndim))
        expected = np.quantile(values, 0.4, axis=axes, keepdims=True)
        assert start.shape == expected.shape
        assert np.all(np.abs(start - expected) <= grid * 0.5001)
        np.testing.assert_allclose(start / grid, np.rint(start / grid), atol=1e-4)


@pytest.mark.filterwarnings("ignore:no setting met the target")
@pytest.mark.parametrize("recipe", ["if", "paper"])
def test_the_scale_of_the_recipe_itself_is_tried(recipe):
    """Smaller thresholds saturate where a burst is small."""
    model = onnx2snn.convert(
        networks.small_cnn(3), calibration=networks.images(64), recipe=recipe, target_drop=0.5,
        max_timesteps=32,
    )  # fmt: skip
    assert 1.0 in {trial.recipe.threshold_scale for trial in model.tuning.trials}
