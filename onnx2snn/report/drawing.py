"""The door to matplotlib: loaded late, drawing in colours that the page may set."""

import io
import re
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from onnx2snn_runtime.errors import UsageError

INSTALL = "pip install 'onnx2snn[report]'"

# Colours that stand for CSS variables of the page, by name: matplotlib only takes numbers.
COLOURS = {
    "ink": "#010101",
    "muted": "#010102",
    "line": "#010103",
    "snn": "#010104",
    "ann": "#010105",
    "other": "#010106",
    "warn": "#010107",
}
# What the variables are where no page sets them: readable on white.
FALLBACK = {
    "ink": "#1b1f24",
    "muted": "#59636e",
    "line": "#d1d9e0",
    "snn": "#0a58ca",
    "ann": "#3f4750",
    "other": "#8a5a00",
    "warn": "#b3261e",
}


def import_extra(name: str) -> Any:
    """A module of the extra ``report``.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise UsageError(f"the report needs {name.split('.')[0]}", advice=INSTALL) from error


def open_matplotlib() -> Any:
    """The class ``matplotlib.figure.Figure``; no window system is touched.

    Raises:
        UsageError: matplotlib is not installed.
    """
    return import_extra("matplotlib.figure").Figure


def new_figure(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple[Any, Any]:
    """A figure of this size in inches, and its axes in the report's style."""
    figure = open_matplotlib()(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for one in axes:
        one.set_facecolor("none")
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["left", "bottom"]].set_color(COLOURS["line"])
        one.tick_params(colors=COLOURS["muted"], labelsize=9)
        one.grid(visible=True, color=COLOURS["line"], linewidth=0.6)
        one.set_axisbelow(True)
        for label in (one.xaxis.label, one.yaxis.label, one.title):
            label.set_color(COLOURS["ink"])
            label.set_fontsize(10)
            label.set_parse_math(False)
    return figure, axes


def dots(
    axes: Any,
    xs: Sequence[float],
    ys: Sequence[float],
    size: float,
    colour: str,
    opacity: float = 1.0,
) -> None:
    """Round dots as lines of no length in one path: a tenth of the size of as many marks.

    Args:
        axes: where; its limits stay as they are.
        xs: positions.
        ys: positions.
        size: diameter in points.
        colour: one of ``COLOURS``.
        opacity: 0 to 1.
    """
    path = import_extra("matplotlib.path").Path
    corners = [corner for place in zip(xs, ys, strict=True) for corner in (place, place)]
    line = path(corners, [path.MOVETO, path.LINETO] * len(xs))
    line.should_simplify = False
    patch = import_extra("matplotlib.patches").PathPatch(
        line, facecolor="none", edgecolor=colour, linewidth=size, capstyle="round", alpha=opacity
    )
    axes.add_artist(patch)


def to_svg(figure: Any, prefix: str, *, alone: bool = False) -> str:
    """The figure as one ``<svg>`` element in the colours of the page.

    Args:
        figure: a matplotlib figure.
        prefix: letters that make its ids differ from those of other figures.
        alone: in a file of its own, where no page defines the colours.
    """
    matplotlib = import_extra("matplotlib")
    buffer = io.StringIO()
    settings = {
        "svg.fonttype": "none",  # text stays text: small, searchable, in the page's font
        "svg.hashsalt": prefix,  # the same figure gives the same bytes
        "text.parse_math": False,  # a name with $ is no formula
        "font.family": "sans-serif",
    }
    with matplotlib.rc_context(settings):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')
    for name, colour in COLOURS.items():
        text = text.replace(colour, FALLBACK[name] if alone else f"var(--{name}, {FALLBACK[name]})")
    text = re.sub(r" ?font-family: [^;\"]*;?", "", text)  # the font of the page
    text = text.replace("<svg ", '<svg font-family="sans-serif" ', 1)
    # the <style> element that matplotlib writes would rule the whole page
    return re.sub(r'<style type="text/css">.*?</style>', "", text, flags=re.DOTALL)
