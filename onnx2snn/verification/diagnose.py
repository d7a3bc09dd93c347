"""Why a spiking network departs from its ANN: the first such layer, the likely cause, a cure."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from math import isfinite

from onnx2snn.calibration.calibrate import LayerCalibration

TOLERANCE = 0.25  # error of a layer relative to its deviation, above which it departs
FALLING = 0.75  # error at T over error at T/2, below which more steps still help
SATURATED = 0.01  # share of neurons at the burst limit
SILENT = 0.1  # share of channels without an activation in calibration


@dataclass
class Evidence:
    """What the check saw, by output tensor of the layer, in the order of the network.

    Attributes:
        errors: relative error after the last step.
        early: the same after half of the steps.
        saturated: share of (neuron, step) pairs of the second half that send the burst limit.
        silent: layers that have sent no spike at all.
        calibration: what calibration says about the neurons.
        noise: whether thresholds come from noise.
        finite: whether all outputs are finite.
    """

    errors: Mapping[str, float]
    early: Mapping[str, float]
    saturated: Mapping[str, float] = field(default_factory=dict)
    silent: Set[str] = frozenset()
    calibration: Mapping[str, LayerCalibration] = field(default_factory=dict)
    noise: bool = False
    finite: bool = True


def cause(evidence: Evidence) -> str:
    """The first layer that departs, the likely cause, and what to do."""
    for name, error in evidence.errors.items():
        if not isfinite(error):
            return f"layer {name!r} is not finite: an operator before it divides by zero"
        if error > TOLERANCE:
            reason, cure = _reason(name, error, evidence)
            return f"layer {name!r} departs first ({error:.2f}): {reason}; {cure}"
    if not evidence.finite:
        return "an output is not finite: an operator behind the last neuron divides by zero"
    return "no single layer departs, the errors add up; use more steps or a smaller --scale"


def _reason(name: str, error: float, evidence: Evidence) -> tuple[str, str]:
    known = evidence.calibration.get(name)
    share = evidence.saturated.get(name, 0.0)
    if share > SATURATED:
        return (
            f"it saturates, {100 * share:.0f} % of its neurons send the burst limit",
            _data(evidence, "calibrate with more images, or raise --scale or --burst"),
        )
    before = _layer_before(name, evidence)
    if evidence.saturated.get(before, 0.0) > SATURATED:
        share = evidence.saturated[before]
        return (
            f"{before!r} in front of it saturates, {100 * share:.0f} % of its neurons send the "
            "burst limit",
            _data(evidence, "calibrate with more images, or raise --scale or --burst"),
        )
    if name in evidence.silent:
        return "it has not sent a spike yet", "use more steps, or a smaller --scale"
    if error <= FALLING * evidence.early.get(name, float("inf")):
        return "too few steps, the error still falls", "use more steps, or --recipe refine"
    if known is not None and known.dead > SILENT:
        return (
            f"{100 * known.dead:.0f} % of its channels were silent in calibration",
            _data(evidence, "calibrate with more images"),
        )
    if evidence.noise:
        return "its threshold comes from noise, not from images", "give --calibration"
    return (
        "the error no longer falls, and its neurons are not at their limit",
        "look for a large gain in the notes (-v), lower --scale, or try another recipe",
    )


def _layer_before(name: str, evidence: Evidence) -> str:
    """The layer in front, in the order of the network."""
    names = list(evidence.errors)
    return names[names.index(name) - 1] if name in names[1:] else ""


def _data(evidence: Evidence, otherwise: str) -> str:
    return "give real images with --calibration" if evidence.noise else otherwise
