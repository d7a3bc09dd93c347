"""Early exit: an image leaves with the answer it had at that step, and no sooner than it may."""

import itertools
import json

import networks
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import onnx2snn
from onnx2snn.evaluation.exit_score import exit_rule
from onnx2snn.tuning.tune_exit import expected_loss, largest_fall, patient, replay, tune
from onnx2snn_runtime.early_exit import (
    CHANGE,
    LOGIT,
    SPREAD,
    UNITS,
    ExitRule,
    check_steps,
    lead,
    unit_of,
)
from onnx2snn_runtime.errors import ModelError, UsageError
from onnx2snn_runtime.format import read_metadata, write_metadata
from onnx2snn_runtime.network import Network

IMAGES = networks.images(24, seed=4)


@pytest.fixture(scope="module")
def converted():
    return onnx2snn.convert(networks.small_cnn(), calibration=networks.images(64)).proto


def answers_of(classes, noise):
    """Logits of an ANN, [400,classes], and those after some steps, ever nearer to them."""
    generator = np.random.default_rng(3)
    ann = generator.normal(0, 3, (400, classes)).astype(np.float32)
    by_step = {
        step: ann + generator.normal(0, noise / step, ann.shape).astype(np.float32)
        for step in (1, 2, 4, 8)
    }
    return ann, by_step


def with_rule(model, *, threads=2, memory=None, **changes):
    """A network with a changed exit rule."""
    document = read_metadata(model)
    document["early_exit"] = {**document["early_exit"], **changes}
    copy = type(model)()
    copy.CopyFrom(model)
    write_metadata(copy, document)
    return Network(copy, threads=threads, memory=memory)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("threshold", [0.0, 0.7, 1e9])
def test_an_image_leaves_with_the_answer_of_its_step(converted, unit, threshold):
    steps = [1, 2, 3, 5, 8]
    thresholds = [threshold] * len(steps)
    network = with_rule(converted, unit=unit, steps=steps, thresholds=thresholds)
    plain, early = network.run(IMAGES, steps), network.run(IMAGES, early_exit=True)
    for image, step in enumerate(early.exit_steps):
        assert np.array_equal(
            early.logits[image], plain.by_step[step][network.plan.outputs[0]][image]
        )
    if threshold == 0.0:
        assert set(early.exit_steps) == {1}
    if threshold == 1e9:
        assert set(early.exit_steps) == {8}
    # by hand: leads against the unit, step by step
    before = np.zeros_like(plain.logits, np.float64)
    inside = np.ones(len(IMAGES), bool)
    for step in steps:
        logits = next(iter(plain.by_step[step].values())).astype(np.float64)
        two = np.sort(logits, axis=1)[:, -2:]
        moved = logits - before
        size = {
            LOGIT: 1.0,
            SPREAD: logits.std(axis=1),
            CHANGE: np.abs(moved - moved.mean(axis=1, keepdims=True)).max(axis=1),
        }[unit]
        leaving = inside & ((two[:, 1] - two[:, 0] >= threshold * size) | (step == steps[-1]))
        assert set(early.exit_steps[leaving]) <= {step}
        inside &= ~leaving
        before = logits


def test_probabilities_get_the_rule_of_their_logits():
    """A Softmax at the end changes neither thresholds nor who leaves when."""
    ann, by_step = answers_of(classes=5, noise=2)

    def softmax(logits):
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    labels = ann.argmax(axis=1)
    plain = tune(by_step, ann, 1.0, labels)
    answers = {step: softmax(logits) for step, logits in by_step.items()}
    rule = tune(answers, softmax(ann), 1.0, labels)
    assert rule.probabilities
    assert not plain.probabilities
    assert rule.steps == plain.steps
    assert len(rule.steps) > 1
    first = rule.steps[0]
    assert np.array_equal(
        rule.stable(first, answers[first], None), plain.stable(first, by_step[first], None)
    )
    if plain.unit != CHANGE:
        assert rule.thresholds == pytest.approx(plain.thresholds, rel=1e-3)
    assert ExitRule.from_json(json.loads(json.dumps(rule.to_json()))) == rule


def test_of_two_classes_the_sure_images_leave_first():
    """Their lead is twice their spread, whatever it is."""
    ann, by_step = answers_of(classes=2, noise=0.5)
    rule = tune(by_step, ann, 0.3, ann.argmax(axis=1))
    first = rule.steps[0]
    leaves = rule.stable(first, by_step[first], None)
    assert first < 8
    assert 0.2 < leaves.mean() < 1
    assert lead(by_step[first])[leaves].min() >= lead(by_step[first])[~leaves].max()


