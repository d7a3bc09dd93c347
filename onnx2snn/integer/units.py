"""What the integer 1 is worth in each layer of a network in whole numbers, as the file keeps it."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np


def listed(unit: Any) -> dict[str, Any]:
    """An array as JSON data."""
    values = [float(f"{value:.8g}") for value in unit.reshape(-1).tolist()]
    return {"shape": list(unit.shape), "values": values}


def described(record: Mapping[str, Any]) -> str:
    """What the file remembers of its whole numbers, in one line."""
    bits = Counter(record.get("weight_bits", {}).values())
    weights = ", ".join(f"{b} bits in {n} layers" for b, n in sorted(bits.items(), reverse=True))
    images = ", ".join(f"{b} bits" for b in record.get("input_bits", {}).values())
    return (
        f"precision int8: weights {weights}; input {images}; "
        f"proven for {record.get('max_timesteps')} timesteps"
    )


def units_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Output tensor of a layer to the real value of the integer 1; empty for float networks."""
    stored = (metadata.get("integer") or {}).get("units") or {}
    return {
        name: np.asarray(entry["values"], np.float32).reshape(entry["shape"])
        for name, entry in stored.items()
    }
