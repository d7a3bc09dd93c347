"""The tuner: the least energy, or steps, at a given expected loss of accuracy on new images.

Every setting that is tried is run on calibration images, its spikes are counted, and its loss on
new images is estimated from margins (``decision``). It keeps the target if the estimate and its
standard error together do: what looks best on few images is partly luck. For the refining code a
trial is a number of steps and a last unit; layers are balanced against each other (``balance``).
For each number of steps the coarsest unit that keeps the loss is searched, starting from the one
found for fewer steps. Unless energy alone is to be saved, a step beyond the fourth counts as a
quarter more energy. Where latency counts, first units are fine and quickly get finer, and the
fewest steps that keep the loss are searched. For the rate code a trial is a scale, and all numbers
of steps come from one run. Nothing depends on chance.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from onnx2snn.decision import PERCENT, decision_values, expected_loss, is_classes
from onnx2snn.energy.estimate import EnergyMeter
from onnx2snn.preparation import Preparation
from onnx2snn.recipes import PREFERENCES, Recipe
from onnx2snn_runtime.network import Network

IMAGES = 256
BUDGET = 3e11  # multiplications that one trial may cost; fewer images where steps are dear
FEWEST_IMAGES = 48
TIMESTEPS = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32)
QUARTER = 0.25  # of a unit is the next one where few steps count
STEPS_WANTED = 4
STEP_COST = 0.25  # of the energy: what each step beyond the wanted ones must save to be worth it
DIGITS = 2  # of an expected loss in points: more cannot be told from a few hundred images
DEAD_ZONE = 0.6  # saves a tenth of the spikes; half a unit, as in rounding, errs least
ROUNDING = 0.5
UNEVENNESS = 0.5  # where the first burst has to reach a layer's range with its unit
PRECISIONS = tuple(2.0 ** (-step / 8) for step in range(16, 90))
STRIDE = 4
RATE_SCALES = (0.5, 0.25, 0.125)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Trial:
    """One setting, measured on calibration images.

    Attributes:
        recipe: the setting.
        timesteps: number of steps.
        energy_uj: microjoules per image.
        spikes: spikes per image.
        agreement: percent of images with the ANN's class, or None.
        expected_loss: points of accuracy expected to be lost on new images.
        standard_error: of that estimate.
    """

    recipe: Recipe
    timesteps: int
    energy_uj: float
    spikes: float
    agreement: float | None
    expected_loss: float
    standard_error: float

    @property
    def likely_loss(self) -> float:
        """The expected loss and its standard error."""
        return self.expected_loss + self.standard_error

    @property
    def loss_text(self) -> str:
        """The expected loss for people; of what is no class no error is known."""
        if self.agreement is None:
            return f"{self.expected_loss:.2f}"
        return f"{self.expected_loss:.2f} ± {self.standard_error:.2f}"

    def keeps(self, target: float) -> bool:
        """Whether hardly more than ``target`` points will be lost."""
        return round(self.likely_loss, DIGITS) <= target

    def cost(self, prefer: str) -> float:
        """Energy; balanced, with something for every step beyond the wanted ones."""
        late = max(0, self.timesteps - STEPS_WANTED) if prefer == "balanced" else 0
        return self.energy_uj * (1.0 + STEP_COST * late)

    def as_dict(self) -> dict[str, Any]:
        """The trial as JSON data."""
        return {**asdict(self), "recipe": self.recipe.as_dict()}


@dataclass(frozen=True)
class Tuning:
    """Result of a search.

    Attributes:
        chosen: the trial that was taken.
        reached: whether it keeps the target.
        trials: all trials, in the order in which they were made.
    """

    chosen: Trial
    reached: bool
    trials: list[Trial]

    @property
    def pareto(self) -> list[Trial]:
        """Trials that no other beats in energy, loss and steps at once, the cheapest first."""
        return sorted(
            (a for a in self.trials if not any(_beats(b, a) for b in self.trials)),
            key=lambda trial: trial.energy_uj,
        )

    def as_dict(self) -> dict[str, Any]:
        """Choice and Pareto front as JSON data."""
        return {
            "chosen": self.chosen.as_dict(),
            "reached": self.reached,
            "pareto": [trial.as_dict() for trial in self.pareto],
        }


def tune(
    prepared: Sequence[tuple[Preparation, Recipe]],
    target: float,
    max_timesteps: int,
    progress: Progress,
    prefer: str = PREFERENCES[0],
) -> Tuning:
    """Search the best setting that hardly loses more than ``target`` points.

    If none keeps the target, the one that is likely to lose least is taken.

    Args:
        prepared: what to search: a preparation and the recipe to start from, for each code.
        target: points of accuracy that may be lost on new images.
        max_timesteps: steps at most.
        progress: is told how many trials are done, of 0 as nobody knows of how many.
        prefer: what is best, one of ``PREFERENCES``.
    """
    trials: list[Trial] = []
    for preparation, recipe in prepared:
        search = _Search(preparation, target, max_timesteps, progress, trials)
        if recipe.code == "refine" and prefer == "latency":
            search.quick(recipe)
        elif recipe.code == "refine":
            search.refine(recipe)
        else:
            search.rate(recipe)
        if prefer == "latency" and any(trial.keeps(target) for trial in trials):
            break  # the rate code needs more steps
    good = [trial for trial in trials if trial.keeps(target)]
    if not good:
        chosen = min(trials, key=lambda trial: (trial.likely_loss, trial.cost(prefer)))
    elif prefer == "latency":
        chosen = min(good, key=lambda trial: (trial.timesteps, trial.energy_uj))
    else:
        chosen = min(good, key=lambda trial: trial.cost(prefer))
    return Tuning(chosen, bool(good), trials)


def _beats(a: Trial, b: Trial) -> bool:
    ours = (a.energy_uj, a.likely_loss, a.timesteps)
    theirs = (b.energy_uj, b.likely_loss, b.timesteps)
    return all(x <= y for x, y in zip(ours, theirs, strict=True)) and ours != theirs


def saturates(losses: Sequence[float]) -> bool:
    """Whether the last two finer units have made the loss no smaller."""
    return len(losses) > 2 and min(losses[-2:]) >= losses[-3]


class _Search:
    """Trials on one preparation; all are appended to ``trials``."""

    def __init__(
        self,
        preparation: Preparation,
        target: float,
        max_timesteps: int,
        progress: Progress,
        trials: list[Trial],
    ) -> None:
        self.preparation, self.target = preparation, target
        self.timesteps = [t for t in TIMESTEPS if t <= max_timesteps]
        self.progress, self.trials = progress, trials
        self.feeds: dict[str, Any] = {}
        self.reference: Any = None
        self.labels: Any = None

    def refine(self, recipe: Recipe) -> None:
        """For every number of steps the coarsest last unit that keeps the target."""
        position = 0
        for t in self.timesteps:
            position = self.coarsest(replace(recipe, dead_zone=DEAD_ZONE), t, position)

    def quick(self, recipe: Recipe) -> None:
        """The fewest steps that keep the target, where a step tells as much as it can.

        The first burst covers a layer's range, so that most images can be told after it, and units
        are quartered: finer ones would not reach as far as inputs still change.
        """
        first = 1.0 / recipe.burst_limit
        start = replace(recipe, first_unit=first, unevenness=UNEVENNESS, dead_zone=ROUNDING)
        for t in self.timesteps:
            if self.attempt(start, t, first * QUARTER ** (t - 1)).keeps(self.target):
                return

    def coarsest(self, recipe: Recipe, timesteps: int, start: int) -> int:
        """Index of that unit; ``start`` is a guess."""
        position, last = start, len(PRECISIONS) - 1
        losses: list[float] = []

        def keeps(index: int) -> bool:
            trial = self.attempt(recipe, timesteps, PRECISIONS[index])
            losses.append(trial.likely_loss)
            return trial.keeps(self.target)

        good = keeps(position)
        while good and position >= STRIDE and keeps(position - STRIDE):
            position -= STRIDE
        while not good and position < last and not saturates(losses):
            position = min(last, position + STRIDE)
            good = keeps(position)
        step = STRIDE // 2
        while good and step:
            if position >= step and keeps(position - step):
                position -= step
            step //= 2
        return position

    def attempt(self, recipe: Recipe, timesteps: int, precision: float) -> Trial:
        """Try a last unit, in fewer steps where the last ones would have nothing to do."""
        setting = self.preparation.balance.without_idle_steps(replace(
            recipe,
            precision=precision,
            per_channel=False,
            recommended_timesteps=timesteps,
        ))  # fmt: skip
        for trial in self.trials:
            if trial.recipe == setting:
                return trial
        (trial,) = self.run(setting, [setting.recommended_timesteps])
        return trial

    def rate(self, recipe: Recipe) -> None:
        """Scales from coarse to fine, the recipe's own among them, with every number of steps."""
        for scale in sorted({*RATE_SCALES, recipe.threshold_scale}, reverse=True):
            self.run(replace(recipe, scale=scale), self.timesteps)

    def run(self, recipe: Recipe, timesteps: list[int]) -> list[Trial]:
        """Measure one setting after some numbers of steps."""
        spiking, _ = self.preparation.spiking(recipe)
        network = Network(spiking, backend=self.preparation.backend)
        meter = EnergyMeter(spiking, network.plan)
        if not self.feeds:
            self.feeds = self.preparation.images(_image_count(meter.macs, self.timesteps[-1]))
            self.reference = self.preparation.answer(self.feeds)
            self.labels = self.preparation.source.labels(len(self.reference))
        answers, traffic = network.observe(self.feeds, timesteps, meter.observer)
        for part in traffic:
            meter.add(part)
        made = [self.trial(recipe, t, answers[t], meter) for t in timesteps]
        self.trials += made
        self.progress("tune", len(self.trials), 0)
        return made

    def trial(self, recipe: Recipe, t: int, answer: dict[str, Any], meter: EnergyMeter) -> Trial:
        """What the answers after t steps are worth."""
        found = self.preparation.decided(answer)
        totals = meter.up_to(t, len(found))
        agreement = None
        if is_classes(self.reference):
            same = decision_values(found).argmax(axis=1) == self.reference.argmax(axis=1)
            agreement = PERCENT * float(same.mean())
        return Trial(
            replace(recipe, recommended_timesteps=t),
            t,
            totals["energy_uj"],
            totals["spikes_per_image"],
            agreement,
            *expected_loss(found, self.reference, self.labels),
        )


def _image_count(macs: int, timesteps: int) -> int:
    """Images per trial, within the budget of multiplications."""
    return max(FEWEST_IMAGES, min(IMAGES, int(BUDGET / max(1, macs * timesteps))))
