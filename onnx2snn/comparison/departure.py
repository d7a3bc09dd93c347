"""The first layer that departs from the ANN, from measured layers and what the file remembers."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from onnx2snn.calibration.calibrate import LayerCalibration
from onnx2snn.comparison.layer_statistics import LayerReport, refines
from onnx2snn.verification.diagnose import TOLERANCE, Evidence, cause


def first_departure(
    layers: list[LayerReport], metadata: Mapping[str, Any], *, finite: bool = True
) -> tuple[str | None, str]:
    """The first layer further from the ANN than the tolerance, and the likely cause.

    Args:
        layers: layers in the order of the network.
        metadata: what the SNN file says about itself.
        finite: whether all outputs are finite.

    Returns:
        Name of the layer, or None, and the cause in words, empty when nothing departs.
    """
    first = next((x for x in layers if not np.isfinite(x.error) or x.error > TOLERANCE), None)
    if first is None and finite:
        return None, ""
    stored = {entry.get("output"): entry for entry in metadata.get("layers") or []}
    calibration = {
        x.tensor: LayerCalibration(
            np.zeros(0, np.float32), 0.0, float(stored[x.tensor].get("saturated") or 0),
            float(stored[x.tensor].get("dead") or 0),
        )
        for x in layers if x.tensor in stored
    }  # fmt: skip
    evidence = Evidence(
        errors={x.tensor: x.error for x in layers},
        early={x.tensor: x.early_error for x in layers},
        saturated={} if refines(metadata) else {x.tensor: x.saturated for x in layers},
        silent=frozenset(x.tensor for x in layers if x.rate == 0),
        calibration=calibration,
        noise=bool((metadata.get("calibration") or {}).get("noise")),
        finite=finite,
    )
    return (first.name if first else None), cause(evidence)
