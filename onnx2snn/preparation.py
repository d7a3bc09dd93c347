"""What a conversion knows before it chooses thresholds; from it any recipe can be tried."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import onnx

from onnx2snn.calibration.balance import Balance, measure_balance
from onnx2snn.calibration.batch_statistics import Moments, expected_histograms
from onnx2snn.calibration.calibrate import Histogram, LayerCalibration, collect, set_threshold
from onnx2snn.calibration.images import CalibrationSource
from onnx2snn.calibration.reach import keep_reach
from onnx2snn.recipes import Recipe, find_recipe
from onnx2snn.rewriting.classify import Placed, Role, classify, values_met
from onnx2snn.rewriting.pool_first import pool_first
from onnx2snn.rewriting.relays import with_relays
from onnx2snn.rewriting.rewrite import rewrite
from onnx2snn.rewriting.shortcuts import Reading, shortcuts
from onnx2snn_runtime.answers import class_scores, is_probability
from onnx2snn_runtime.backends import Backend, Runner
from onnx2snn_runtime.parts import count_images, window
from onnx2snn_runtime.planning.plan import tensor_shape

Progress = Callable[[str, int, int], None]
"""Told the stage, how many images are done, and how many there are."""

BATCH_BYTES = 256 * 2**20
MAX_BATCH = 64
BALANCE_IMAGES = 64


@dataclass(frozen=True)
class Preparation:
    """A normalised network with its roles and the distributions of its activations.

    Attributes:
        network: the ANN in its normal form.
        placed: its nodes with their roles.
        histograms: output tensor of a neuron layer to the distribution of its activations.
        unpooled: name of an activation that pooling was put in front of to the distribution of
            what it was before.
        source: the calibration images.
        backend: where networks run.
        decides: name of the output that tells classes.
        relays: how many neurons stand where weights would meet values.
        shortcuts: where activations have a finer output, if that is wanted.
        on_noise: the same with all distributions from noise, if here some of them come from
            BatchNormalization; None otherwise.
    """

    network: onnx.ModelProto
    placed: list[Placed]
    histograms: dict[str, Histogram]
    unpooled: dict[str, Histogram]
    source: CalibrationSource
    backend: Backend
    decides: str
    relays: int
    shortcuts: frozenset[Reading] = frozenset()
    on_noise: "Preparation | None" = None

    @property
    def from_statistics(self) -> int:
        """How many layers have their distribution from BatchNormalization."""
        noise = {} if self.on_noise is None else self.on_noise.histograms
        return sum(self.histograms[name] is not histogram for name, histogram in noise.items())

    def record(self) -> dict[str, Any]:
        """What a file says of its calibration, as JSON data."""
        return {
            "images": self.source.count,
            "noise": self.source.is_noise,
            "from_statistics": self.from_statistics,
        }

    def thresholds(self, recipe: Recipe) -> dict[str, LayerCalibration]:
        """Threshold of every neuron layer by a recipe, by the name of its output tensor."""
        nodes = {item.node.output[0]: item.node for item in self.placed}
        values = [*self.network.graph.value_info, *self.network.graph.output]
        ranks = {value.name: len(tensor_shape(value)) for value in values}
        found = {
            name: keep_reach(
                set_threshold(histogram, ranks.get(name, 2), recipe), histogram, nodes[name], recipe
            )
            for name, histogram in self.histograms.items()
        }
        return found if recipe.precision is None else self.balance.apply(found, recipe)

    def spiking(self, recipe: Recipe) -> tuple[onnx.ModelProto, dict[str, LayerCalibration]]:
        """The spiking network of a recipe, and its thresholds."""
        thresholds = self.thresholds(recipe)
        spiking = rewrite(self.network, self.placed, thresholds, recipe, shortcuts=self.shortcuts)
        return spiking, thresholds

    @property
    def typical(self) -> dict[str, Any]:
        """What a file must say for `typical_network` to be made from it, as JSON data."""
        recipe = find_recipe("if")
        thresholds = {}
        for item in self.placed:
            if item.role is Role.NEURON:
                name, rank = item.node.name, 1  # one threshold per layer, whatever the rank
                histogram = self.unpooled.get(name) or self.histograms[item.node.output[0]]
                found = set_threshold(histogram, rank, recipe)
                found = keep_reach(found, histogram, item.node, recipe)
                thresholds[name] = float(found.threshold[0])
        return {"thresholds": thresholds, "pool_last": sorted(self.unpooled)}

    @cached_property
    def ann(self) -> Runner:
        """The ANN, from images by input name to outputs by name."""
        return self.backend.compile(self.network)

    def answer(self, feeds: Mapping[str, Any]) -> Any:
        """What decides of the ANN's answer to any number of images, as many at once as fit."""
        size = batch_size(self.network)
        parts = [
            self.ann(window(feeds, start, start + size))
            for start in range(0, count_images(feeds), size)
        ]
        return np.concatenate([self.decided(part) for part in parts])

    def decided(self, outputs: Mapping[str, Any]) -> Any:
        """The output that decides, as scores of classes if it tells any."""
        return class_scores(outputs[self.decides], self.is_binary)

    @cached_property
    def is_binary(self) -> bool:
        """Whether the deciding output is one probability for each image: of class 1 of two."""
        return is_probability(self.network, self.decides)

    @cached_property
    def balance(self) -> Balance:
        """How fine each layer should be, against the others."""
        layers = {
            name: float(h.merged().percentile(99.9)[0]) for name, h in self.histograms.items()
        }
        graded = {
            item.node.output[0] for item in self.placed if item.role in (Role.POOL, Role.GRADED)
        }
        images = replace(self.source, samples=min(BALANCE_IMAGES, self.source.samples))
        batches = images.batches(self.network, batch_size(self.network))
        sums = values_met(self.network, self.placed, pools=True)
        return measure_balance(
            self.network, layers, graded, sums, self.shortcuts, batches, self.backend
        )

    def images(self, count: int) -> dict[str, Any]:
        """The first calibration images by input name, at most ``count``."""
        size = min(count, self.source.count)
        parts: list[Mapping[str, Any]] = []
        done = 0
        for batch in self.source.batches(self.network, min(size, batch_size(self.network))):
            parts.append(batch)
            done += len(next(iter(batch.values())))
            if done >= size:
                break
        return {name: np.concatenate([part[name] for part in parts])[:size] for name in parts[0]}


