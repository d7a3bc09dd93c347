"""Recipes: named bundles of settings, one entry each."""

from dataclasses import asdict, dataclass, replace
from numbers import Integral
from typing import Any

from onnx2snn_runtime.errors import UsageError

SMALL_BURST = 2
MAX_BURST = 255
PREFERENCES = ("balanced", "energy", "latency")  # what a search for settings saves
FAST_REACH = 1.875  # burst_limit · scale of ``fast``: how far a step reaches
REFINE_SCALE = 1 / 8


def check_whole(option: str, value: Any, low: int, high: int) -> None:
    """Refuse what is no whole number from low to high.

    Raises:
        UsageError: it is none.
    """
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_whole or not low <= value <= high:
        raise UsageError(f"{option} must be a whole number in {low}..{high}, got {value!r}")


@dataclass(frozen=True)
class Recipe:
    """How neurons are set.

    Attributes:
        name: name of the recipe.
        code: ``rate`` (counts add up, the mean is the answer) or ``refine`` (corrections).
        burst_limit: spikes per neuron and step at most, γ.
        v0: initial charge in units of the threshold.
        scale: factor on the calibrated threshold; None means min(1, 1.875/γ), of the refining code
            1/8, for bursts of 1 and 2 a half.
        signed: neurons may take back spikes.
        per_channel: one threshold per channel instead of per layer.
        rule: threshold rule, ``max``, ``percentile`` or ``mse``.
        percentile: percentile of the rule ``percentile``.
        decay: ``refine`` only: after a small correction the unit shrinks by 2^decay.
        dead_zone: ``refine`` only: corrections of at most this many units are not sent.
        precision: ``refine`` only: last unit after the recommended steps, in units of a layer's
            range and on average over layers that are balanced against each other (``balance``);
            None takes thresholds by rule and scale.
        first_unit: first unit, likewise, where there is a ``precision``: coarser makes more to
            correct, finer more spikes.
        unevenness: exponent of the factors that balance layers; 1 for the least energy, 0 for
            units that are the same part of every layer's range.
        relays: neurons stand in front of weights that would meet values (``relays``).
        shortcuts: ``refine`` only: neurons have a finer output for ways without weights
            (``rewriting.shortcuts``).
        recommended_timesteps: steps recommended without tuning.
        summary: one line for ``--help``.
    """

    name: str
    code: str
    burst_limit: int
    v0: float
    scale: float | None
    signed: bool
    per_channel: bool
    rule: str = "percentile"
    percentile: float = 99.9
    decay: int = 1
    dead_zone: float = 0.5
    precision: float | None = None
    first_unit: float = 1.0 / 6
    unevenness: float = 1.0
    relays: bool = False
    shortcuts: bool = False
    recommended_timesteps: int = 4
    summary: str = ""

    @property
    def has_small_bursts(self) -> bool:
        """Whether bursts are too small for a unit of the refining code that grows again."""
        return self.code == "refine" and self.burst_limit <= SMALL_BURST

    @property
    def can_have_shortcuts(self) -> bool:
        """Whether a second output of neurons would be finer than the first, and reach it."""
        return self.code == "refine" and not self.has_small_bursts

    @property
    def finer(self) -> float:
        """Unit of a neuron's output on shortcuts, as a part of its first unit.

        Its burst reaches nearly two of those, as the scale of ``fast``.
        """
        return FAST_REACH / self.burst_limit

    @property
    def threshold_scale(self) -> float:
        """The factor on the calibrated threshold."""
        if self.scale is not None:
            return self.scale
        if self.code == "refine":
            return 0.5 if self.has_small_bursts else REFINE_SCALE
        return min(1.0, FAST_REACH / self.burst_limit)

    def with_options(self, **options: Any) -> "Recipe":
        """The recipe with the options that are not None replaced.

        Raises:
            UsageError: a number is out of its range.
        """
        recipe = replace(
            self, **{key: value for key, value in options.items() if value is not None}
        )
        check_whole("--burst", recipe.burst_limit, 1, MAX_BURST)  # first: the scale divides by it
        limits = [
            (0.0 <= recipe.v0 < 1.0, "--v0", "0 ≤ v0 < 1", recipe.v0),
            (0.0 < recipe.threshold_scale <= 100.0, "--scale", "0 < scale ≤ 100", recipe.scale),
            (0.0 < recipe.percentile <= 100.0, "--percentile", "0..100", recipe.percentile),
        ]
        for good, option, expected, found in limits:
            if not good:
                raise UsageError(f"{option} must lie in {expected}, got {found}")
        return recipe

    def as_dict(self) -> dict[str, Any]:
        """The recipe as JSON data, with the scale that is really used."""
        data = asdict(self)
        data["scale"] = self.threshold_scale
        del data["summary"]
        return data


RECIPES: dict[str, Recipe] = {}


def recipe(entry: Recipe) -> Recipe:
    """Register a recipe."""
    RECIPES[entry.name] = entry
    return entry


recipe(Recipe(
    "fast", "rate", 15, 0.5, None, signed=True, per_channel=True,
    summary="signed burst neurons, thresholds per channel: the ANN's accuracy in 2 to 8 steps",
))  # fmt: skip
recipe(Recipe(
    "paper", "rate", 5, 0.0, 1.0, signed=False, per_channel=False, recommended_timesteps=64,
    summary="burst neurons and LIPooling exactly as in Li & Zeng, IJCAI 2022",
))  # fmt: skip
recipe(Recipe(
    "if", "rate", 1, 0.0, 1.0, signed=False, per_channel=False, recommended_timesteps=64,
    summary="integrate-and-fire neurons, one spike a step: the typical method",
))  # fmt: skip
recipe(Recipe(
    "refine", "refine", 15, 0.5, None, signed=True, per_channel=False,
    summary="neurons send corrections of their estimate in adaptive units: fewest spikes",
))  # fmt: skip


def find_recipe(name: str) -> Recipe:
    """The recipe called ``name``.

    Raises:
        UsageError: there is none.
    """
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}; choose from {', '.join(RECIPES)}")
    return RECIPES[name]
