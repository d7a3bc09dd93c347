"""What every layer of a spiking network sends, beside what the ANN computes there.

``LayerWatch`` is an observer of one part of the images, ``LayerStatistics`` adds such parts up. All
sums stream over batches: nothing grows with the number of images.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx2snn.energy.estimate import EnergyMeter, Traffic
from onnx2snn.integer.units import units_of
from onnx2snn.verification.layer_means import LayerMeans
from onnx2snn_runtime.network import Network
from onnx2snn_runtime.neurons.refine import RefineFurther
from onnx2snn_runtime.planning.plan import Plan, Stateful

Array = NDArray[Any]
POINTS = 250  # of a layer's scatter plot
BINS = 24  # of a layer's histogram of firing rates
BATCH_BYTES = 256 * 2**20  # of all layers of a batch, in float32
MAX_BATCH = 32
ROLES = {
    "BurstIF": "neuron", "IntegerIF": "neuron", "Refine": "neuron", "RefineFrom": "neuron",
    "RefineFurther": "neuron", "LIPool": "pool", "Graded": "graded",
}  # fmt: skip


@dataclass(frozen=True)
class LayerReport:
    """One layer of a spiking network, measured on images.

    Attributes:
        name: name of the node.
        tensor: name of its output in the ANN.
        op: operator of the ANN.
        role: ``neuron``, ``pool`` or ``graded``.
        reason: why it is what it is, for people.
        neurons: elements per image.
        threshold: smallest and largest threshold in units of the ANN's activation, or None.
        burst_limit: spikes per neuron and step at most, or None.
        rate: mean spikes per neuron and step, sent or taken back; None where nothing spikes.
        saturated: share of (neuron, step) pairs of the second half that send the burst limit.
        silent: share of neurons that sent nothing on any image, or None.
        error: distance of the layer's mean from the ANN, relative to the layer's deviation.
        early_error: the same after half of the steps.
        correlation: Pearson's r of the layer's mean with the ANN; None where one is constant.
        spikes_per_image: spikes, sent or taken back.
        synops_per_image: synaptic operations of these spikes.
        graded_macs_per_image: multiply-accumulates that graded values meet.
    """

    name: str
    tensor: str
    op: str
    role: str
    reason: str
    neurons: int
    threshold: tuple[float, float] | None
    burst_limit: int | None
    rate: float | None
    saturated: float
    silent: float | None
    error: float
    early_error: float
    correlation: float | None
    spikes_per_image: float
    synops_per_image: float
    graded_macs_per_image: float

    def as_dict(self) -> dict[str, Any]:
        """The layer as JSON data; what is not finite becomes None."""
        return {
            key: None if isinstance(value, float) and not isfinite(value) else value
            for key, value in asdict(self).items()
        }


class LayerWatch(LayerMeans):
    """Observer of one part of the images: means, spikes and traffic of every layer.

    Args:
        meter: counts synaptic operations.
        timesteps: number of steps that will run.
        refine: whether an output is the answer so far, instead of one step's share of it.
    """

    def __init__(self, meter: EnergyMeter, timesteps: int, *, refine: bool) -> None:
        super().__init__(timesteps, refine=refine)
        self.meter = meter
        self.traffic: dict[str, Traffic] = {}

    def observe(self, unit: Stateful, first_step: int, outputs: Any, counts: Any) -> None:
        """Add what one layer sent in one chunk, ``outputs`` and ``counts`` [C,N,*]."""
        super().observe(unit, first_step, outputs, counts)
        if not unit.operator.is_readout:
            traffic = self.traffic.setdefault(unit.name, self.meter.observer())
            traffic.observe(unit, first_step, outputs, counts)


@dataclass
class _Moments:
    """Sums over pairs (ANN x, SNN y), from which error and correlation follow."""

    count: int = 0
    sums: Array = field(default_factory=lambda: np.zeros(6))  # x, y, xx, yy, xy, (y-x)²

    def add(self, x: Array, y: Array) -> None:
        x, y = x.reshape(-1).astype(np.float64), y.reshape(-1).astype(np.float64)
        self.count += x.size
        difference = y - x
        self.sums += [x.sum(), y.sum(), x @ x, y @ y, x @ y, difference @ difference]

    @property
    def error(self) -> float:
        """L2 distance, relative to the deviation of x from its mean."""
        x, _, xx, _, _, distance = self.sums
        spread = np.sqrt(max(0.0, xx - x * x / max(1, self.count)))
        return float(np.sqrt(distance) / spread if spread > 1e-12 else np.sqrt(distance))

    @property
    def correlation(self) -> float | None:
        """Pearson's r, or None where x or y is constant."""
        x, y, xx, yy, xy, _ = self.sums
        n = max(1, self.count)
        varied = (xx - x * x / n) * (yy - y * y / n)
        return float((xy - x * y / n) / np.sqrt(varied)) if varied > 1e-24 else None


