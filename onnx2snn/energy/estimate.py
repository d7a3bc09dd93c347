"""Synaptic operations and an estimate of the energy of their arithmetic.

Each spike costs one accumulate per weight it meets, each MAC of the ANN one multiply-accumulate.
Figures per operation: 45 nm, Horowitz, ISSCC 2014. Only arithmetic is counted, no memory traffic.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto

from onnx2snn.energy.costs import multiplications
from onnx2snn.energy.fan_out import FanOut
from onnx2snn_runtime.engine import Observer
from onnx2snn_runtime.interpreter import Interpreter
from onnx2snn_runtime.planning.plan import Plan, Segment, Stateful

PICOJOULE_MAC = 4.6  # float32 multiply 3.7 + add 0.9
PICOJOULE_AC = 0.9  # float32 add
PICOJOULE_MAC_INTEGER = 0.3  # 8-bit multiply 0.2 + 32-bit add 0.1
PICOJOULE_AC_INTEGER = 0.1  # 32-bit integer add
MICROJOULE = 1e-6  # microjoules in a picojoule


class EnergyMeter:
    """Turns what a network sends into synaptic operations and energy.

    Args:
        spiking: the spiking network.
        plan: its plan.
    """

    def __init__(self, spiking: onnx.ModelProto, plan: Plan) -> None:
        self.plan = plan
        self.macs_by_node = multiplications(spiking)
        segments = [unit for unit in plan.units if isinstance(unit, Segment)]
        graded = [name for segment in segments for name in segment.graded]
        sums = [name for segment in segments for name in segment.sums]
        self.connections = fan_out = FanOut(spiking, graded, sums)
        self.fan_out: dict[str, NDArray[np.float64]] = {}
        for unit in plan.stateful:
            if not unit.operator.is_readout:
                self.fan_out[unit.name] = fan_out.of(unit.output).reshape(-1)
        self.value_fan_out = {
            name: fan_out.of_value(name).reshape(-1) for name in dict.fromkeys([*graded, *sums])
        }
        self.estimates = any(unit.operator.sends_estimates for unit in plan.stateful)
        head = {node.name for node in plan.head.model.graph.node} if plan.head else set()
        tail = {node.name for node in plan.tail.model.graph.node} if plan.tail else set()
        self.head_macs = sum(count for name, count in self.macs_by_node.items() if name in head)
        reached = fan_out.weighted_nodes
        self.tail_macs = sum(
            count
            for name, count in self.macs_by_node.items()
            if name in tail and name not in reached
        )
        self.threshold_of = self.shared_thresholds(spiking.graph.node)
        self.neurons = sum(
            int(np.prod([s for s in unit.state_shapes[0] if isinstance(s, int)]))
            for unit in plan.stateful
            if unit.operator.spiking
        )
        self.total = Traffic(self)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the ANN per image."""
        return sum(self.macs_by_node.values())

    def shared_thresholds(self, nodes: Iterable[NodeProto]) -> dict[str, NDArray[np.float64]]:
        """Pooling layer to the thresholds of what it sends, where what it compares shares them."""
        sent: dict[str, NDArray[np.float64]] = {}  # tensor to the thresholds of its neurons, [1,*]
        shared = {}
        units = {unit.output: unit for unit in self.plan.stateful}
        for node in nodes:
            unit = units.get(node.output[0])
            if unit is None:
                sent.update(self.connections.moved(node, sent))
            elif unit.operator.family == "LIPool":
                found = self.pooled_threshold(unit, sent)
                if found is not None:
                    shared[unit.name] = sent[unit.output] = found
            elif unit.operator.sends_counts:
                sent[unit.output] = np.ones(self.sizes(unit.output))
            elif unit.threshold is not None:
                sent[unit.output] = np.broadcast_to(unit.threshold, self.sizes(unit.output))
        return shared

    def pooled_threshold(
        self, unit: Stateful, sent: Mapping[str, NDArray[np.float64]]
    ) -> NDArray[np.float64] | None:
        """The thresholds of what pooling compares, [1,*], or None if some differ in a window."""
        sources = [sent.get(unit.inputs[index]) for index in unit.operator.signature.moving]
        known = [source for source in sources if source is not None]
        if len(known) < len(sources):
            return None
        pool = Interpreter(unit.operator.base_model(self.plan.opset))
        names = unit.operator.base_inputs()

        def largest(sign: float) -> NDArray[np.float64]:
            feeds = {names[index]: array for index, array in unit.constants.items()}
            for index, source in zip(unit.operator.signature.moving, known, strict=True):
                feeds[names[index]] = np.float32(sign) * source.astype(np.float32)
            (result,) = pool(feeds).values()
            return sign * np.asarray(result, np.float64)

        most, least = largest(1.0), largest(-1.0)
        return most if np.array_equal(most, least) else None

    def sizes(self, tensor: str) -> tuple[int, ...]:
        """Shape of a tensor for one image."""
        return 1, *(size for size in self.plan.shapes[tensor][1:] if isinstance(size, int))

    def observer(self) -> "Traffic":
        """Counts what is sent while some images run; ``add`` takes it in."""
        return Traffic(self)

    def add(self, traffic: "Traffic") -> None:
        """Take in what was sent while some images ran."""
        self.total.add(traffic)

    def up_to(self, step: int, images: int) -> dict[str, float]:
        """Means over the images of the first ``step`` steps, as keys of ``eval --json``."""
        spikes, synops, graded = (
            sum(value for t, value in table.items() if t <= step) / images
            for table in (self.total.spikes, self.total.synops, self.total.graded_macs)
        )
        return {
            **self.energies(spikes, synops, graded),
            "neuron_uj": self.neurons * step * PICOJOULE_AC * MICROJOULE,
        }

    def energies(
        self, spikes: float, synops: float, graded_macs: float, answers: float = 1.0
    ) -> dict[str, float]:
        """Means per image of what was sent, and its energy, as keys of ``eval --json``.

        Args:
            spikes: sent or taken back.
            synops: synaptic operations.
            graded_macs: multiply-accumulates of values.
            answers: how often the tail ran.
        """
        macs = self.head_macs + self.tail_macs * answers + graded_macs
        return {
            "spikes_per_image": spikes,
            "synops_per_image": synops,
            "energy_uj": (synops * PICOJOULE_AC + macs * PICOJOULE_MAC) * MICROJOULE,
            "energy_int_uj": (synops * PICOJOULE_AC_INTEGER + macs * PICOJOULE_MAC_INTEGER)
            * MICROJOULE,
        }