@pytest.mark.parametrize("memory", [None, 1, 2**16])
@pytest.mark.parametrize("batch_size", [None, 1, 7])
def test_every_cut_gives_the_same_bits(converted, memory, batch_size):
    plain = Network(converted, threads=1).run(IMAGES, [1, 2])
    logits = [next(iter(answer.values())) for answer in plain.by_step.values()]
    half = [float(np.median(lead(x) / unit_of(SPREAD, x, None))) for x in logits]
    rule = {"unit": SPREAD, "steps": [1, 2, 4], "thresholds": [*half, 0.0]}
    expected = with_rule(converted, **rule).run(IMAGES, early_exit=True)
    assert set(expected.exit_steps) == {1, 2, 4}
    network = with_rule(converted, threads=1, memory=memory, **rule)
    found = network.run(IMAGES, early_exit=True, batch_size=batch_size)
    assert np.array_equal(found.exit_steps, expected.exit_steps)
    assert np.array_equal(found.logits, expected.logits)


def test_fewer_timesteps_than_the_rule(converted):
    network = with_rule(
        converted, thresholds=[1e9] * len(read_metadata(converted)["early_exit"]["steps"])
    )
    result = network.run(IMAGES, 3, early_exit=True)
    assert set(result.exit_steps) == {3}
    assert np.array_equal(result.logits, network.run(IMAGES, 3).logits)


def test_the_rule_survives_the_file(converted):
    stored = read_metadata(converted)["early_exit"]
    assert ExitRule.from_json(json.loads(json.dumps(stored))).to_json() == stored
    assert stored["stated_loss"] == 0.1


@pytest.mark.parametrize(
    "damage", [{"steps": []}, {"steps": [2, 1]}, {"unit": "luck"}, {"thresholds": "x"}]
)
def test_a_damaged_rule_is_refused(converted, damage):
    with pytest.raises(ModelError, match="exit rule"):
        with_rule(converted, **damage).run(IMAGES, early_exit=True)


def test_without_images_there_is_no_rule():
    with pytest.warns(UserWarning, match="calibration"):
        model = onnx2snn.convert(networks.small_cnn()).proto
    network = Network(model)
    assert network.exit_rule is None
    with pytest.raises(UsageError, match="calibration"):
        network.run(IMAGES, early_exit=True)
    with pytest.raises(UsageError, match="calibration"):
        exit_rule(network)


@given(st.integers(1, 300))
def test_checks_rise_to_the_last_step(last):
    steps = check_steps(last)
    assert steps[-1] == last
    assert all(a < b for a, b in itertools.pairwise(steps))


def accuracy_lost(rule, by_step):
    """Points of accuracy, were classes as probable as the last logits say."""
    final = by_step[rule.steps[-1]]
    answer, before, inside = final.argmax(axis=1), None, np.arange(len(final))
    for step in rule.steps[:-1]:
        logits = by_step[step][inside]
        leaving = rule.stable(step, logits, before)
        answer[inside[leaving]] = logits[leaving].argmax(axis=1)
        inside, before = inside[~leaving], logits[~leaving]
    probable = np.exp(final) / np.exp(final).sum(axis=1, keepdims=True)
    rows = np.arange(len(final))
    return 100 * np.mean(probable.max(axis=1) - probable[rows, answer])


@pytest.mark.parametrize("stated", [0.1, 1.0])
def test_tuned_rules_keep_the_stated_loss_on_images_they_have_not_met(stated):
    """Logits with noise that falls as 1/t. One rule of 128 images may lose more by chance, not all
    of them on the mean."""
    lost, steps, everything = [], [], np.ones(1000, bool)
    for seed, noise in itertools.product(range(6), [0.05, 0.3, 1.0, 2.0]):
        generator = np.random.default_rng(seed)
        ann, fresh = generator.normal(0, 1, (128, 10)), generator.normal(0, 1, (1000, 10))
        kinds = {t: generator.normal(0, noise / t, (1128, 10)) for t in check_steps(16)}
        rule = tune({t: ann + more[:128] for t, more in kinds.items()}, ann, stated)
        new = {t: fresh + more[128:] for t, more in kinds.items()}
        result = replay(rule, new, fresh, everything)
        lost.append(accuracy_lost(rule, new))
        steps.append(result["mean_t"] / 16)
        assert rule.measured["mean_t"] == pytest.approx(result["mean_t"], rel=0.3)
    assert np.mean(lost) <= stated
    assert np.mean(steps) <= 0.8  # and something is saved


def test_labels_say_how_sure_new_images_are():
    """Where the ANN errs on many calibration images already, images may leave sooner."""
    generator = np.random.default_rng(3)
    ann = generator.normal(0, 1, (256, 10))
    by_step = {t: ann + generator.normal(0, 0.7 / t, ann.shape) for t in check_steps(8)}
    right = ann.argmax(axis=1)
    half_wrong = np.where(np.arange(256) % 2, right, (right + 1) % 10)
    sure, unsure = (tune(by_step, ann, 0.5, labels) for labels in (right, half_wrong))
    assert sure == tune(by_step, ann, 0.5)
    assert unsure.measured["mean_t"] < sure.measured["mean_t"]
    assert sure.stated_loss == unsure.stated_loss == 0.5


