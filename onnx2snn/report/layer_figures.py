"""Pictures of layers: errors of all, and for each one ANN against SNN and firing rates."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from onnx2snn.report.drawing import COLOURS, dots, new_figure, to_svg
from onnx2snn.verification.diagnose import TOLERANCE

LONGEST_NAME = 36
ROW_INCHES = 0.24


def short(name: str) -> str:
    """A node name that fits beside an axis: its end says more than its start."""
    return name if len(name) <= LONGEST_NAME else "…" + name[1 - LONGEST_NAME :]


def some_steps(timesteps: int) -> list[int]:
    """At most nine numbers of steps for an axis, from 1."""
    return list(range(1, timesteps + 1, max(1, -(-timesteps // 8))))


def comparison_figure(found: dict[str, Any]) -> str:
    """Error of every layer in the order of the network, as a whole SVG document.

    Args:
        found: the document of ``compare``.
    """
    figure = error_figure(found["layers"], found["first_departing"])
    figure.suptitle(
        f"ANN against SNN: {found['samples']} images, T = {found['timesteps']}",
        fontsize=11, color=COLOURS["ink"],
    )  # fmt: skip
    figure.patch.set_alpha(1)
    figure.patch.set_facecolor("white")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{to_svg(figure, "compare", alone=True)}\n'


def error_figure(layers: Sequence[dict[str, Any]], first: str | None) -> Any:
    """Bars of the error after all steps, dots of the error half way, the tolerance as a line."""
    figure, (errors, correlations) = new_figure(7.5, 1.2 + ROW_INCHES * len(layers), columns=2)
    rows = range(len(layers))
    colours = [COLOURS["warn" if x["name"] == first else "snn"] for x in layers]
    errors.barh(rows, [x["error"] for x in layers], color=colours, height=0.6)
    early = [x["early_error"] for x in layers]
    errors.plot(early, rows, "o", color=COLOURS["muted"], markersize=3)
    errors.axvline(TOLERANCE, color=COLOURS["warn"], linewidth=1, linestyle="--")
    errors.set_yticks(rows, [short(x["name"]) for x in layers], parse_math=False)
    errors.set_xlabel("error relative to the layer's deviation")
    errors.set_title(
        "bar: all steps, dot: half of them, dashed: departs", fontsize=8, color=COLOURS["muted"]
    )
    known = [(x["correlation"], row) for x, row in zip(layers, rows, strict=True)
             if x["correlation"] is not None]  # fmt: skip
    correlations.plot(*zip(*known, strict=True), "o", color=COLOURS["snn"], markersize=4)
    correlations.set_yticks(rows, [""] * len(layers))
    correlations.set_xlabel("correlation r")
    for axes in (errors, correlations):
        axes.set_ylim(len(layers) - 0.5, -0.5)
    return figure


def layer_figure(layer: dict[str, Any], number: int) -> str:
    """ANN against SNN as points, and how many neurons spike how often."""
    rates = layer["rates"]
    figure, axes = new_figure(4.7 if rates else 2.5, 2.2, columns=2 if rates else 1)
    x, y = layer["points"]
    low, high = min(0.0, *x, *y), max(1e-6, *x, *y)
    axes[0].plot([low, high], [low, high], color=COLOURS["ann"], linewidth=1, linestyle="--")
    dots(axes[0], x, y, 2.5, COLOURS["snn"], opacity=0.6)
    axes[0].set_xlim(low, high * 1.04)
    axes[0].set_ylim(low, high * 1.04)
    axes[0].set_xlabel("ANN activation")
    axes[0].set_ylabel("SNN mean")
    if rates:
        edges, counts = rates["edges"], rates["counts"]
        widths = [b - a for a, b in pairwise(edges)]
        axes[1].bar(edges[:-1], counts, widths, align="edge", color=COLOURS["snn"])
        axes[1].set_xlabel("spikes per step")
        axes[1].set_ylabel("neurons")
    return to_svg(figure, f"layer{number}")


def raster_figure(followed: dict[str, Any], timesteps: int) -> str:
    """Spikes of some neurons over time, a band per layer; the area of a mark is the burst."""
    rasters = followed["rasters"]
    figure, axes = new_figure(4.7, 0.4 + 1.15 * len(rasters), rows=len(rasters))
    largest = max((abs(c) for r in rasters for row in r["counts"] for c in row), default=1)
    for one, raster in zip(axes, rasters, strict=True):
        places = defaultdict(list)
        for row, train in enumerate(raster["counts"]):
            for step, count in enumerate(train):
                if count:
                    places[count].append((step + 1, row))
        for count, where in sorted(places.items()):
            size = 1.5 + 3.0 * (abs(count) / max(1, largest)) ** 0.5
            steps, rows = zip(*where, strict=True)
            dots(one, steps, rows, size, COLOURS["snn" if count > 0 else "warn"])
        one.set_xlim(0.5, timesteps + 0.5)
        one.set_ylim(-1, max(1, len(raster["counts"])))
        one.set_yticks([])
        one.grid(visible=False)
        one.set_xticks(some_steps(timesteps))
        one.set_title(
            f"{short(raster['layer'])}: {raster['speaking']} of {raster['of']} neurons spike",
            fontsize=9, loc="left", color=COLOURS["ink"], parse_math=False,
        )  # fmt: skip
        if one is not axes[-1]:
            one.tick_params(labelbottom=False)
    axes[-1].set_xlabel("timestep")
    return to_svg(figure, "raster")


def evidence_figure(evidence: dict[str, Any]) -> str:
    """The answer after every step: a line per class, the ANN's values as marks at the end."""
    figure, (axes,) = new_figure(4.7, 2.9)
    times = list(range(1, len(evidence["steps"]) + 1))
    winner = evidence["decided"][-1]
    values = [*evidence["ann"], *(value for step in evidence["steps"] for value in step)]
    gap = 0.06 * max(max(values) - min(values), 1e-6)
    heights = spread(evidence["ann"], gap)
    end = times[-1] + 0.04 * len(times)
    for index, number in enumerate(evidence["classes"]):
        colour = COLOURS["snn" if number == winner else "muted"]
        axes.plot(times, [step[index] for step in evidence["steps"]], "-o", color=colour,
                  markersize=3, linewidth=2 if number == winner else 1)  # fmt: skip
        axes.plot([end], [evidence["ann"][index]], "D", color=colour, markersize=4)
        axes.annotate(str(number), (end, heights[index]), xytext=(7, -3),
                      textcoords="offset points", fontsize=8, color=colour)  # fmt: skip
    axes.set_xticks(some_steps(len(times)))
    axes.set_xlabel("timestep; at the end ◆ the ANN, with the class")
    axes.set_ylabel("output")
    axes.margins(x=0.1)
    return to_svg(figure, "evidence")


def spread(values: Sequence[float], gap: float) -> list[float]:
    """Heights at least ``gap`` apart, in the order of the values and around them, for labels."""
    order = sorted(range(len(values)), key=lambda index: values[index])
    groups: list[list[int]] = []  # of labels that would touch
    for index in order:
        groups.append([index])
        while len(groups) > 1 and _low(groups[-1], values, gap) < _high(groups[-2], values, gap):
            groups[-2:] = [groups[-2] + groups[-1]]
    heights = list(values)
    for group in groups:
        bottom = _low(group, values, gap) + gap / 2
        for position, index in enumerate(group):
            heights[index] = bottom + position * gap
    return heights


def _low(group: list[int], values: Sequence[float], gap: float) -> float:
    """Lower edge of labels stacked around the mean of their values."""
    return sum(values[index] for index in group) / len(group) - gap * len(group) / 2


def _high(group: list[int], values: Sequence[float], gap: float) -> float:
    return _low(group, values, gap) + gap * len(group)