class _Layer:
    """Running figures of one layer."""

    def __init__(self, unit: Stateful, tensor: str, neurons: int, worth: Array | None) -> None:
        self.unit, self.tensor, self.neurons = unit, tensor, neurons
        self.worth = np.float32(1) if worth is None else worth  # of what it sends, as one
        self.thresholds = unit.threshold if worth is None else worth
        self.final, self.early = _Moments(), _Moments()
        self.at_limit = self.spikes = self.synops = self.graded = 0.0
        self.sent: Array = np.zeros(0)
        self.points: list[Array] = []

    def add(self, watch: LayerWatch, expected: Array, generator: np.random.Generator) -> None:
        name = self.unit.name
        mean = watch.mean(name) * self.worth
        self.final.add(expected, mean)
        self.early.add(expected, watch.early[name] * self.worth)
        traffic = watch.traffic[name]
        self.spikes += sum(traffic.spikes.values())
        self.synops += sum(traffic.synops.values())
        self.graded += sum(traffic.graded_macs.values())
        self.at_limit += watch.at_limit.get(name, 0.0)
        if name in watch.spikes:
            total = watch.spikes[name].sum(axis=0, dtype=np.float64).reshape(-1)
            self.sent = total if not self.sent.size else self.sent + total
        chosen = generator.integers(0, mean.size, POINTS)
        self.points.append(np.stack([expected.reshape(-1)[chosen], mean.reshape(-1)[chosen]]))

    def report(self, images: int, timesteps: int) -> LayerReport:
        """The figures per image."""
        unit = self.unit
        spiking = unit.operator.spiking
        pairs = max(1, images * self.neurons * (timesteps - max(1, timesteps // 2)))
        thresholds = self.thresholds if spiking else None
        return LayerReport(
            name=unit.name,
            tensor=self.tensor,
            op=unit.operator.signature.op,
            role=ROLES.get(unit.operator.family, "graded"),
            reason=reason(unit),
            neurons=self.neurons,
            threshold=None if thresholds is None
            else (float(np.min(thresholds)), float(np.max(thresholds))),
            burst_limit=int(unit.operator.attributes["burst_limit"]) if spiking else None,
            rate=self.spikes / (images * self.neurons * timesteps) if spiking else None,
            saturated=self.at_limit / pairs,
            silent=float(np.mean(self.sent == 0)) if spiking else None,
            error=self.final.error,
            early_error=self.early.error,
            correlation=self.final.correlation,
            spikes_per_image=self.spikes / images,
            synops_per_image=self.synops / images,
            graded_macs_per_image=self.graded / images,
        )  # fmt: skip


class LayerStatistics:
    """Figures of all layers, summed over images.

    Args:
        network: the spiking network.
        timesteps: number of steps that run.
    """

    def __init__(self, network: Network, timesteps: int) -> None:
        self.network, self.timesteps, self.images = network, timesteps, 0
        self.meter = EnergyMeter(network.model, network.plan)
        self.refine = refines(network.metadata)
        self.generator = np.random.default_rng(0)
        worth, tensors = units_of(network.metadata), ann_tensors(network.metadata)
        self.layers = []
        for unit in layer_units(network.plan):
            tensor = tensors.get(unit.name, stands_for(unit))
            neurons = element_count(network.plan, unit)
            self.layers.append(_Layer(unit, tensor, neurons, worth.get(tensor)))

    @property
    def tensors(self) -> list[str]:
        """Outputs of the ANN that the layers stand for."""
        return [layer.tensor for layer in self.layers]

    @property
    def batch_size(self) -> int:
        """How many images at once keep all layers within the memory budget."""
        size = 4 * sum(layer.neurons for layer in self.layers)
        return max(1, min(MAX_BATCH, BATCH_BYTES // max(1, size)))

    def in_real_units(self, reference: Mapping[str, Array]) -> dict[str, Array]:
        """What the ANN of a file in whole numbers tells of every tensor, of counts of spikes."""
        worth = {layer.tensor: layer.worth for layer in self.layers}
        return {name: array * worth.get(name, 1) for name, array in reference.items()}

    def run(
        self, feeds: Mapping[str, Array], reference: Mapping[str, Array]
    ) -> dict[int, dict[str, Array]]:
        """Run one batch and count it.

        Args:
            feeds: checked images by input name, [N,*].
            reference: the ANN's value of every tensor in ``tensors``, [N,*].

        Returns:
            The network's answers after half of the steps and after all.
        """
        steps = sorted({max(1, self.timesteps // 2), self.timesteps})
        answers, watches = self.network.observe(
            feeds, steps, lambda: LayerWatch(self.meter, self.timesteps, refine=self.refine)
        )
        start = 0
        for watch in watches:
            images = 0
            for layer in self.layers:
                images = len(watch.sums[layer.unit.name])
                expected = reference[layer.tensor][start : start + images]
                layer.add(watch, expected, self.generator)
            start += images
        self.images += len(next(iter(feeds.values())))
        return answers

    def reports(self) -> list[LayerReport]:
        """All layers in the order of the network."""
        return [layer.report(self.images, self.timesteps) for layer in self.layers]

    def samples(self) -> Iterator[tuple[Array, Array]]:
        """Per layer: points (ANN, SNN) [2,P], and mean spikes per step of each neuron."""
        for layer in self.layers:
            points = np.concatenate(layer.points, axis=1)
            chosen = np.linspace(0, points.shape[1] - 1, min(POINTS, points.shape[1])).astype(int)
            yield points[:, chosen], layer.sent / (self.images * self.timesteps)


def refines(metadata: Mapping[str, Any]) -> bool:
    """Whether the network is of the refining code: outputs are answers so far, not shares."""
    return bool((metadata.get("recipe") or {}).get("code") == "refine")


def layer_units(plan: Plan) -> list[Stateful]:
    """The operators with a state that stand for a layer of the ANN."""
    return [unit for unit in plan.stateful if not unit.operator.is_readout]


def stands_for(unit: Stateful) -> str:
    """The tensor of which a unit tells; a finer output tells of what it reads last."""
    operator = unit.operator
    if isinstance(operator, RefineFurther):
        return unit.inputs[operator.first_estimate]
    return unit.output


def ann_tensors(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Node of a layer to its output in the ANN, which may have another name in the SNN."""
    return {
        layer["name"]: layer["output"] for layer in metadata.get("layers", []) if "output" in layer
    }


def element_count(plan: Plan, unit: Stateful) -> int:
    """Elements of a layer's output per image."""
    return prod(size for size in plan.shapes.get(unit.output, ()) if isinstance(size, int))


def reason(unit: Stateful) -> str:
    """Why a layer became what it is, in words."""
    operator = unit.operator
    if isinstance(operator, RefineFurther):
        return "a finer output for a way without weights: it spikes"
    if operator.spiking:
        return "an activation in reach of weights: it spikes"
    if operator.family == "LIPool":
        return "a maximum of sums: sends its change, exact at every step"
    moving = len(operator.signature.moving)
    if moving > 1:
        return f"combines {moving} signals that are not linear together: sends its exact change"
    return "not linear, and no activation between weights: sends its exact change"
