"""Thresholds from calibration images: streaming histograms of activations, and threshold rules.

A histogram has bins that are linear within an octave, 64 of them, over the 16 octaves below the
largest value of the layer. Counts are integers, so the result does not depend on how the images are
split into batches.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx2snn.recipes import Recipe
from onnx2snn_runtime.backends.base import Backend
from onnx2snn_runtime.errors import DataError, UsageError

Floats = NDArray[np.float32]
BINS_PER_OCTAVE = 64
OCTAVES = 16
BINS = BINS_PER_OCTAVE * OCTAVES
_SHIFT = 17  # 23 mantissa bits less log2(64)
CHANNEL_FLOOR = 0.05  # of the layer's threshold, for channels (almost) silent in calibration
FEW_VALUES = 10_000  # below this a channel's percentile is a poor estimate of its range
FEW_VALUES_REACH = 2.0  # burst_limit · threshold is at least this times such a channel's maximum

RULES: dict[str, Callable[["Histogram", Recipe], NDArray[np.float64]]] = {}


def threshold_rule(
    function: Callable[["Histogram", Recipe], NDArray[np.float64]],
) -> Callable[["Histogram", Recipe], NDArray[np.float64]]:
    """Register a rule under its name: histogram of C channels to C values, in activation units."""
    RULES[function.__name__.removesuffix("_rule")] = function
    return function


def check_rule(name: str) -> None:
    """Refuse a rule that is not registered.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in RULES:
        raise UsageError(f"unknown --threshold {name!r}; choose from {', '.join(RULES)}")


