"""From a calibrated float network to its spiking network in whole numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnx2snn.calibration.calibrate import with_outputs
from onnx2snn.integer import pooling, rules  # noqa: F401  (registration)
from onnx2snn.integer.roles import place
from onnx2snn.integer.units import listed
from onnx2snn.integer.work import IntegerWork
from onnx2snn.preparation import Preparation, batch_size
from onnx2snn.recipes import Recipe
from onnx2snn.rewriting.built import Built
from onnx2snn.rewriting.rewrite import rewrite
from onnx2snn_runtime.errors import Finding, UnsupportedError

PRECISIONS = ("float", "int8")
HEADROOM = 1.25  # the input's range over the largest value of calibration
LEAST_TIMESTEPS = 64  # what the check of a conversion runs


def to_integers(preparation: Preparation, recipe: Recipe) -> Built:
    """The spiking network of a recipe in whole numbers.

    Args:
        preparation: the float network with its roles and calibration.
        recipe: settings of the rate code.

    Raises:
        UnsupportedError: with everything that has no integer form.
    """
    roles = place(preparation.network, preparation.placed)
    refuse(roles.findings)
    calibration = preparation.thresholds(recipe)
    ranges = input_ranges(preparation, roles.quantised)
    work = IntegerWork(preparation.network, roles, calibration, recipe, ranges)
    work.run()
    refuse([*work.findings, *_short(work.timesteps)])
    spiking = rewrite(work.model(), work.placed, work.thresholds, recipe, scales=work.scales)
    layers = {name: work.scales[name] for name in roles.layers}
    known = {
        name: replace(entry, threshold=work.scales[name]) for name, entry in calibration.items()
    }
    record = {
        "max_timesteps": min(work.timesteps.values()),
        "input_bits": {name: bits + 1 for name, bits in work.input_bits.items()},
        "largest_factor": work.largest_factor,
        "weight_bits": dict(work.weight_bits),
        "largest_sums": {name: int(value) for name, value in work.bounds.items()},
        "units": {name: listed(unit) for name, unit in layers.items()},
    }
    return Built(spiking, roles.placed, known, layers, record, work.notes)


def refuse(findings: Sequence[Finding]) -> None:
    """Refuse with all that stands in the way of whole numbers.

    Raises:
        UnsupportedError: with all findings, where there are any.
    """
    if findings:
        count = f"{len(findings)} operator{'s' if len(findings) > 1 else ''}"
        raise UnsupportedError(
            f"{count} cannot compute in whole numbers",
            findings,
            advice="convert with --precision float",
        )


def _short(timesteps: Mapping[str, int]) -> list[Finding]:
    return [
        Finding(
            f"its sums over time could overflow after {steps} steps",
            "give a smaller --burst, or put the pooling behind the activation",
            node=name,
        )
        for name, steps in timesteps.items()
        if steps < LEAST_TIMESTEPS
    ]


def input_ranges(preparation: Preparation, names: Sequence[str]) -> dict[str, float]:
    """Largest magnitude of the tensors that become whole numbers, with headroom."""
    network = preparation.network
    inner = [n for n in names if n not in {value.name for value in network.graph.input}]
    run = preparation.backend.compile(with_outputs(network, inner)) if inner else None
    found = dict.fromkeys(names, 0.0)
    for feeds in preparation.source.batches(network, batch_size(network)):
        values = {**feeds, **(run(feeds) if run else {})}
        for name in names:
            found[name] = max(found[name], float(np.abs(values[name]).max()))
    return {name: HEADROOM * (value or 1.0) for name, value in found.items()}
