"""Early exit: an image leaves the batch once its decision is stable.

After step t the lead of the first class over the second is compared with a unit: one logit, or what
may still change: the spread of the logits, or how much they have changed since the check before.
(Of two classes the lead is twice the spread, so that only a logit tells images apart.) The image
leaves if lead / unit is at least the threshold of that step. Thresholds are tuned at conversion
(``onnx2snn.tuning.tune_exit``) and stored in the file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from onnx2snn_runtime.answers import class_scores
from onnx2snn_runtime.engine import Engine
from onnx2snn_runtime.errors import ModelError

Array = Any
LOGIT, SPREAD, CHANGE = UNITS = ("logit", "spread", "change")
SMALLEST_UNIT = 1e-12
SMALLEST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class ExitRule:
    """When an image may leave.

    Attributes:
        unit: ``logit``: one; ``spread``: standard deviation of an image's logits; ``change``:
            largest change of a logit, less the mean change, since the check before (from zero at
            the first check).
        steps: steps after which it is checked, rising; at the last one every image leaves.
        thresholds: lead / unit from which an image leaves, one for each of ``steps``.
        stated_loss: points of accuracy that the rule was expected to cost at most.
        measured: what it did on calibration images that it was not chosen on.
        probabilities: the output tells probabilities; their logarithms are the logits.
    """

    unit: str
    steps: tuple[int, ...]
    thresholds: tuple[float, ...]
    stated_loss: float
    measured: Mapping[str, float]
    probabilities: bool = False

    @property
    def leaves_early(self) -> bool:
        """Whether any image may leave before the last step."""
        return len(self.steps) > 1

    @property
    def text(self) -> str:
        """What to expect of it, for people."""
        if not self.leaves_early:
            return f"no rule is expected to cost at most {self.stated_loss:g} points of accuracy"
        mean = self.measured.get("mean_t", float(self.steps[-1]))
        return f"{mean:.2f} steps on average, for {self.stated_loss:g} points of accuracy at most"

    def to_json(self) -> dict[str, Any]:
        """The rule as JSON data."""
        return {**asdict(self), "steps": list(self.steps), "thresholds": list(self.thresholds)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ExitRule":
        """The rule that a file holds.

        Raises:
            ModelError: it is damaged.
        """
        try:
            rule = cls(
                str(data["unit"]),
                tuple(int(step) for step in data["steps"]),
                tuple(float(number) for number in data["thresholds"]),
                float(data["stated_loss"]),
                {str(key): float(value) for key, value in data["measured"].items()},
                bool(data.get("probabilities", False)),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"the exit rule in the file is damaged: {error!r}") from error
        rising = all(a < b for a, b in zip((0, *rule.steps), rule.steps, strict=False))
        if not rule.steps or not rising or len(rule.steps) != len(rule.thresholds):
            raise ModelError("the exit rule in the file is damaged: its steps do not rise")
        if rule.unit not in UNITS:
            raise ModelError(f"the exit rule in the file has an unknown unit: {rule.unit!r}")
        return rule

    def stable(self, step: int, logits: Array, before: Array | None) -> Array:
        """Which images [N] may leave after ``step``, from answers [N,K] now and one check ago."""
        threshold = self.thresholds[self.steps.index(step)]
        if self.probabilities:
            logits = log_probabilities(logits)
            before = None if before is None else log_probabilities(before)
        return lead(logits) >= threshold * unit_of(self.unit, logits, before)


def log_probabilities(probabilities: Array) -> Array:
    """Logits of what a Softmax has answered."""
    return np.log(np.maximum(probabilities, SMALLEST_PROBABILITY))


def lead(logits: Array) -> Array:
    """Largest less second largest logit, [N]."""
    best = np.partition(np.asarray(logits, np.float64), -2, axis=1)
    return best[:, -1] - best[:, -2]


def unit_of(kind: str, logits: Array, before: Array | None) -> Array:
    """What a lead is measured in, [N]."""
    now = np.asarray(logits, np.float64)
    if kind == LOGIT:
        return np.ones(len(now))
    if kind == SPREAD:
        return np.maximum(now.std(axis=1), SMALLEST_UNIT)
    change = now if before is None else now - before
    moved = np.abs(change - change.mean(axis=1, keepdims=True)).max(axis=1)
    return np.maximum(moved, SMALLEST_UNIT)


def check_steps(last: int) -> list[int]:
    """Steps after which it is checked, up to ``last``: each at first, then fewer and fewer.

    >>> check_steps(30)
    [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 30]
    """
    steps, step, apart = [], 1, 1
    while step < last:
        steps.append(step)
        if step >= 8 * apart:
            apart *= 2
        step += apart
    return [*steps, last]


def run_batch(
    engine: Engine, feeds: Mapping[str, Array], rule: ExitRule, output: str, last: int
) -> tuple[dict[str, Array], Array]:
    """Run images until each is stable.

    Args:
        engine: runs the network.
        feeds: images by input name, [N,*].
        rule: when they leave.
        output: name of the output that it looks at.
        last: the step after which all leave.

    Returns:
        The answers, output name to [N,*], and the steps that each image took, [N].
    """
    images = len(next(iter(feeds.values())))
    with engine.state_memory.lent(images) as states:
        return _run_all(engine, feeds, states, rule, output, last)


def _run_all(
    engine: Engine,
    feeds: Mapping[str, Array],
    states: dict[str, Array],
    rule: ExitRule,
    output: str,
    last: int,
) -> tuple[dict[str, Array], Array]:
    """``run_batch`` with memory for the states."""
    images = len(next(iter(feeds.values())))
    inside, static = np.arange(images), engine.run_head(feeds)
    outputs: dict[str, Array] = {}
    used = np.zeros(images, np.int64)
    before: Array | None = None
    first = 1
    for step in [*(step for step in rule.steps if step < last), last]:
        answer = _advance(engine, static, states, first, step)
        logits = class_scores(answer[output], answer[output].size == len(inside))
        leaving = np.ones(len(inside), bool)
        if step < last:
            leaving = rule.stable(step, logits, before)
        for name, array in answer.items():
            whole = outputs.setdefault(name, np.empty((images, *array.shape[1:]), array.dtype))
            whole[inside[leaving]] = array[leaving]
        used[inside[leaving]] = step
        if leaving.all():
            break
        order, first = _closed_up(leaving), step + 1
        inside, before = inside[order], logits[order]
        if leaving.any():
            states, static = _kept(engine, states, static, order)
    return outputs, used


def _closed_up(leaving: Array) -> Array:
    """Which image comes to stand where once some of [N] leave; gaps are filled from the end."""
    count = len(leaving) - int(leaving.sum())
    order = np.arange(len(leaving))
    order[:count][leaving[:count]] = order[count:][~leaving[count:]]
    return order[:count]


def _kept(
    engine: Engine, states: dict[str, Array], static: dict[str, Array], order: Array
) -> tuple[dict[str, Array], dict[str, Array]]:
    """States [N,*] and constant signals [1,N,*] of the images that stay; states move in place."""
    to_device = engine.backend.to_device
    gaps = np.flatnonzero(order != np.arange(len(order)))
    rows, targets, sources = to_device(order), to_device(gaps), to_device(order[gaps])
    for array in states.values():
        array[targets] = array[sources]
    images = len(next(iter(states.values())))
    kept = {name: array[: len(order)] for name, array in states.items()}
    return kept, {name: _rows_of(array, images, rows) for name, array in static.items()}


def _rows_of(array: Array, images: int, rows: Array) -> Array:
    """A constant signal [1,N,*] or [1,k·N,*] of some of the images."""
    parts = array.shape[1] // images
    spread = array.reshape(1, images, parts, *array.shape[2:])[:, rows]
    return spread.reshape(1, len(rows) * parts, *array.shape[2:])


def _advance(
    engine: Engine, static: dict[str, Array], states: dict[str, Array], first: int, last: int
) -> dict[str, Array]:
    """The answer after step ``last``, from the states after step ``first`` - 1."""
    images = len(next(iter(states.values())))
    while True:
        length = engine.schedule.chunk_steps(images, last - first + 1)
        values = engine.run_units(static, states, first, length, None)
        first += length
        if first > last:
            return engine.answer(values, length - 1)


def distribution(used: Sequence[int]) -> dict[str, int]:
    """Step to the number of images that left there; keys are text, as in JSON."""
    steps, counts = np.unique(np.asarray(used), return_counts=True)
    return {str(int(s)): int(c) for s, c in zip(steps, counts, strict=True)}
