"""Chooses the rule of early exit on calibration images.

An image that leaves after step t is answered otherwise than at the last step if its lead is lost
until then. How far a lead can fall, in the rule's unit, is seen on every calibration image, also on
those with so large a lead that they never flip: the largest fall of the lead over any of the
closest rivals. One number q gives the thresholds of all steps, P_t(fall ≥ threshold_t) = q.

What a rule costs is estimated from a continuous quantity instead of a count of rare flips. An image
with lead s may meet the fall d of any image j with nearly the same lead. If d > s, another class
leads at the end by d − s logits, and is right more often by tanh((d − s) / 2) (``decision``):

    loss = mean over i, j of [d_j > s_i] · tanh((d_j − s_i) / 2)    points of accuracy

The largest q is taken whose loss keeps what is stated together with its standard error. For that
thresholds are taken from one half of the images and the loss from the other, and the other way
round; the rule itself has its thresholds from all of them. Leads on new images are smaller:
``decision`` says by how much that raises the loss. Where hardly an image leaves nothing is checked:
steps between two checks run together, which is faster.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import hypot
from typing import Any

import numpy as np
import onnx

from onnx2snn.calibration.images import CalibrationSource
from onnx2snn.decision import PERCENT, Estimate, is_probabilities, unseen_factor
from onnx2snn.energy.costs import multiplications
from onnx2snn.preparation import batch_size
from onnx2snn.recipes import Recipe
from onnx2snn_runtime.answers import class_scores, is_probability
from onnx2snn_runtime.backends import Backend
from onnx2snn_runtime.early_exit import (
    SPREAD,
    UNITS,
    ExitRule,
    check_steps,
    lead,
    log_probabilities,
    unit_of,
)
from onnx2snn_runtime.format import is_spiking
from onnx2snn_runtime.network import Network
from onnx2snn_runtime.planning.plan import tensor_shape

Array = Any
DEFAULT_LOSS = 0.1  # expected points of accuracy
TUNING_ROWS = 2048  # images times steps; more cost more time than they tell
FEWEST_IMAGES = 16
BUDGET = 1.2e12  # multiplications that the tuning may cost
LEAST_STEPS = 8  # the last step is at least this where more steps than recommended tell more
RIVALS = 5  # classes that may overtake the first
LEVELS = [0.95, 0.9, 0.8, 0.7, 0.6, *np.geomspace(0.5, 1e-3, 40)]
NEAR = 0.1  # of the images have nearly the same lead as one of them
FEWEST_NEAR = 8
WORTH_A_CHECK = 1 / 16  # of the images have left


def tuning_steps(recipe: Recipe) -> list[int]:
    """Steps whose logits ``tune`` needs."""
    is_done = recipe.precision is not None  # units get no finer after the recommended steps
    return check_steps(max(1 if is_done else LEAST_STEPS, recipe.recommended_timesteps))


def tune_on(
    source: CalibrationSource,
    ann: onnx.ModelProto,
    spiking: onnx.ModelProto,
    recipe: Recipe,
    backend: Backend,
    name: str,
    stated_loss: float,
) -> ExitRule | None:
    """The rule for the output ``name``; None where images, classes or time do not suffice."""
    steps = tuning_steps(recipe)
    macs = max(1, sum(multiplications(ann).values()))
    wanted = min(TUNING_ROWS // steps[-1], source.count, int(BUDGET / (macs * steps[-1])))
    output = next(tensor_shape(value) for value in ann.graph.output if value.name == name)
    binary = is_probability(ann, name)
    tells_classes = binary or len(output) == 2
    if source.is_noise or wanted < FEWEST_IMAGES or not tells_classes or not is_spiking(spiking):
        return None
    network, reference = Network(spiking, backend=backend), backend.compile(ann)
    parts: list[dict[int, Array]] = []
    expected: list[Array] = []
    size = min(FEWEST_IMAGES * backend.batches_at_once, batch_size(ann))
    for feeds in source.batches(ann, size):
        answers = network.run(feeds, steps).by_step
        parts.append({t: class_scores(answer[name], binary) for t, answer in answers.items()})
        expected.append(class_scores(reference(feeds)[name], binary))
        if size * len(parts) >= wanted:
            break
    by_step = {step: np.concatenate([part[step] for part in parts]) for step in steps}
    answer_of_ann = np.concatenate(expected)
    rule = tune(by_step, answer_of_ann, stated_loss, source.labels(len(answer_of_ann)))
    if rule is None or rule.leaves_early:
        return rule
    return patient(recipe.recommended_timesteps, len(answer_of_ann), stated_loss)


def tune(
    by_step: Mapping[int, Array], ann: Array, stated_loss: float, labels: Array | None = None
) -> ExitRule | None:
    """The rule with the fewest steps within the stated loss; if need be, all of them.

    Args:
        by_step: step to answers [N,K] of the spiking network on calibration images.
        ann: answers [N,K] of the ANN on the same images.
        stated_loss: points of accuracy that it may be expected to cost on new images.
        labels: classes of the images, [N], or None.

    Returns:
        The rule, or None where there is nothing to tell classes apart, or too few images.
    """
    if ann.ndim != 2 or ann.shape[1] < 2 or len(ann) < FEWEST_IMAGES:
        return None
    if not all(np.isfinite(answer).all() for answer in (ann, *by_step.values())):
        return None
    if is_probabilities(ann):
        logits = {step: log_probabilities(answer) for step, answer in by_step.items()}
        rule = tune(logits, log_probabilities(ann), stated_loss, labels)
        return rule and replace(rule, probabilities=True)
    here = stated_loss / unseen_factor(ann, labels)
    found = []
    for unit in UNITS:
        rule = _search(unit, by_step, ann, here)
        if rule is not None:
            worth = {step: by_step[step] for step in _worth_a_check(rule, by_step)}
            rule = _search(unit, worth, ann, here) or rule
            found.append(replace(rule, stated_loss=stated_loss))
    if not found:
        return patient(max(by_step), len(ann), stated_loss)
    return min(found, key=lambda rule: rule.measured["mean_t"])


def patient(last: int, images: int, stated_loss: float) -> ExitRule:
    """The rule by which all leave at the last step, where no other keeps the stated loss."""
    measured = {"mean_t": float(last), "loss": 0.0, "images": float(images)}
    return ExitRule(SPREAD, (last,), (0.0,), stated_loss, measured)


def _search(
    unit: str, by_step: Mapping[int, Array], ann: Array, stated_loss: float
) -> ExitRule | None:
    """The rule with the lowest thresholds that keeps the loss on images it was not taken from."""
    steps = tuple(sorted(by_step))
    even = np.arange(len(ann)) % 2 == 0
    first, second = (looks(unit, by_step, images) for images in (even, ~even))

    def rule(q: float, *seen: list[Look]) -> ExitRule:
        """With thresholds from these images."""
        falls = [np.concatenate([look.falls for look in same]) for same in zip(*seen, strict=True)]
        thresholds = (max(0.0, float(np.quantile(fall, 1 - q))) for fall in falls)
        return ExitRule(unit, steps, (*thresholds, 0.0), stated_loss, {})

    for q in LEVELS:
        tried = [(rule(q, second), even, first), (rule(q, first), ~even, second)]
        losses = [_loss(half.thresholds, seen) for half, _, seen in tried]
        points = sum(loss.points for loss in losses) / 2
        if points + hypot(*(loss.standard_error for loss in losses)) / 2 <= stated_loss:
            measured = [replay(half, by_step, ann, images) for half, images, _ in tried]
            mean = {key: (measured[0][key] + measured[1][key]) / 2 for key in measured[0]}
            mean["images"] = float(len(ann))
            return replace(rule(q, first, second), measured=mean)
    return None


@dataclass(frozen=True)
class Look:
    """What images show after a step, whatever the rule.

    Attributes:
        leads: lead of the first class in the rule's unit, [N].
        falls: how far it falls at most until the end, likewise.
        alike: images with nearly the same lead, [N,M].
        costs: points of accuracy that each of their falls would cost, over M, [N,M].
    """

    leads: Array
    falls: Array
    alike: Array
    costs: Array


def looks(unit: str, by_step: Mapping[int, Array], images: Array) -> list[Look]:
    """After every step but the last."""
    *early, last = sorted(by_step)
    final = np.asarray(by_step[last][images], np.float64)
    near = min(len(final), max(FEWEST_NEAR, int(NEAR * len(final))))
    found, before = [], None
    for step in early:
        logits = np.asarray(by_step[step][images], np.float64)
        size = unit_of(unit, logits, before)
        leads, falls = lead(logits) / size, largest_fall(logits, final) / size
        apart = np.abs(leads[:, np.newaxis] - leads)
        alike = np.argsort(apart, axis=1, kind="stable")[:, :near]
        behind = np.maximum(falls[alike] - leads[:, np.newaxis], 0.0)
        costs = PERCENT * np.tanh(behind * size[:, np.newaxis] / 2) / near
        found.append(Look(leads, falls, alike, costs))
        before = logits
    return found


def expected_loss(rule: ExitRule, by_step: Mapping[int, Array], images: Array) -> Estimate:
    """Accuracy that a rule is expected to cost on some of the images."""
    seen = looks(rule.unit, {step: by_step[step] for step in rule.steps}, images)
    return _loss(rule.thresholds, seen)


def _loss(thresholds: Sequence[float], seen: Sequence[Look]) -> Estimate:
    """``expected_loss`` of the thresholds of all steps but the last."""
    if not seen:
        return Estimate(0.0, 0.0)
    inside = np.ones(len(seen[0].leads), bool)
    parts = np.zeros(len(inside))  # what an image contributes, once by its lead, once by its fall
    for threshold, look in zip(thresholds, seen, strict=False):
        leaving = inside & (look.leads >= threshold)
        parts[leaving] += look.costs[leaving].sum(axis=1)
        np.add.at(parts, look.alike[leaving], look.costs[leaving])
        inside &= ~leaving
    loss = parts.mean() / 2
    deviation = np.sqrt(((parts - 2 * loss) ** 2).mean() / len(parts))
    return Estimate(float(loss), float(deviation))


def _worth_a_check(rule: ExitRule, by_step: Mapping[int, Array]) -> list[int]:
    """Steps by which enough of the images have left since the check before, and the last."""
    inside = np.arange(len(by_step[rule.steps[-1]]))
    enough = WORTH_A_CHECK * len(inside)
    worth: list[int] = []
    before, left = None, 0
    for step in rule.steps[:-1]:
        logits = by_step[step][inside]
        leaving = rule.stable(step, logits, before)
        left += int(leaving.sum())
        if left >= enough:
            worth.append(step)
            left = 0
        before, inside = logits[~leaving], inside[~leaving]
    return [*worth, rule.steps[-1]]


def largest_fall(logits: Array, final: Array) -> Array:
    """How far the lead of the first class over a close rival falls at most until the end, [N]."""
    order = np.argsort(-logits, axis=1, kind="stable")[:, : RIVALS + 1]
    change = np.take_along_axis(final - logits, order, axis=1)
    return (change[:, 1:] - change[:, :1]).max(axis=1)


def replay(
    rule: ExitRule, by_step: Mapping[int, Array], ann: Array, images: Array
) -> dict[str, float]:
    """Mean T and points of agreement lost against the last step, on some of the images."""
    inside = np.flatnonzero(images)
    count = len(inside)
    expected = ann.argmax(axis=1)
    full = by_step[rule.steps[-1]].argmax(axis=1)
    right = taken = 0
    before = None
    for step in rule.steps:
        logits = by_step[step][inside]
        leaving = rule.stable(step, logits, before) | (step == rule.steps[-1])
        right += int((logits.argmax(axis=1) == expected[inside])[leaving].sum())
        taken += step * int(leaving.sum())
        before, inside = logits[~leaving], inside[~leaving]
    lost = int((full == expected)[images].sum()) - right
    return {"mean_t": taken / count, "loss": PERCENT * lost / count, "images": float(count)}