class Histogram:
    """Distribution of |activation| of one layer, per channel (axis 1).

    Attributes:
        counts: [C, bins] counts, bins relative to the octave of the layer's maximum.
        maximum: [C] largest value.
        values: number of values per channel.
        zeros: [C] number of values that are exactly zero.
    """

    def __init__(self, channels: int) -> None:
        self.counts = np.zeros((channels, BINS), dtype=np.int64)
        self.maximum = np.zeros(channels, dtype=np.float32)
        self.zeros = np.zeros(channels, dtype=np.int64)
        self.values = 0
        self.top = 0  # index of the first absolute bin above the window

    def add(self, activation: Floats) -> None:
        """Count one batch, [N,C,*]."""
        channels = len(self.maximum)
        flat = np.abs(np.moveaxis(activation, 1, 0).reshape(channels, -1)).astype(np.float32)
        self.values += flat.shape[1]
        self.maximum = np.maximum(self.maximum, flat.max(axis=1))
        self.zeros += np.count_nonzero(flat == 0, axis=1)
        absolute = flat.view(np.int32) >> _SHIFT
        top = (int(absolute.max()) // BINS_PER_OCTAVE + 1) * BINS_PER_OCTAVE
        if top > self.top:
            self.raise_top(top)
        index = np.maximum(absolute - (self.top - BINS), 0)
        index += np.arange(channels, dtype=np.int32)[:, np.newaxis] * BINS
        counted = np.bincount(index.reshape(-1), minlength=channels * BINS)
        self.counts += counted.reshape(channels, BINS)

    def raise_top(self, top: int) -> None:
        """Move the window up; what falls below it is kept in the lowest bin."""
        shift = min(top - self.top, BINS) if self.top else 0
        if shift:
            lowest = self.counts[:, : shift + 1].sum(axis=1) if shift < BINS else self.counts.sum(1)
            moved = np.zeros_like(self.counts)
            if shift < BINS:
                moved[:, : BINS - shift] = self.counts[:, shift:]
            moved[:, 0] = lowest
            self.counts = moved
        self.top = top

    def edges(self) -> NDArray[np.float64]:
        """Lower edges of the bins and the upper edge of the last, [bins + 1]."""
        absolute = np.arange(self.top - BINS, self.top + 1, dtype=np.int64)
        edges = (np.maximum(absolute, 0) << _SHIFT).astype(np.int32).view(np.float32)
        result: NDArray[np.float64] = edges.astype(np.float64)
        result[0] = 0.0
        return result

    def merged(self) -> "Histogram":
        """All channels as one."""
        whole = Histogram(1)
        whole.counts = self.counts.sum(axis=0, keepdims=True)
        whole.maximum = self.maximum.max(keepdims=True)
        whole.zeros = self.zeros.sum(keepdims=True)
        whole.values = self.values * len(self.maximum)
        whole.top = self.top
        return whole

    def percentile(self, percent: float) -> NDArray[np.float64]:
        """Percentile of each channel, linear inside a bin, at most the maximum, [C]."""
        if percent >= 100.0:
            return self.maximum.astype(np.float64)
        edges = self.edges()
        rank = percent / 100.0 * self.values
        cumulative = np.cumsum(self.counts, axis=1)
        result = np.empty(len(self.maximum))
        for channel, total in enumerate(cumulative):
            index = min(int(np.searchsorted(total, rank, side="left")), BINS - 1)
            before = total[index - 1] if index else 0
            count = max(self.counts[channel, index], 1)
            part = min(max((rank - before) / count, 0.0), 1.0)
            result[channel] = edges[index] + part * (edges[index + 1] - edges[index])
        silent = self.zeros >= rank
        return np.where(silent, 0.0, np.minimum(result, self.maximum))


@threshold_rule
def max_rule(histogram: Histogram, recipe: Recipe) -> NDArray[np.float64]:
    """Largest value seen in calibration."""
    del recipe
    return histogram.maximum.astype(np.float64)


@threshold_rule
def percentile_rule(histogram: Histogram, recipe: Recipe) -> NDArray[np.float64]:
    """Percentile of the values seen in calibration (99.9 unless given)."""
    return histogram.percentile(recipe.percentile)


@threshold_rule
def mse_rule(histogram: Histogram, recipe: Recipe) -> NDArray[np.float64]:
    """Value whose threshold has the least mean squared error at the recommended number of steps.

    With threshold θ the code resolves θ/T and saturates at γ·θ; candidates are fractions of the
    channel's maximum.
    """
    edges = histogram.edges()
    centres = (edges[:-1] + edges[1:]) / 2
    result = histogram.maximum.astype(np.float64)
    steps, scale = recipe.recommended_timesteps, recipe.threshold_scale
    for channel, maximum in enumerate(result.copy()):
        used = np.flatnonzero(histogram.counts[channel])
        if maximum <= 0 or not len(used):
            continue
        values, weights = centres[used], histogram.counts[channel, used]
        candidates = maximum * np.linspace(0.1, 1.5, 57)
        grid = (candidates * scale / steps)[:, np.newaxis]
        levels = np.clip(np.floor(values / grid + recipe.v0), 0, recipe.burst_limit * steps)
        errors = ((levels * grid - values) ** 2 * weights).sum(axis=1)
        result[channel] = candidates[int(np.argmin(errors))]
    return result


@dataclass(frozen=True)
class LayerCalibration:
    """What calibration says about one spiking layer.

    Attributes:
        threshold: float32 [1,C,1,…] or [1], in units of the ANN's activation.
        maximum: largest activation of the layer.
        saturated: share of activations above burst_limit · threshold.
        dead: share of channels that were always zero.
        decay: the layer's own decay of the unit in the refining code; None leaves the recipe's.
        halvings: how often the unit may halve in the refining code; None sets no limit.
        start: float32 [1,C,1,…], what the estimates of the refining code begin with; None is zero.
    """

    threshold: Floats
    maximum: float
    saturated: float
    dead: float
    decay: int | None = None
    halvings: int | None = None
    start: Floats | None = None


def collect(
    model: onnx.ModelProto,
    layers: Iterable[str],
    batches: Iterator[Mapping[str, Any]],
    backend: Backend,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Histogram]:
    """Histograms of the tensors ``layers`` of the ANN over all batches.

    Raises:
        DataError: there is no image, or an activation is not finite.
    """
    wanted = list(layers)
    run = backend.compile(with_outputs(model, wanted))
    histograms: dict[str, Histogram] = {}
    for feeds in batches:
        results = run(feeds)
        for name in wanted:
            activation = results[name]
            if activation.ndim < 2:
                activation = activation.reshape(len(activation), 1)
            if not np.all(np.isfinite(activation)):
                raise DataError(f"tensor {name!r} is not finite on the calibration images")
            if name not in histograms:
                histograms[name] = Histogram(activation.shape[1])
            histograms[name].add(activation)
        progress(len(next(iter(feeds.values()))))
    if not histograms and wanted:
        raise DataError("there is no calibration image")
    return histograms


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """The model with more tensors among its outputs."""
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    have = {output.name for output in extended.graph.output}
    known = {value.name: value for value in extended.graph.value_info}
    for name in names:
        if name not in have:
            extended.graph.output.append(known.get(name) or onnx.ValueInfoProto(name=name))
    return extended


def set_threshold(histogram: Histogram, rank: int, recipe: Recipe) -> LayerCalibration:
    """Threshold of one layer by the recipe's rule and scale."""
    whole = histogram.merged()
    rule = RULES[recipe.rule]
    layer = float(rule(whole, recipe)[0]) or float(whole.maximum[0]) or 1.0
    limit, scale = recipe.burst_limit, recipe.threshold_scale
    if recipe.per_channel and rank >= 2:
        values = np.maximum(rule(histogram, recipe), CHANNEL_FLOOR * layer) * scale
        if histogram.values < FEW_VALUES and recipe.code == "rate" and recipe.signed:
            values = np.maximum(values, FEW_VALUES_REACH * histogram.maximum / limit)
        threshold = values.reshape((1, -1) + (1,) * (rank - 2))
        saturated = _share_above(histogram, values * limit)
    else:
        threshold = np.array([layer * scale])
        saturated = _share_above(whole, threshold * limit)
    dead = float(np.mean(histogram.maximum == 0))
    return LayerCalibration(threshold.astype(np.float32), float(whole.maximum[0]), saturated, dead)


def _share_above(histogram: Histogram, limits: NDArray[np.float64]) -> float:
    """Share of all values above the limit of their channel."""
    edges = histogram.edges()[:-1]
    above = sum(
        int(counts[edges >= limit].sum())
        for counts, limit in zip(histogram.counts, limits, strict=True)
    )
    return above / max(1, histogram.values * len(limits))
