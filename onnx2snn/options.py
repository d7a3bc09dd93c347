"""What `convert` refuses before it reads anything."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from onnx2snn.calibration.calibrate import check_rule
from onnx2snn.integer.build import PRECISIONS
from onnx2snn.recipes import PREFERENCES, Recipe, check_whole, find_recipe
from onnx2snn_runtime.errors import UsageError

LARGEST_TIMESTEPS = 32
MOST = 2**31 - 1


def starting_recipes(
    recipe: str | Recipe | None,
    precision: str,
    target_drop: float | None,
    prefer: str,
    relays: bool | None,
    shortcuts: bool | None = None,
    **overrides: Any,
) -> list[Recipe]:
    """The recipes to start from: the one that is asked for, or the best of each code to search.

    Args:
        recipe: a recipe, its name, or None.
        precision: ``float`` or ``int8``.
        target_drop: points, where settings are searched.
        prefer: what the search prefers.
        relays: whether they are wanted; None: where they pay, or must be.
        shortcuts: whether neurons may have a finer output there; None: where energy is searched.
        overrides: fields of the recipes; None leaves them.

    Raises:
        UsageError: a number is out of its range, or the precision is unknown or cannot be had so.
    """
    if precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise UsageError(f"--precision must be one of {known}, got {precision!r}")
    if precision == "int8" and relays is False:
        raise UsageError(
            "whole numbers need relays between weights and weights, and --no-relays is given",
            advice="leave out --no-relays, or give --precision float",
        )
    if relays is None and target_drop is not None:
        relays = prefer != "latency" or precision == "int8"
    if recipe is not None:
        wanted = [recipe]
    else:
        wanted = ["fast"] if target_drop is None or precision == "int8" else ["refine", "fast"]
    starts = [
        (entry if isinstance(entry, Recipe) else find_recipe(entry)).with_options(
            **overrides, relays=relays
        )
        for entry in wanted
    ]
    for entry in starts:
        if precision == "int8" and entry.code == "refine":
            raise UsageError(
                f"--recipe {entry.name} has no form in whole numbers: its units are halved at "
                "every step, down to a millionth of the first",
                advice="give --recipe fast, paper or if with --precision int8",
            )
    if shortcuts is None and target_drop is not None:
        shortcuts = prefer != "latency"
    if shortcuts is None:
        return starts
    return [replace(x, shortcuts=shortcuts and x.can_have_shortcuts) for x in starts]


def check_preference(prefer: str, target_drop: float | None) -> None:
    """Refuse an unknown preference, and one for a search that nobody has asked for.

    Raises:
        UsageError: it is one of these.
    """
    if prefer not in PREFERENCES:
        raise UsageError(f"--prefer must be one of {', '.join(PREFERENCES)}, got {prefer!r}")
    if prefer != PREFERENCES[0] and target_drop is None:
        raise UsageError(
            f"--prefer {prefer} chooses between settings, and --target-drop is not given",
            advice="give --target-drop 0.1 as well",
        )


def check_options(
    recipes: Sequence[Recipe],
    samples: int,
    target_drop: float | None,
    max_timesteps: int,
    exit_loss: float,
    seed: int,
) -> None:
    """Refuse numbers out of range before anything is read.

    Raises:
        UsageError: one is out of its range.
    """
    for entry in recipes:
        check_rule(entry.rule)
    check_whole("--calibration-samples", samples, 1, MOST)
    check_whole("--seed", seed, 0, MOST)
    check_whole("--max-timesteps", max_timesteps, 1, LARGEST_TIMESTEPS)
    if not 0.0 <= exit_loss <= 100.0:
        raise UsageError(f"--exit-loss must lie in 0..100, got {exit_loss}")
    if target_drop is not None and not 0.0 < target_drop <= 100.0:
        raise UsageError(f"--target-drop must be above 0 and at most 100 points, got {target_drop}")


def idle_options(
    settings: Recipe, is_tuned: bool, given: Mapping[str, Any], max_timesteps: int | None
) -> Iterator[str]:
    """Remarks if options were given that the settings have no use for.

    Args:
        settings: the recipe that was taken.
        is_tuned: whether a search has chosen its numbers.
        given: numbers by the fields of the recipe, None where not given.
        max_timesteps: the most steps that a search may take, None where not given.
    """
    if max_timesteps is not None and not is_tuned:
        yield "--max-timesteps limits what --target-drop may choose, and changes nothing here"
    idle = {"v0": "--v0"} if settings.code == "refine" else {}
    if not settings.shortcuts:
        idle["shortcuts"] = "--shortcuts"
    if is_tuned and settings.code == "refine":
        idle |= {"scale": "--scale", "rule": "--threshold", "percentile": "--percentile",
                 "per_channel": "--per-channel"}  # fmt: skip
    found = [idle[name] for name, value in given.items() if value is not None and name in idle]
    if found:
        chosen = f"as --target-drop has chosen recipe {settings.name}" if is_tuned else "here"
        yield f"{', '.join(found)} changes nothing {chosen}"
