"""Reads the results of an evaluation, which anyone may have written, and checks their form."""

import json
import re
from pathlib import Path
from typing import Any

from onnx2snn_runtime.errors import DataError, Finding
from onnx2snn_runtime.files.models import read_bytes_checked
from onnx2snn_runtime.json_form import (
    ANY,
    EACH,
    NULLABLE,
    NUMBER,
    OPTIONAL,
    OPTIONAL_TEXT,
    TEXT,
    WHOLE,
    differences,
)

MAX_BYTES = 64 * 2**20
MOST_FINDINGS = 10
MOST_NESTED = 32
_STEP = {
    "t": WHOLE, "accuracy": OPTIONAL, "agreement": OPTIONAL, "output_error": OPTIONAL,
    "spikes_per_image": NUMBER, "synops_per_image": NUMBER, "energy_uj": NUMBER,
    "energy_int_uj": NUMBER,
}  # fmt: skip
_LAYER = {
    "name": TEXT, "op": TEXT, "role": TEXT, "reason": TEXT, "neurons": WHOLE,
    "burst_limit": OPTIONAL, "rate": OPTIONAL, "saturated": NUMBER, "silent": OPTIONAL,
    "error": OPTIONAL, "early_error": OPTIONAL, "correlation": OPTIONAL,
    "spikes_per_image": NUMBER, "synops_per_image": NUMBER,
    "graded_macs_per_image": NUMBER, "threshold": (NULLABLE, [NUMBER]),
    "points": [[NUMBER]], "rates": (NULLABLE, {"edges": [NUMBER], "counts": [NUMBER]}),
}  # fmt: skip
_EVIDENCE = {
    "classes": [WHOLE], "steps": [[NUMBER]], "ann": [NUMBER], "decided": [WHOLE],
    "ann_decided": WHOLE,
}  # fmt: skip
_RASTER = {
    "layer": TEXT, "neurons": [WHOLE], "counts": [[WHOLE]], "speaking": WHOLE, "of": WHOLE,
}  # fmt: skip
_REPORT = {
    "images": WHOLE,
    "timesteps": WHOLE,
    "layers": [_LAYER],
    "first_departing": OPTIONAL_TEXT,
    "cause": TEXT,
    "followed": {
        "index": WHOLE, "label": OPTIONAL, "png": OPTIONAL_TEXT, "evidence": (NULLABLE, _EVIDENCE),
        "rasters": [_RASTER],
    },
    "conversion": {"notes": [TEXT], "work": (NULLABLE, {EACH: {EACH: NUMBER}}), "verified": ANY,
                   "calibration": ANY, "preprocessing": ANY},
    "provenance": {"command": TEXT, "versions": {EACH: TEXT},
                   "files": {EACH: {"name": TEXT, "sha256": TEXT}}, "source_sha256": OPTIONAL_TEXT,
                   "converted_with": OPTIONAL_TEXT, "backend": TEXT, "machine": TEXT},
}  # fmt: skip
RESULTS = {
    "samples": WHOLE,
    "ann": {"accuracy": OPTIONAL, "macs_per_image": NUMBER, "energy_uj": NUMBER},
    "ann_skip_zeros": {"energy_uj": NUMBER},
    "quantised_ann": {"bits": WHOLE, "accuracy": OPTIONAL, "agreement": OPTIONAL,
                      "energy_int_uj": NUMBER},
    "typical": (NULLABLE, {"t": WHOLE, "accuracy": OPTIONAL, "energy_uj": NUMBER,
                      "agreement?": OPTIONAL, "spikes_per_image?": NUMBER,
                      "energy_int_uj?": NUMBER, "beside_t?": WHOLE}),
    "early_exit?": (NULLABLE, {"mean_t": NUMBER, "loss": NUMBER, "last_t": WHOLE,
                               "energy_uj?": NUMBER}),
    "steps": [_STEP],
    "recipe": {EACH: ANY},
    "recommended_t": WHOLE,
}  # fmt: skip


def read_results(path: str | Path) -> dict[str, Any]:
    """The document that ``onnx2snn eval --json`` printed into a file.

    Raises:
        DataError: it is no such document, with everything that is wrong.
    """
    content = read_bytes_checked(Path(path), DataError, max_bytes=MAX_BYTES)
    try:
        document = json.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{Path(path).name} is not JSON: {error}",
            advice="write it with: onnx2snn eval … --json > results.json",
        ) from error
    if _is_deeper(document, MOST_NESTED):
        raise DataError(f"{Path(path).name} is nested deeper than {MOST_NESTED} levels")
    return check_results(document, Path(path).name)


def check_results(document: Any, name: str = "the results") -> dict[str, Any]:
    """The document itself if it has the form of an evaluation.

    Raises:
        DataError: with everything that is wrong.
    """
    wrong = differences(document, RESULTS)
    wrong = wrong or _contradictions(document)
    if not wrong and document.get("report") is not None:
        wrong = differences(document["report"], _REPORT, "report") or _uneven(document["report"])
    if wrong:
        raise DataError(
            f"{name} does not hold the results of an evaluation",
            [Finding(text) for text in wrong[:MOST_FINDINGS]],
            advice="write it with: onnx2snn eval MODEL.snn.onnx DATA --report OUT.html --json",
        )
    checked: dict[str, Any] = document
    return checked


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects lie in each other more than so many times."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_is_deeper(item, levels - 1) for item in inner)


def _contradictions(document: dict[str, Any]) -> list[str]:
    """Steps before the first, and figures that must be known together, and are not."""
    if not document["steps"]:
        return ["steps: is empty"]
    if min(step["t"] for step in document["steps"]) < 1:
        return ["steps: t counts from 1"]
    rows = [*document["steps"], document["quantised_ann"]]
    lines = []
    for measure, known in (
        ("accuracy", document["ann"]["accuracy"] is not None),
        ("agreement", document["steps"][0]["agreement"] is not None),
    ):
        if any((row[measure] is not None) != known for row in rows):
            lines.append(f"{measure}: is null in some rows and a number in others")
    return lines


def _uneven(report: dict[str, Any]) -> list[str]:
    """Lists whose lengths do not fit together, and a picture that is none."""
    lines = []
    for index, layer in enumerate(report["layers"]):
        points, rates = layer["points"], layer["rates"]
        if len(points) != 2 or len(points[0]) != len(points[1]) or not points[0]:
            lines.append(f"report.layers[{index}].points: expected two lists of one length")
        if rates and len(rates["edges"]) != len(rates["counts"]) + 1:
            lines.append(f"report.layers[{index}].rates: one edge more than counts is needed")
    followed = report["followed"]
    if followed["png"] is not None and not re.fullmatch(r"[A-Za-z0-9+/]+=*", followed["png"]):
        lines.append("report.followed.png: expected base64")
    evidence = followed["evidence"]
    if evidence:
        width = len(evidence["classes"])
        rows = [*evidence["steps"], evidence["ann"]]
        if not evidence["steps"] or any(len(row) != width for row in rows):
            lines.append("report.followed.evidence: expected one number per class and step")
        if len(evidence["decided"]) != len(evidence["steps"]):
            lines.append("report.followed.evidence.decided: expected one class per step")
    return lines
