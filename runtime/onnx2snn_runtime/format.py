"""The file format of a spiking network, shared by converter and runtime.

A spiking network is a valid ONNX model of one timestep. Every state is a graph input ``S`` with a
graph output ``S.next``; all states start at zero; the source's outputs come first, and after step t
they hold the answer after t steps. Nodes of the domain ``ai.onnx2snn`` are model-local functions
whose bodies are standard operators.
"""

import json
from collections.abc import Iterator
from typing import Any

import onnx

from onnx2snn_runtime.errors import Finding, ModelError

DOMAIN = "ai.onnx2snn"
FORMAT_VERSION = 1
METADATA_KEY = "onnx2snn"
NEXT = ".next"
STEP = "step"
BATCH = "N"
PRODUCER = "onnx2snn"
MAX_METADATA_BYTES = 16 * 2**20
MAX_RECOMMENDED_TIMESTEPS = 4096


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
    if not _is_count(version, 2**31):
        raise ModelError(f"metadata: format_version must be a whole number, found {_cut(version)}")
    if version > FORMAT_VERSION:
        raise ModelError(
            f"the file has format version {version}, this onnx2snn reads up to {FORMAT_VERSION}",
            advice="upgrade onnx2snn",
        )
    findings = list(_type_findings(document))
    if findings:
        raise ModelError("the metadata of the file cannot be believed", findings)
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


def _is_count(value: Any, limit: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= limit


def _cut(value: Any) -> str:
    return ascii(value)[:60]


def _type_findings(document: dict[str, Any]) -> Iterator[Finding]:
    """Values that later code takes for granted."""
    recommended = document.get("recommended_t")
    if recommended is not None and not _is_count(recommended, MAX_RECOMMENDED_TIMESTEPS):
        expected = f"a whole number in 1..{MAX_RECOMMENDED_TIMESTEPS}"
        yield Finding(f"recommended_t must be {expected}, found {_cut(recommended)}")
    recipe = document.get("recipe", {})
    if not isinstance(recipe, dict):
        yield Finding(f"recipe must be an object, found {_cut(recipe)}")
    elif not _is_count(recipe.get("burst_limit", 1), 2**31):
        yield Finding(
            f"recipe.burst_limit must be a whole number, found {_cut(recipe['burst_limit'])}"
        )
    integer = document.get("integer") or {}
    if not isinstance(integer, dict) or not _is_count(integer.get("max_timesteps", 1), 2**31):
        yield Finding("integer must be an object, and its max_timesteps a whole number")
    layers = document.get("layers", [])
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        yield Finding("layers must be a list of objects")


def write_metadata(model: onnx.ModelProto, document: dict[str, Any]) -> None:
    """Store ``document`` in the model, replacing an earlier one."""
    kept = [entry for entry in model.metadata_props if entry.key != METADATA_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    text = json.dumps(document, sort_keys=True, ensure_ascii=True, allow_nan=False)
    model.metadata_props.add(key=METADATA_KEY, value=text)


def is_spiking(model: onnx.ModelProto) -> bool:
    """Whether the model is one of ours: it has nodes of our domain or our metadata."""
    return any(node.domain == DOMAIN for node in model.graph.node) or any(
        entry.key == METADATA_KEY for entry in model.metadata_props
    )
