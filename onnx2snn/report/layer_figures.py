"""Pictures of layers: errors of all, and for each one ANN against SNN and firing rates."""

from collections.abc import Sequence
from typing import Any

from onnx2snn.diagnose import TOLERANCE
from onnx2snn.report.drawing import COLOURS, new_figure, to_svg

LONGEST_NAME = 36
ROW_INCHES = 0.24


def short(name: str) -> str:
    """A node name that fits beside an axis: its end says more than its start."""
    return name if len(name) <= LONGEST_NAME else "…" + name[1 - LONGEST_NAME :]


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
    return '<?xml version="1.0" encoding="utf-8"?>\n' + to_svg(figure, "compare") + "\n"


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