def arranged(
    network: onnx.ModelProto, *, refine: bool, relays: bool
) -> tuple[onnx.ModelProto, int]:
    """The same function as a recipe needs it, and the number of its relays.

    In the refining code pooling goes in front of activations; relays stand where they are wanted.
    """
    if refine:
        network, _ = pool_first(network)
    return with_relays(network, pools=refine) if relays else (network, 0)


def prepare(
    network: onnx.ModelProto,
    recipe: Recipe,
    source: CalibrationSource,
    backend: Backend,
    progress: Progress,
    *,
    decides: str,
    statistics: Mapping[str, Moments] | None = None,
    strict: bool = False,
    allow_analog: bool = False,
) -> Preparation:
    """Place the nodes of a normalised network and look at its activations.

    Args:
        network: the ANN in its normal form.
        recipe: the recipe to start from.
        source: the calibration images.
        backend: where the ANN runs.
        progress: is told how many images are done.
        decides: name of the output that tells classes.
        statistics: moments of tensors that count for more than the images, which are noise.
        strict: refuse graded operators.
        allow_analog: accept a network in which nothing spikes.

    Raises:
        UnsupportedError: with everything that cannot be converted.
        DataError: the images do not fit.
    """
    original = network
    network, relays = arranged(network, refine=recipe.code == "refine", relays=recipe.relays)
    placed = classify(network, strict=strict, allow_analog=allow_analog)
    layers = [item.node.output[0] for item in placed if item.role is Role.NEURON]
    done = 0

    def advance(images: int) -> None:
        nonlocal done
        done += images
        progress("calibrate", done, source.count)

    neurons = {item.node.name for item in placed if item.role is Role.NEURON}
    made = {name for node in network.graph.node for name in node.output}
    moved = [n for n in original.graph.node if n.name in neurons and n.output[0] not in made]
    watched = with_nodes(network, moved) if moved else network
    found: dict[str, Histogram] = {}
    if neurons:
        layers += [node.output[0] for node in moved]
        batches = source.batches(network, batch_size(original))
        found = collect(watched, layers, batches, backend, advance)
    wants_shortcuts = recipe.shortcuts and recipe.can_have_shortcuts
    measured = Preparation(
        network, placed, *by_place(found, moved), source, backend, decides, relays,
        frozenset(shortcuts(network, placed) if wants_shortcuts else ()),
    )  # fmt: skip
    expected = expected_histograms(watched, layers, statistics or {})
    if not expected:
        return measured
    pooled, unpooled = by_place(found | expected, moved)
    return replace(measured, histograms=pooled, unpooled=unpooled, on_noise=measured)


def with_nodes(network: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    """A network with activations in it a second time, in front of pooling, to look at."""
    extended = onnx.ModelProto()
    extended.CopyFrom(network)
    extended.graph.node.extend(nodes)
    for node in extended.graph.node[len(network.graph.node) :]:
        node.name += ".unpooled"
    return extended


def by_place(
    histograms: Mapping[str, Histogram], moved: list[onnx.NodeProto]
) -> tuple[dict[str, Histogram], dict[str, Histogram]]:
    """Those of activations, and by name those of what they were before pooling went ahead."""
    behind = {node.output[0]: node.name for node in moved}
    return (
        {name: h for name, h in histograms.items() if name not in behind},
        {behind[name]: h for name, h in histograms.items() if name in behind},
    )


def batch_size(network: onnx.ModelProto) -> int:
    """How many images at once keep all activations of the ANN within the memory budget."""
    values = sum(
        int(np.prod([size for size in tensor_shape(value) if isinstance(size, int)]))
        for value in network.graph.value_info
    )
    return max(1, min(MAX_BATCH, BATCH_BYTES // max(1, 4 * values)))
