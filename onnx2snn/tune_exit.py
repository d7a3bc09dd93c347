"""Chooses the rule of early exit on calibration images.

An image that leaves after step t is answered wrongly if its lead is lost until the last step. How
far a lead can fall, in the rule's unit, is seen on every calibration image, also on those with so
large a lead that they never flip: the largest fall of the lead over any of the closest rivals. So
the probability that a lead of s units is lost, P_t(fall ≥ s), is estimated from all images, and the
expected loss of a rule is a mean over images of a continuous quantity instead of a count of rare
flips. One number q gives the thresholds of all steps, P_t(fall ≥ threshold_t) = q. Calibration
images are mostly training images, whose leads are larger than those of new images: the mean is
taken over the quarter with the smallest leads.

The largest q whose expected loss on one half of the images is within the stated loss is taken; the
other half checks it, and q is lowered until it passes there too.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from onnx2snn.calibration_images import CalibrationSource
from onnx2snn.costs import multiplications
from onnx2snn.recipes import Recipe
from onnx2snn_runtime.backends import Backend
from onnx2snn_runtime.early_exit import CHANGE, SPREAD, ExitRule, check_steps, lead, unit_of
from onnx2snn_runtime.engine import Engine
from onnx2snn_runtime.plan import make_plan, tensor_shape

Array = Any
DEFAULT_LOSS = 0.1  # points of agreement with the ANN
TUNING_IMAGES = 256  # more cost more time than they tell
FEWEST_IMAGES = 16
BUDGET = 1.2e12  # multiplications that the tuning may cost
LEAST_STEPS = 16  # the last step is at least this: hard images may take longer than recommended
RIVALS = 5  # classes that may overtake the first
LEVELS = np.geomspace(0.5, 1e-3, 40)
HARDEST = 0.25  # of the images; they stand for new ones, as calibration images are too easy


def tuning_steps(recommended: int) -> list[int]:
    """Steps whose logits ``tune`` needs."""
    return check_steps(max(LEAST_STEPS, recommended))


def tune_on(
    source: CalibrationSource,
    ann: onnx.ModelProto,
    spiking: onnx.ModelProto,
    recipe: Recipe,
    backend: Backend,
    stated_loss: float,
) -> ExitRule | None:
    """The rule for a converted network; None where images, classes or time do not suffice."""
    steps = tuning_steps(recipe.recommended_timesteps)
    macs = max(1, sum(multiplications(ann).values()))
    wanted = min(TUNING_IMAGES, source.count, int(BUDGET / (macs * steps[-1])))
    output = tensor_shape(ann.graph.output[0])
    if source.is_noise or wanted < FEWEST_IMAGES or len(output) != 2:
        return None
    engine, reference = Engine(make_plan(spiking), backend), backend.compile(ann)
    name = engine.plan.outputs[0]
    parts: list[dict[int, Array]] = []
    expected: list[Array] = []
    size = min(FEWEST_IMAGES, engine.schedule.images_at_once(steps[-1]))
    for feeds in source.batches(ann, size):
        answers = dict(engine.run(feeds, steps))
        parts.append({step: answer[name] for step, answer in answers.items()})
        expected.append(reference(feeds)[name])
        if size * len(parts) >= wanted:
            break
    by_step = {step: np.concatenate([part[step] for part in parts]) for step in steps}
    return tune(by_step, np.concatenate(expected), stated_loss)


def tune(by_step: Mapping[int, Array], ann: Array, stated_loss: float) -> ExitRule | None:
    """The rule with the fewest steps within the stated loss.

    Args:
        by_step: step to logits [N,K] of the spiking network on calibration images.
        ann: logits [N,K] of the ANN on the same images.
        stated_loss: points of agreement with the ANN that may be lost.

    Returns:
        The rule, or None where there is nothing to tell classes apart, or too few images.
    """
    if ann.ndim != 2 or ann.shape[1] < 2 or len(ann) < FEWEST_IMAGES:
        return None
    chosen = np.arange(len(ann)) % 2 == 0
    best: ExitRule | None = None
    for unit in (CHANGE, SPREAD):
        trial = _Trial(unit, by_step, chosen)
        for q in LEVELS:
            thresholds = trial.thresholds(q)
            if trial.expected_loss(thresholds) > stated_loss:
                continue
            rule = ExitRule(unit, tuple(trial.steps), thresholds, stated_loss, {})
            measured = replay(rule, by_step, ann, ~chosen)
            if measured["loss"] <= stated_loss:
                rule = ExitRule(unit, rule.steps, thresholds, stated_loss, measured)
                if best is None or measured["mean_t"] < best.measured["mean_t"]:
                    best = rule
                break
    return best


class _Trial:
    """Leads and falls of the lead on the images that the rule is chosen on."""

    def __init__(self, unit: str, by_step: Mapping[int, Array], chosen: Array) -> None:
        self.steps = sorted(by_step)
        final = np.asarray(by_step[self.steps[-1]][chosen], np.float64)
        leads = lead(final) / unit_of(SPREAD, final, None)
        hard = np.argsort(leads, kind="stable")[: max(1, int(HARDEST * len(leads)))]
        self.leads, self.falls = [], []
        before = None
        for step in self.steps[:-1]:
            logits = np.asarray(by_step[step][chosen], np.float64)
            size = unit_of(unit, logits, before)
            self.leads.append((lead(logits) / size)[hard])
            self.falls.append(np.sort(largest_fall(logits, final) / size))
            before = logits

    def thresholds(self, q: float) -> tuple[float, ...]:
        """Leads that are lost with probability q, by step; 0 for the last step."""
        return (*(max(0.0, float(np.quantile(fall, 1 - q))) for fall in self.falls), 0.0)

    def expected_loss(self, thresholds: tuple[float, ...]) -> float:
        """Points of answers that change after the exit, on images as hard as new ones."""
        inside = np.ones(len(self.leads[0]), bool)
        lost = 0.0
        for leads, falls, threshold in zip(self.leads, self.falls, thresholds, strict=False):
            leaving = inside & (leads >= threshold)
            lost += float(survival(falls, leads[leaving]).sum())
            inside &= ~leaving
        return 100.0 * lost / len(inside)


def largest_fall(logits: Array, final: Array) -> Array:
    """How far the lead of the first class over a close rival falls at most until the end, [N]."""
    order = np.argsort(-logits, axis=1, kind="stable")[:, : RIVALS + 1]
    change = np.take_along_axis(final - logits, order, axis=1)
    return (change[:, 1:] - change[:, :1]).max(axis=1)


def survival(falls: Array, leads: Array) -> Array:
    """Share of falls (sorted) that reach each lead."""
    return 1.0 - np.searchsorted(falls, leads, side="left") / len(falls)


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
    return {"mean_t": taken / count, "loss": 100.0 * lost / count, "images": float(count)}
