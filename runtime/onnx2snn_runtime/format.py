"""The file format of a spiking network, shared by converter and runtime.

A spiking network is a valid ONNX model of one timestep. Every state is a graph input ``S`` with a
graph output ``S.next``; all states start at zero; the source's outputs come first, and after step t
they hold the answer after t steps. Nodes of the domain ``ai.onnx2snn`` are model-local functions
whose bodies are standard operators.
"""

import json
from collections.abc import Iterator
from math import prod
from typing import Any

import onnx

from onnx2snn_runtime.errors import Finding, ModelError
from onnx2snn_runtime.json_form import (
    ANY,
    EACH,
    NULLABLE,
    NUMBER,
    OPTIONAL,
    OPTIONAL_TEXT,
    TEXT,
    TRUTH,
    WHOLE,
    differences,
    to_json,
)

DOMAIN = "ai.onnx2snn"
FORMAT_VERSION = 1
METADATA_KEY = "onnx2snn"
NEXT = ".next"
STEP = "step"
BATCH = "N"
PRODUCER = "onnx2snn"
MAX_METADATA_BYTES = 16 * 2**20
MAX_RECOMMENDED_TIMESTEPS = 4096
MOST = 2**31 - 1
MOST_FINDINGS = 10

_RECIPE = {
    "name?": TEXT, "code?": TEXT, "burst_limit?": WHOLE, "recommended_timesteps?": WHOLE,
    "v0?": NUMBER, "scale?": OPTIONAL, "rule?": TEXT, "percentile?": NUMBER,
    "per_channel?": TRUTH, "signed?": TRUTH, "relays?": TRUTH, "precision?": OPTIONAL,
    "first_unit?": NUMBER, "decay?": WHOLE, "dead_zone?": NUMBER, "unevenness?": NUMBER,
}  # fmt: skip
_LAYER = {
    "name": TEXT, "op?": TEXT, "role?": TEXT, "output?": TEXT, "neurons?": WHOLE, "macs?": WHOLE,
    "threshold?": (NULLABLE, [NUMBER]), "burst_limit?": OPTIONAL, "saturated?": NUMBER,
    "dead?": NUMBER, "error?": OPTIONAL,
}  # fmt: skip
METADATA = {
    "format_version?": WHOLE,
    "onnx2snn?": TEXT,
    "recipe?": (NULLABLE, _RECIPE),
    "recommended_t?": (NULLABLE, WHOLE),
    "precision?": TEXT,
    "decides?": OPTIONAL_TEXT,
    "layers?": [_LAYER],
    "preprocessing?": ANY,  # read by input_preprocessing.from_document
    "early_exit?": ANY,  # read by ExitRule.from_json
    "calibration?": (NULLABLE, {"images?": WHOLE, "noise?": TRUTH, "from_statistics?": WHOLE}),
    "typical?": (NULLABLE, {"thresholds": {EACH: NUMBER}, "pool_last": [TEXT]}),
    "integer?": (NULLABLE, {
        "max_timesteps?": WHOLE, "weight_bits?": {EACH: WHOLE}, "input_bits?": {EACH: WHOLE},
        "largest_factor?": WHOLE, "largest_sums?": {EACH: WHOLE},
        "units?": {EACH: {"shape": [WHOLE], "values": [NUMBER]}},
    }),
    "tuning?": (NULLABLE, {EACH: ANY}),
    "work?": (NULLABLE, {EACH: {EACH: NUMBER}}),
    "notes?": [TEXT],
    "verified?": TRUTH,
    "source_sha256?": TEXT,
}  # fmt: skip


def read_metadata(model: onnx.ModelProto) -> dict[str, Any]:
    """The JSON document that a spiking network carries, empty if it has none.

    Raises:
        ModelError: the document is not JSON, of a newer format than this version reads, or holds
            values of other types than the converter writes.
    """
    entries = [entry.value for entry in model.metadata_props if entry.key == METADATA_KEY]
    if not entries:
        return {}
    if len(entries) > 1:
        raise ModelError(f"the file holds {len(entries)} metadata documents {METADATA_KEY!r}")
    document = _parse(entries[0])
    version = document.get("format_version", FORMAT_VERSION)
    if differences(version, WHOLE) or version < 1:
        raise ModelError(
            f"metadata: format_version must be a whole number from 1, found {ascii(version)[:60]}"
        )
    if version > FORMAT_VERSION:
        raise ModelError(
            f"the file has format version {version}, this onnx2snn reads up to {FORMAT_VERSION}",
            advice="upgrade onnx2snn",
        )
    findings = list(_findings(document))
    if findings:
        raise ModelError("the metadata of the file is invalid", findings)
    return document


def _parse(text: str) -> dict[str, Any]:
    if len(text) > MAX_METADATA_BYTES:
        raise ModelError(
            f"the metadata has {len(text):,} bytes; the limit is {MAX_METADATA_BYTES:,}"
        )

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is no number of JSON")

    try:
        document = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"metadata {METADATA_KEY!r} is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise ModelError(f"metadata {METADATA_KEY!r} must be a JSON object")
    return document


def _findings(document: dict[str, Any]) -> Iterator[Finding]:
    """Values that later code takes for granted, and that are not what it expects."""
    wrong = differences(document, METADATA)
    yield from (Finding(text) for text in wrong[:MOST_FINDINGS])
    if wrong:
        return
    counts = {
        "recommended_t": (document.get("recommended_t"), MAX_RECOMMENDED_TIMESTEPS),
        "recipe.burst_limit": ((document.get("recipe") or {}).get("burst_limit"), MOST),
        "integer.max_timesteps": ((document.get("integer") or {}).get("max_timesteps"), MOST),
    }
    for name, (value, most) in counts.items():
        if value is not None and not 1 <= value <= most:
            yield Finding(f"{name}: expected a number in 1..{most}, found {value}")
    units = (document.get("integer") or {}).get("units") or {}
    for name, unit in units.items():
        if prod(unit["shape"]) != len(unit["values"]):
            yield Finding(f"integer.units: shape and values of {name!a} do not fit together")


def write_metadata(model: onnx.ModelProto, document: dict[str, Any]) -> None:
    """Store ``document`` in the model, replacing an earlier one."""
    kept = [entry for entry in model.metadata_props if entry.key != METADATA_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    text = to_json({key: document[key] for key in sorted(document)})
    model.metadata_props.add(key=METADATA_KEY, value=text)


def is_spiking(model: onnx.ModelProto) -> bool:
    """Whether the model is one of ours: it has nodes of our domain or our metadata."""
    return any(node.domain == DOMAIN for node in model.graph.node) or any(
        entry.key == METADATA_KEY for entry in model.metadata_props
    )
