"""Pictures of an evaluation: accuracy over timesteps, accuracy against energy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onnx2snn.report.drawing import COLOURS, import_extra, new_figure, to_svg

WIDTH, HEIGHT = 4.7, 3.1  # inches; readable on a phone without scrolling
LABEL = (30.0, 16.0)  # pixels that the label of a point takes
LOGARITHMIC = 4.0  # ratio of the largest to the smallest energy above which the axis is logarithmic


def accuracy_over_time(results: dict[str, Any]) -> str:
    """Accuracy and agreement of the SNN against T, with the ANN's accuracy as a line."""
    figure, (axes,) = new_figure(WIDTH, HEIGHT)
    steps = results["steps"]
    times = [step["t"] for step in steps]
    ann = results["ann"]["accuracy"]
    if ann is not None:
        axes.axhline(ann, color=COLOURS["ann"], linewidth=1.5, linestyle="--", label="ANN accuracy")
        axes.plot(times, [s["accuracy"] for s in steps], "o-", color=COLOURS["snn"],
                  label="SNN accuracy")  # fmt: skip
    if steps[0]["agreement"] is not None:
        axes.plot(times, [s["agreement"] for s in steps], "s:", color=COLOURS["other"],
                  label="same class as the ANN")  # fmt: skip
        axes.set_ylabel("% of images")
    else:
        errors = [s["output_error"] for s in steps]
        known = [math.nan if error is None else error for error in errors]
        axes.plot(times, known, "o-", color=COLOURS["snn"], label="error of the outputs")
        axes.set_ylabel("relative error")
    if len(times) > 1 and times[-1] / times[0] > LOGARITHMIC:
        axes.set_xscale("log", base=2)
    axes.set_xticks(times, [str(t) for t in times], minor=False)
    axes.minorticks_off()
    axes.set_xlabel("timesteps T")
    axes.legend(fontsize=9, frameon=False, labelcolor=COLOURS["ink"])
    return to_svg(figure, "accuracy")


@dataclass(frozen=True)
class Point:
    """A network in the plane of energy and accuracy.

    Attributes:
        label: what it is.
        energy: microjoules per image.
        accuracy: % of images.
        kind: ``snn``, ``ann`` or ``other``, which is also its colour.
    """

    label: str
    energy: float
    accuracy: float
    kind: str


def energy_points(results: dict[str, Any], *, integer: bool) -> list[Point]:
    """The networks that are compared in float or in integer arithmetic, SNN by rising T.

    Without labels the agreement with the ANN stands for accuracy; without classes there are none.
    """
    labelled = results["ann"]["accuracy"] is not None
    measure = "accuracy" if labelled else "agreement"
    if results["steps"][0][measure] is None:
        return []
    key = "energy_int_uj" if integer else "energy_uj"
    points = [Point(f"T={s['t']}", s[key], s[measure], "snn") for s in results["steps"]]
    full = results["ann"]["accuracy"] if labelled else 100.0
    if integer:
        quantised = results["quantised_ann"]
        value = quantised[measure]
        name = f"ANN, {quantised['bits']} bits"
        points.append(Point(name, quantised[key], value, "ann"))
    else:
        points.append(Point("ANN", results["ann"][key], full, "ann"))
        points.append(Point("ANN, zeros skipped", results["ann_skip_zeros"][key], full, "ann"))
    typical = results["typical"]
    if typical and typical.get(measure) is not None and typical.get(key) is not None:
        points.append(Point(f"typical method, T={typical['t']}", typical[key], typical[measure],
                            "other"))  # fmt: skip
    return points


def best(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both energy and accuracy."""
    return [
        p for p in points
        if not any(
            q.energy <= p.energy and q.accuracy >= p.accuracy and (q.energy, q.accuracy)
            != (p.energy, p.accuracy) for q in points
        )
    ]  # fmt: skip


def energy_against_accuracy(results: dict[str, Any], *, integer: bool) -> str:
    """Accuracy against energy; filled marks are those that no other beats in both."""
    points = energy_points(results, integer=integer)
    if not points:
        return ""
    figure, (axes,) = new_figure(WIDTH, HEIGHT)
    snn = [p for p in points if p.kind == "snn"]
    axes.plot([p.energy for p in snn], [p.accuracy for p in snn], "-", color=COLOURS["snn"],
              linewidth=1)  # fmt: skip
    front = set(best(points))
    energies = [p.energy for p in points if p.energy > 0]
    if energies and max(energies) / min(energies) > LOGARITHMIC:
        ticker = import_extra("matplotlib.ticker")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axes.minorticks_off()
    middle = (max(energies, default=1) * min(energies, default=1)) ** 0.5
    others = iter("DsX")
    for p in points:
        colour = COLOURS[p.kind]
        mark = "o" if p.kind == "snn" else next(others)
        axes.plot([p.energy], [p.accuracy], mark, color=colour, markersize=7, linestyle="none",
                  markerfacecolor=colour if p in front else "none",
                  label="_" if p.kind == "snn" else p.label)  # fmt: skip
    axes.legend(fontsize=9, frameon=False, labelcolor=COLOURS["ink"])
    axes.margins(0.12, 0.2)
    axes.autoscale_view()
    labelled: list[tuple[float, float]] = []
    for p in snn:
        x, y = axes.transData.transform((p.energy, p.accuracy))
        if any(abs(x - a) < LABEL[0] and abs(y - b) < LABEL[1] for a, b in labelled):
            continue  # its label would lie over another one
        labelled.append((x, y))
        left = p.energy > middle
        axes.annotate(p.label, (p.energy, p.accuracy), xytext=(-6 if left else 6, -14),
                      textcoords="offset points", fontsize=9, color=COLOURS["snn"],
                      ha="right" if left else "left")  # fmt: skip
    axes.set_xlabel("energy of the arithmetic, µJ per image")
    axes.set_ylabel("accuracy %" if results["ann"]["accuracy"] is not None else "same class %")
    return to_svg(figure, "integer" if integer else "float")
