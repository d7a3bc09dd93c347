"""What the numbers say, in sentences; also where they speak against the SNN."""

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Verdict:
    """The first lines of the report.

    Attributes:
        headline: the one sentence to read.
        sentences: what qualifies it.
        step: the row of ``steps`` that they speak of.
    """

    headline: str
    sentences: list[str] = field(default_factory=list)
    step: dict[str, Any] = field(default_factory=dict)


def verdict(results: dict[str, Any]) -> Verdict:
    """The verdict at the recommended number of steps, or at the last one measured."""
    steps, ann = results["steps"], results["ann"]
    wanted = [step for step in steps if step["t"] == results["recommended_t"]]
    step = wanted[0] if wanted else steps[-1]
    when = f"After {step['t']} timestep{'s' if step['t'] > 1 else ''}"
    if step["accuracy"] is not None:
        change = step["accuracy"] - ann["accuracy"]
        told = "as accurate as" if abs(change) < 0.005 else f"{abs(change):.2f} points " + (
            "less accurate than" if change < 0 else "more accurate than"
        )  # fmt: skip
        figures = f"{step['accuracy']:.2f} % against {ann['accuracy']:.2f} %"
        headline = f"{when} the SNN is {told} the ANN: {figures}."
    elif step["agreement"] is not None:
        headline = (
            f"{when} the SNN answers as the ANN does for {step['agreement']:.1f} % of the images."
        )
    elif step["output_error"] is None:
        headline = f"{when} the SNN's outputs are not finite."
    else:
        headline = (
            f"{when} the SNN's outputs are {100 * step['output_error']:.1f} % away from the ANN's."
        )
    sentences = []
    if step["accuracy"] is not None:
        sentences.append(f"Both give the same class for {step['agreement']:.1f} % of "
                         f"{results['samples']} images.")  # fmt: skip
        sentences += _chance(results, step) + _first_step(results)
    beside = [
        *energy_sentences(results, step), *typical_sentences(results), *_early_exit(results),
        *_departure(results),
    ]  # fmt: skip
    return Verdict(headline, sentences + beside, step)


def _chance(results: dict[str, Any], step: dict[str, Any]) -> list[str]:
    """Whether so small a difference on so few images tells anything."""
    lost, gained = step.get("lost"), step.get("gained")
    if lost is None or gained is None or lost == gained:
        return []
    if abs(lost - gained) > 2 * math.sqrt(lost + gained):
        return []
    return [f"On {results['samples']} images this difference may be chance: the SNN is wrong on "
            f"{lost} that the ANN gets right, and right on {gained} others."]  # fmt: skip


def _first_step(results: dict[str, Any]) -> list[str]:
    """From which of the measured steps on the SNN is as accurate as the ANN."""
    first = None
    for step in reversed(results["steps"]):
        if step["accuracy"] < results["ann"]["accuracy"] - 0.005:
            break
        first = step["t"]
    if first is None:
        return [f"At the last step measured, T = {results['steps'][-1]['t']}, it is less accurate."]
    return [f"Of the steps measured it is as accurate as the ANN from T = {first} on."]


def typical_sentences(results: dict[str, Any]) -> list[str]:
    """Plain integrate-and-fire neurons beside the SNN; they may win."""
    typical = results["typical"]
    steps = {step["t"]: step for step in results["steps"]}
    mine = steps.get((typical or {}).get("beside_t"))
    if not typical or mine is None or not typical["energy_uj"] or not mine["energy_uj"]:
        return []
    reached = "at least " if typical.get("lower_bound") else ""
    winner = "the SNN" if mine["energy_uj"] < typical["energy_uj"] else "the typical method"
    return [
        f"Plain integrate-and-fire neurons, one spike a step, need {reached}{typical['t']} "
        f"timesteps and {reached}{typical['energy_uj']:.2f} µJ for what the SNN does in "
        f"{mine['t']} with {mine['energy_uj']:.2f} µJ: {winner} takes less."
    ]


def _early_exit(results: dict[str, Any]) -> list[str]:
    """Images that leave early beside those that all take the last step."""
    early = results.get("early_exit")
    if not early or "energy_uj" not in early:
        return []
    change = "fewer" if early["loss"] >= 0 else "more"
    return [
        f"With early exit images take {early['mean_t']:.2f} timesteps and {early['energy_uj']:.2f} "
        f"µJ on average; {abs(early['loss']):.2f} % {change} of them get the ANN's class than at "
        f"T = {early['last_t']}."
    ]


def energy_sentences(results: dict[str, Any], step: dict[str, Any]) -> list[str]:
    """Energy against the ANN and against quantising it; each may win."""
    ann, skipping = results["ann"]["energy_uj"], results["ann_skip_zeros"]["energy_uj"]
    sentences = []
    if ann > 0 and skipping > 0 and results["recipe"].get("arithmetic") != "int8":
        sentences.append(
            f"In floating point its arithmetic takes {step['energy_uj'] / ann:.2f} times "
            f"the energy of the ANN, {step['energy_uj'] / skipping:.2f} times that of an ANN that "
            "skips zeros."
        )
    quantised = results["quantised_ann"]
    mine, theirs = step["energy_int_uj"], quantised["energy_int_uj"]
    if theirs > 0:
        winner = "the SNN takes less" if mine < theirs else "simply quantising takes less"
        accuracy = ""
        if quantised["accuracy"] is not None:
            accuracy = f" at {quantised['accuracy']:.2f} % accuracy"
        sentences.append(
            f"In integer arithmetic {winner}: {mine:.2f} µJ for the SNN, {theirs:.2f} µJ "
            f"for the ANN with {quantised['bits']}-bit activations{accuracy}."
        )
    return sentences


def _departure(results: dict[str, Any]) -> list[str]:
    report = results.get("report")
    if not report:
        return []
    if report["cause"]:
        return [report["cause"][0].upper() + report["cause"][1:] + "."]
    worst = max(report["layers"], key=lambda x: x["error"] or 0.0, default=None)
    if worst is None:
        return []
    return [
        f"No layer departs; {worst['name']} is furthest from the ANN (error {worst['error']:.3f})."
    ]