def test_the_last_step_is_the_recommended_one_where_more_tell_no_more():
    images = networks.images(64)
    done = onnx2snn.convert(
        networks.small_cnn(), calibration=images, target_drop=0.5, recipe="refine"
    )
    more = onnx2snn.convert(networks.small_cnn(), calibration=images, recipe="fast")
    last = [read_metadata(model.proto)["early_exit"]["steps"][-1] for model in (done, more)]
    assert last == [done.tuning.chosen.timesteps, 8]


def test_all_stay_to_the_end_where_no_rule_keeps_the_stated_loss():
    generator = np.random.default_rng(0)
    ann = generator.normal(0, 1, (32, 10))
    by_step = {t: generator.normal(0, 1, ann.shape) for t in (1, 2)} | {4: ann}
    assert patient(4, 32, 1e-6).measured == replay(
        patient(4, 32, 1e-6), by_step, ann, ann[:, 0] < 9
    )
    rule = tune(by_step, ann, 1e-6)
    assert (rule.steps, rule.thresholds) == ((4,), (0.0,))
    assert rule.measured == replay(rule, by_step, ann, np.ones(32, bool))


def test_where_no_rule_is_found_all_stop_after_the_recommended_steps(monkeypatch):
    """More of them would cost twice what a run without early exit does."""
    monkeypatch.setattr("onnx2snn.tuning.tune_exit.LEVELS", [])
    model = onnx2snn.convert(networks.small_cnn(), calibration=networks.images(64))
    assert model.exit_rule.steps == (model.recipe.recommended_timesteps,)
    assert not model.exit_rule.leaves_early
    assert "early exit: no rule" in model.summary()
    assert ExitRule.from_json(read_metadata(model.proto)["early_exit"]) == model.exit_rule


def test_falls_by_hand():
    logits = np.array([[3.0, 1.0, 0.0]])
    final = np.array([[2.0, 2.5, 0.0]])
    assert largest_fall(logits, final).tolist() == [2.5]  # class 1 gains 1.5, class 0 loses 1


def test_the_expected_loss_by_hand():
    """Two classes, four images that leave after step 1 with a lead of 4; one ends 2 behind."""
    first = np.tile([4.0, 0.0], (4, 1))
    final = np.array([[4.0, 0.0], [4.0, 0.0], [4.0, 1.0], [0.0, 2.0]])
    rule = ExitRule(SPREAD, (1, 2), (0.0, 0.0), 1.0, {})
    everything = np.ones(4, bool)
    points, standard_error = expected_loss(rule, {1: first, 2: final}, everything)
    assert points == pytest.approx(100 * np.tanh(1.0) / 4)
    # an image meets the fall of any; one of the falls is that costly, whoever has it
    parts = np.array([0, 0, 0, 4]) * np.tanh(1.0) / 4 + np.tanh(1.0) / 4
    assert standard_error == pytest.approx(100 * np.sqrt(parts.var() / 4))
    never = ExitRule(SPREAD, (1, 2), (9.0, 0.0), 1.0, {})
    assert expected_loss(never, {1: first, 2: final}, everything) == (0, 0)


def test_steps_at_which_hardly_an_image_leaves_are_not_checked():
    generator = np.random.default_rng(0)
    ann = generator.normal(0, 3, (128, 10))
    early = generator.normal(0, 3, (128, 10))  # nothing is known before step 4
    by_step = {t: early if t < 4 else ann for t in check_steps(8)}
    rule = tune(by_step, ann, 0.3)
    assert rule is not None
    assert rule.steps == (4, 8)


def test_the_energy_of_early_exit_is_that_of_the_steps_that_were_taken(converted):
    """Against an evaluation of the images that leave together, at the step they leave at."""
    half = float(np.median(lead(Network(converted).run(IMAGES, 1).logits)))
    network = with_rule(converted, unit=LOGIT, steps=[1, 3], thresholds=[half, 0.0])
    found = onnx2snn.evaluate(network, IMAGES, timesteps=1, early_exit=True)["early_exit"]
    steps = np.asarray(network.run(IMAGES, early_exit=True).exit_steps)
    assert set(steps) == {1, 3}
    for key in ("spikes_per_image", "synops_per_image", "energy_uj", "energy_int_uj"):
        parts = [
            onnx2snn.evaluate(network, IMAGES[steps == t], timesteps=int(t))["steps"][0][key]
            * int((steps == t).sum())
            for t in (1, 3)
        ]
        assert found[key] == pytest.approx(sum(parts) / len(IMAGES)), key
