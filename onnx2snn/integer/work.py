"""Rewrites the nodes of a network one after the other, until branches agree on their units."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import NodeProto, helper

from onnx2snn.calibration.calibrate import LayerCalibration
from onnx2snn.integer.graph import IntegerGraph, MissingSignalError
from onnx2snn.integer.groups import Groups
from onnx2snn.integer.registry import FINE, RULES
from onnx2snn.integer.roles import Roles
from onnx2snn.integer.signals import (
    LEVELS,
    Array,
    NoIntegerFormError,
    Quantised,
    Signal,
    compact,
    filled,
    fits,
    quantise,
    spread,
)
from onnx2snn.passes.base import Note
from onnx2snn.recipes import Recipe
from onnx2snn.rewriting.classify import Placed, Role
from onnx2snn.rewriting.rewrite import HUGE
from onnx2snn_runtime.errors import Finding
from onnx2snn_runtime.neurons.integer import EXACT_LIMIT, SUM_LIMIT

INPUT_BITS, LEAST_INPUT_BITS = 11, 8  # without the sign; more would not fit TF32 and fp16
ROUNDS = 40
LARGEST_LOSS = 0.1  # of weights by rounding; 8 bits usually lose a hundredth
BETWEEN = "put an activation between the two weighted layers, or use --precision float"
TOO_LARGE = "its sums could reach 2^24, where float32 no longer adds whole numbers exactly"


class _AgainError(Exception):
    """Bits or units have changed: start over."""


class IntegerWork(IntegerGraph):
    """One network on its way into whole numbers.

    Args:
        network: the normalised float network.
        roles: what becomes of its nodes.
        calibration: output tensor of a neuron to its threshold in real units.
        recipe: settings of the neurons.
        ranges: tensor that becomes whole numbers to its largest magnitude.

    Attributes:
        thresholds: output tensor of a neuron to its integer threshold.
        input_bits: tensor that becomes whole numbers to its bits, without the sign.
        weight_bits: weighted node to the bits of its weights.
        largest_factor: largest magnitude that meets weights.
        findings: what cannot be done.
        notes: where weights have fewer than 8 bits.
    """

    def __init__(
        self,
        network: onnx.ModelProto,
        roles: Roles,
        calibration: Mapping[str, LayerCalibration],
        recipe: Recipe,
        ranges: Mapping[str, float],
    ) -> None:
        self.roles, self.recipe, self.ranges = roles, recipe, ranges
        self.calibration = calibration
        self.groups = Groups(roles)
        self.input_bits = dict.fromkeys(roles.quantised, INPUT_BITS)
        self.units: dict[str, Array] = {}  # group to the scales of its outputs
        self.levels: dict[str, int] = {}  # weighted node to its largest weight
        self.without_weights: set[str] = set()  # groups whose branches met before any weights
        super().__init__(network, roles.quantised)

    def start(self) -> None:
        """Forget all but bits and common units."""
        super().start()
        self.thresholds: dict[str, LayerCalibration] = {}
        self.origins: dict[str, frozenset[str]] = {}
        self.whole: dict[str, str] = {}  # input of floats to the tensor of its whole numbers
        self.weight_bits: dict[str, int] = {}
        self.largest_factor = 0
        self.findings: list[Finding] = []
        self.notes: list[Note] = []
        self.changed = False

    def run(self) -> None:
        """Rewrite all nodes, again as long as units or bits change."""
        for _ in range(ROUNDS):
            self.start()
            try:
                self.attempt()
            except _AgainError:
                continue
            if not self.changed:
                return
        self.findings.append(
            Finding("its branches come to no common unit", "convert with --precision float")
        )

    def attempt(self) -> None:
        """Rewrite all nodes once."""
        for index, item in enumerate(self.roles.placed):
            node = NodeProto()
            node.CopyFrom(item.node)
            if item.role is Role.TAIL or index in self.roles.front or not item.moving:
                self.placed.append(Placed(node, item.role, item.moving))
                continue
            self.role = item.role
            try:
                self.rewrite_node(node, item)
            except NoIntegerFormError as problem:
                why, advice = problem.args
                self.findings.append(Finding(why, advice, node.name, item.node.op_type))
            except MissingSignalError:
                continue
        for name in self.roles.readouts:
            if name in self.signals:
                self.prove(name, SUM_LIMIT - 1, self.signals[name].bound)

    def rewrite_node(self, node: NodeProto, item: Placed) -> None:
        """One node in whole numbers, behind what it needs."""
        for name in dict.fromkeys(node.input):
            if name in self.input_bits and name not in self.signals:
                self.quantise_input(name)
        for index, name in enumerate(node.input):
            if name in self.input_bits:
                node.input[index] = self.whole[name]
        origins = [self.origins.get(name, frozenset()) for name in node.input]
        arriving = frozenset().union(*origins)
        neuron = item.role is Role.NEURON
        self.origins.update(dict.fromkeys(node.output, frozenset() if neuron else arriving))
        results = [self.neuron(node)] if neuron else RULES[node.op_type](self, node)
        self.signals.update(zip(node.output, results, strict=True))
        if item.role is Role.POOL:
            self.prove(node.name, EXACT_LIMIT - 1, results[0].bound)
        moving = tuple(k for k, name in enumerate(node.input) if name and name not in self.arrays)
        self.placed.append(Placed(node, item.role, moving))

    def weigh(
        self, node: NodeProto, weight: Array, low: Array, high: Array, beta: float = 1.0
    ) -> Quantised:
        """Integer weights [O,K] of an operator, and its bias, which is stored at once.

        Args:
            node: the operator.
            weight: in real units per integer of the input, [O,*].
            low: least input, broadcastable to the weights.
            high: largest input, the same.
            beta: factor on the bias.

        Raises:
            _AgainError: bits or units have changed: start over.
            NoIntegerFormError: with the reason and the advice.
        """
        shape, outputs = weight.shape, len(weight)
        biased = len(node.input) > 2 and bool(node.input[2])
        bias = np.zeros(outputs)
        if biased:
            bias = np.broadcast_to(self.constant(node, 2).reshape(-1) * beta, (outputs,))
        ends = np.stack([np.broadcast_to(end, shape).reshape(outputs, -1) for end in (low, high)])
        group = self.groups.of(node.output[0])
        known = self.units.get(group)
        if known is not None and len(known) != outputs:
            raise NoIntegerFormError(
                "branches of different shapes meet", "export them in one shape"
            )
        found = self.with_bits(node, weight.reshape(outputs, -1), bias, ends, known)
        if self.groups.is_uniform(group):
            most = np.full(outputs, found.scale.max())
            if (found.scale < most).any():
                self.units[group] = most
                raise _AgainError
        settled = known is not None and np.array_equal(known, found.scale)
        if self.groups.is_shared(group) and not settled:
            self.changed |= known is not None or group in self.without_weights
            self.units[group] = found.scale
        if biased:
            self.store(node, 2, found.bias)
        self.weight_bits[node.name] = found.bits
        self.largest_factor = max(self.largest_factor, int(np.abs(ends).max()))
        return found

    def with_bits(
        self, node: NodeProto, weight: Array, bias: Array, ends: Array, known: Array | None
    ) -> Quantised:
        """The most bits with which no sum can leave the exact range.

        Raises:
            NoIntegerFormError: with the reason and the advice.
        """
        for levels in LEVELS:
            if levels > self.levels.get(node.name, levels):
                continue  # as an earlier round has found
            found = quantise(weight, bias, ends, levels, known)
            if fits(found.partial) and found.loss > LARGEST_LOSS:
                raise NoIntegerFormError(
                    f"rounding takes {100 * found.loss:.0f} % of its weights: spikes and large "
                    "sums meet in it",
                    BETWEEN,
                )
            if fits(found.partial):
                if found.bits < LEVELS[0].bit_length() + 1:
                    why = f"weights of {node.name!r} have {found.bits} bits: with more {TOO_LARGE}"
                    self.notes.append(Note("integer", node.name, why, is_warning=True))
                self.levels[node.name] = levels
                return found
            self.lower_input(node)
        raise NoIntegerFormError(TOO_LARGE, self.advice(node))

    def advice(self, node: NodeProto) -> str:
        """What helps against large sums."""
        direct = self.signals.get(node.input[0])
        if direct is not None and direct.bound > self.recipe.burst_limit:
            return BETWEEN
        return "give a smaller --burst, or use --precision float"

    def lower_input(self, node: NodeProto) -> None:
        """Take a bit off the images that reach this node without a neuron, and start over.

        Raises:
            _AgainError: bits or units have changed: start over.
        """
        origins = self.origins.get(node.output[0], frozenset())
        able = [name for name in origins if self.input_bits[name] > LEAST_INPUT_BITS]
        for name in able:
            self.input_bits[name] -= 1
        if able:
            raise _AgainError

    def check_sum(self, node: NodeProto, bound: float) -> None:
        """Refuse a sum without weights that float32 may not hold.

        Raises:
            NoIntegerFormError: with the reason and the advice.
        """
        if not fits(bound):
            self.lower_input(node)
            raise NoIntegerFormError(TOO_LARGE, self.advice(node))

    def common_unit(self, output: str, signals: Sequence[Signal], shape: tuple[int, ...]) -> Array:
        """The unit in which branches meet.

        Raises:
            NoIntegerFormError: with the reason and the advice.
        """
        group = self.groups.of(output)
        known = self.units.get(group)
        if known is None:
            self.without_weights.add(group)
            units = [np.where(s.is_zero, np.inf, np.broadcast_to(s.unit, shape)) for s in signals]
            least = np.min(units, axis=0)
            return np.where(np.isfinite(least), least / FINE, 1.0)
        axis = 1 if shape[1] == len(known) else -1
        if shape[axis] != len(known):
            raise NoIntegerFormError(
                "branches of different shapes meet", "export them in one shape"
            )
        return spread(known, shape, axis)

    def coarsen(self, output: str, unit: Array, ratio: Array) -> None:
        """Make a common unit coarser until a branch is a whole multiple of it.

        Raises:
            _AgainError: bits or units have changed: start over.
            NoIntegerFormError: with the reason and the advice.
        """
        group = self.groups.of(output)
        known = self.units.get(group)
        if known is None or (ratio < 1).any():
            raise NoIntegerFormError(
                "a branch without weights is finer than the weights of the other branch can be",
                "calibrate with more images, or use --per-layer",
            )
        axis = 1 if unit.shape[1] == len(known) else unit.ndim - 1
        others = tuple(k for k in range(unit.ndim) if k != axis)
        wanted = (unit / np.floor(ratio)).max(axis=others)
        coarse = np.abs(np.floor(ratio) / ratio - 1).max(axis=others) > 0
        units = np.where(coarse, np.maximum(known, wanted), known)
        if np.array_equal(units, known):
            raise NoIntegerFormError("its branches come to no common unit", "use --per-layer")
        self.units[group] = units
        raise _AgainError

    # the image and the neurons

    def quantise_input(self, name: str) -> None:
        """Round to whole steps within the range."""
        bits = self.input_bits[name]
        most = float(2**bits - 1)
        step = np.float32(self.ranges[name] / most)
        parts = {"step": step, "lowest": np.float32(-most), "highest": np.float32(most)}
        names = {key: self.add_constant(f"{name}.{key}", np.asarray(v)) for key, v in parts.items()}
        steps, rounded, whole = (
            self.free(f"{name}.{part}") for part in ("steps", "rounded", "integer")
        )
        lines = [
            ("Div", [name, names["step"]], steps),
            ("Round", [steps], rounded),
            ("Clip", [rounded, names["lowest"], names["highest"]], whole),
        ]
        shape = self.shape(name)
        for op, inputs, output in lines:
            self.placed.append(
                Placed(helper.make_node(op, inputs, [output], output), Role.HEAD, (0,))
            )
            self.added_shapes[output] = shape
        self.signals[name] = self.signals[whole] = filled(shape, step, -most, most)
        self.whole[name], self.origins[whole] = whole, frozenset([name])

    def neuron(self, node: NodeProto) -> Signal:
        """Integer threshold and bounds of a neuron.

        Raises:
            NoIntegerFormError: with the reason and the advice.
        """
        signal, layer = self.read(node, 0), node.output[0]
        shape = self.shape(layer)
        threshold = np.broadcast_to(np.asarray(self.calibration[layer].threshold, float), shape)
        low = 0.0
        if node.op_type == "Clip":
            ends = [float(self.arrays[name]) for name in node.input[1:3]]
            cap = max(abs(end) for end in ends)
            threshold = np.minimum(threshold, cap if 0 < cap < HUGE else np.inf)
            low = self.bounds_of(node, ends, signal)
        whole = np.maximum(np.rint(threshold / signal.unit), 1)
        if not fits(float(whole.max())):
            raise NoIntegerFormError(
                "its threshold is more than 2^24 times its unit", "use --per-layer or --scale"
            )
        entry = replace(self.calibration[layer], threshold=compact(whole).astype(np.float32))
        self.thresholds[layer] = entry
        self.prove(node.name, SUM_LIMIT - 1 - 2 * int(whole.max()), signal.bound)
        limit = float(self.recipe.burst_limit)
        least = -limit if self.recipe.signed or low < 0 else 0.0
        return filled(shape, whole * signal.unit, least, limit)

    def bounds_of(self, node: NodeProto, ends: list[float], signal: Signal) -> float:
        """Bounds of a Clip as whole numbers of its input; one from 0 to infinity is a ReLU.

        Beyond the bounds of the input itself they would change nothing: they are cut to them.
        """
        if ends[0] == 0 and ends[1] >= HUGE:
            node.op_type = "Relu"
            del node.input[1:]
            return 0.0
        for index, end in enumerate(ends, start=1):
            whole = np.clip(np.rint(end / signal.unit), -signal.bound, signal.bound)
            name = self.add_constant(f"{node.name}.bound.{index}", compact(whole))
            self.arrays[name] = self.arrays[name].astype(np.float32)
            node.input[index] = name
        return ends[0]
