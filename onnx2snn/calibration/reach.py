"""The reach of a neuron: γ·θ, the largest magnitude that it can send in a step."""

from dataclasses import replace

import numpy as np
from onnx import NodeProto

from onnx2snn.calibration.calibrate import Histogram, LayerCalibration
from onnx2snn.recipes import Recipe
from onnx2snn_runtime.neurons import ACTIVATIONS


def keep_reach(
    calibration: LayerCalibration, histogram: Histogram, node: NodeProto, recipe: Recipe
) -> LayerCalibration:
    """Raise thresholds until γ·θ is the largest |f| seen, where f is not a plain rectifier.

    A rectifier that is cut at a percentile is what the recipe asks for. A bounded function spends
    much of its time at its bound, and one with negative values takes spikes back: cut off, both
    have an error that never falls. The refining code adapts its threshold and needs no reach.
    """
    activation = ACTIVATIONS[node.op_type]
    bounded = activation.high < float("inf") or node.op_type == "Clip"
    if recipe.code != "rate" or not (bounded or not activation.nonnegative):
        return calibration
    largest = histogram.maximum if calibration.threshold.size > 1 else histogram.maximum.max()
    needed = np.reshape(largest / np.float32(recipe.burst_limit), (1, -1)).astype(np.float32)
    needed = needed.reshape(calibration.threshold.shape)
    if np.all(calibration.threshold >= needed):
        return calibration
    # a float32 quotient may fall short of the maximum by a rounding
    raised = np.maximum(calibration.threshold, np.nextafter(needed, np.float32(np.inf)))
    return replace(calibration, threshold=raised, saturated=0.0)