class ImageTraffic(Observer):
    """What is sent, step by step, by every image.

    All numbers are whole and below 2^53: sums do not depend on the order of adding.

    Attributes:
        spikes: step to number of spikes, sent or taken back, [N].
        synops: step to synaptic operations, [N].
        graded_macs: step to multiply-accumulates of values, [N].
    """

    TABLES = ("spikes", "synops", "graded_macs")

    def __init__(self, meter: EnergyMeter) -> None:
        self.meter = meter
        self.spikes: defaultdict[int, Any] = defaultdict(float)
        self.synops: defaultdict[int, Any] = defaultdict(float)
        self.graded_macs: defaultdict[int, Any] = defaultdict(float)
        self.last: dict[str, Any] = {}

    def count(self, table: defaultdict[int, Any], step: int, numbers: NDArray[np.float64]) -> None:
        """Add what each image, [N], has sent in a step."""
        table[step] = table[step] + numbers

    def observe_values(self, name: str, first_step: int, values: Any) -> None:
        """A value that is sent: one multiply-accumulate for each weight that it meets."""
        for offset, value in enumerate(values):
            sent = value != self.last.get(name, 0)
            fan_out = self.meter.value_fan_out[name]
            macs = sent.reshape(-1, fan_out.size) @ fan_out  # an image may have several rows
            self.count(self.graded_macs, first_step + offset, macs)
            if self.meter.estimates:
                self.last[name] = value

    def observe(self, unit: Stateful, first_step: int, outputs: Any, counts: Any) -> None:
        """Add what one stateful operator sent in one chunk."""
        if unit.operator.is_readout:
            return
        fan_out = self.meter.fan_out[unit.name]
        for offset, output in enumerate(outputs):
            step = first_step + offset
            if counts is not None:
                sent = np.abs(counts[offset]).reshape(-1, fan_out.size)
                self.count(self.spikes, step, sent.sum(axis=1, dtype=np.float64))
            elif unit.name in self.meter.threshold_of:
                sent = np.rint(np.abs(output / self.meter.threshold_of[unit.name]))
            else:
                active = (output != 0).reshape(-1, fan_out.size)
                self.count(self.graded_macs, step, active @ fan_out)
                continue
            self.count(self.synops, step, sent.reshape(-1, fan_out.size) @ fan_out)


class Traffic(ImageTraffic):
    """What is sent, step by step, summed over images: step to one number."""

    def count(self, table: defaultdict[int, Any], step: int, numbers: NDArray[np.float64]) -> None:
        """Add what all images have sent in a step."""
        table[step] += float(numbers.sum())

    def add(self, other: "Traffic") -> None:
        """Add what another one has counted."""
        for name in self.TABLES:
            mine, theirs = getattr(self, name), getattr(other, name)
            for step, value in theirs.items():
                mine[step] += value

    def as_dict(self) -> dict[str, list[tuple[int, float]]]:
        """The sums as JSON data."""
        return {name: sorted(getattr(self, name).items()) for name in self.TABLES}

    def restore(self, table: Callable[[str], Iterable[tuple[int, float]]]) -> None:
        """The inverse of `as_dict`: ``table`` gives the rows under a name."""
        for name in self.TABLES:
            setattr(self, name, defaultdict(float, dict(table(name))))


def ann_energy(macs: float) -> float:
    """Energy of the ANN in microjoules per image."""
    return macs * PICOJOULE_MAC * MICROJOULE


def quantised_energy(macs: float) -> float:
    """Energy of the quantised ANN in integer arithmetic, microjoules per image."""
    return macs * PICOJOULE_MAC_INTEGER * MICROJOULE
