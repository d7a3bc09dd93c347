"""The page itself: results in, one self-contained HTML document out."""

import base64
import hashlib
import json
from importlib import resources
from typing import Any

from onnx2snn.report.drawing import import_extra, open_matplotlib
from onnx2snn.report.layer_figures import evidence_figure, layer_figure, raster_figure
from onnx2snn.report.result_figures import accuracy_over_time, energy_against_accuracy
from onnx2snn.report.verdict import verdict

TEMPLATE = "report.html.j2"


def render(results: dict[str, Any], title: str) -> str:
    """The page.

    Args:
        results: checked results (see ``check_results``), with or without the key ``report``.
        title: what the page is about, usually the name of the network's file.

    Returns:
        HTML that needs nothing else: no network, no other file. Every text of the results is
        escaped, and the page forbids itself any script but its own.

    Raises:
        UsageError: the extra ``report`` is not installed.
    """
    open_matplotlib()
    jinja2 = import_extra("jinja2")
    markup = import_extra("markupsafe").Markup
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_part),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=number,
        thousands=thousands,
        percent=percent,
        significant=significant,
        plainly=plainly,
        exactly=exactly,
    )
    script = _part("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page: str = environment.get_template(TEMPLATE).render(
        title=title,
        results=results,
        report=results.get("report"),
        verdict=verdict(results),
        figures={name: markup(svg) for name, svg in figures(results).items()},
        layer_figures=[markup(svg) for svg in layer_figures(results)],
        style=markup(_part("report.css")),
        script=markup(script),
        script_hash=digest,
        document=markup(_harmless_json(results)),
    )
    return page


def figures(results: dict[str, Any]) -> dict[str, str]:
    """The pictures of the whole network by name; what there is nothing for is empty."""
    drawn = {
        "accuracy": accuracy_over_time(results),
        "float": energy_against_accuracy(results, integer=False),
        "integer": energy_against_accuracy(results, integer=True),
        "raster": "",
        "evidence": "",
    }
    report = results.get("report")
    if report and report["followed"]["rasters"]:
        drawn["raster"] = raster_figure(report["followed"], report["timesteps"])
    if report and report["followed"]["evidence"]:
        drawn["evidence"] = evidence_figure(report["followed"]["evidence"])
    return drawn


def layer_figures(results: dict[str, Any]) -> list[str]:
    """The picture of every layer, in order."""
    layers = (results.get("report") or {}).get("layers", [])
    return [layer_figure(layer, index) for index, layer in enumerate(layers)]


def _part(name: str) -> str:
    folder = resources.files("onnx2snn.report") / "template"
    return (folder / name).read_text(encoding="utf-8").rstrip("\n")


def _harmless_json(results: dict[str, Any]) -> str:
    """The results for a ``<script>`` block of data, which no text in them can close."""
    return json.dumps(results).replace("<", "\\u003c").replace(">", "\\u003e")


def number(value: float | None, digits: int = 2) -> str:
    """A number with this many digits behind the point, a dash where there is none."""
    return "–" if value is None else f"{value:,.{digits}f}".replace(",", "\u202f")


def thousands(value: float | None) -> str:
    """A count with a space between thousands."""
    return number(value, 0)


def significant(value: float) -> str:
    """A number with three significant digits."""
    return f"{value:.3g}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share of 1 as a percentage."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def plainly(value: Any) -> str:
    """JSON data as words: ``images 256, noise no``."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {plainly(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return " ".join(plainly(inner) for inner in value)
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def exactly(value: Any) -> str:
    """A value for sorting; what is missing comes last."""
    return "" if value is None else str(value)
