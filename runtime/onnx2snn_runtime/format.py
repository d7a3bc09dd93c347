"""The file format of a spiking network, shared by converter and runtime.

A spiking network is a valid ONNX model of one timestep. Every state is a graph input ``S`` with a
graph output ``S.next``; all states start at zero; the source's outputs come first, and after step t
they hold the answer after t steps. Nodes of the domain ``ai.onnx2snn`` are model-local functions
whose bodies are standard operators.
"""

import json
from typing import Any

import onnx

from onnx2snn_runtime.errors import ModelError

DOMAIN = "ai.onnx2snn"
FORMAT_VERSION = 1
METADATA_KEY = "onnx2snn"
NEXT = ".next"
STEP = "step"
BATCH = "N"
PRODUCER = "onnx2snn"


def read_metadata(model: onnx.ModelProto) -> dict[str, Any]:
    """The JSON document that a spiking network carries, empty if it has none.

    Raises:
        ModelError: the document is not JSON, or of a newer format than this version reads.
    """
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            break
    else:
        return {}
    try:
        document = json.loads(entry.value)
    except ValueError as error:
        raise ModelError(f"metadata {METADATA_KEY!r} is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise ModelError(f"metadata {METADATA_KEY!r} must be a JSON object")
    version = document.get("format_version", FORMAT_VERSION)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ModelError(
            f"the file has format version {version!r}, this onnx2snn reads up to {FORMAT_VERSION}",
            advice="upgrade onnx2snn",
        )
    return document


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
