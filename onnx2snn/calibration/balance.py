"""How fine each layer should be: reverse water-filling over layers.

Let δ_l be the last unit of layer l in units of its own range (99.9 % of its activations). Rounding
to δ_l changes the decision values by an error whose square is s_l·δ_l² (measured, one layer at a
time), and every halving of δ_l costs about c_l synaptic operations, those of one spike of each
active neuron. The least error for a given cost then has

    δ_l² ∝ c_l / s_l          (Lagrange multipliers on Σ s_l δ_l² and −Σ c_l log2 δ_l)

so that layers that matter much or cost little, often the first and the last, are made finer.

An estimate begins at what its channel usually answers instead of zero: that has not to be sent, and
the layers behind get something near their usual input from step 1 on. A median would need the
fewest spikes; activations are skewed, and a quantile below it errs less in deep networks for the
same spikes. It is rounded to whole units, else neurons that answer zero would never return to it.
"""

from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from math import ceil, log2
from typing import Any

import numpy as np
import onnx
from onnx import helper

from onnx2snn.calibration.calibrate import LayerCalibration, with_outputs
from onnx2snn.decision import decision_values
from onnx2snn.energy.estimate import PICOJOULE_AC, PICOJOULE_MAC
from onnx2snn.energy.fan_out import FanOut
from onnx2snn.recipes import Recipe
from onnx2snn_runtime.backends import Backend
from onnx2snn_runtime.naming import free_name

Array = Any
PROBE = 1.0 / 64  # unit of the rounding that measures s_l: small enough for a linear response
FACTORS = (1.0 / 16, 4.0)
USUAL = 0.4  # quantile of a channel's activations that its estimates begin with …
USUAL_POSITIONS = 1024  # … from so many values of an image at most
START_GRID = 2  # … in whole multiples of so many last units
FIRST_REACH = 0.5  # the first burst reaches at least this part of a layer's range …
GENTLE_REACH = 0.5  # … and where bursts are small, so that the unit never grows, at least this


@dataclass(frozen=True)
class Balance:
    """Fineness of the layers against each other.

    Attributes:
        ranges: layer to its range, in units of the ANN's activation.
        factors: layer to the factor on the common last unit; their cost-weighted mean is 1.
        usual: layer to what each of its channels usually answers, [1,C,1,…].
    """

    ranges: dict[str, float]
    factors: dict[str, float]
    usual: dict[str, Array]

    def pace(self, recipe: Recipe) -> dict[str, tuple[int, int]]:
        """How often each layer's unit halves, and how often in a step (decay).

        From a layer's last unit, ``precision`` · factor in units of its range, back to a first one
        that is coarser by about as many halvings as bring a layer of factor 1 to ``first_unit``,
        but by so many that the last halving falls on the last step, and by more where the first
        burst would not reach its range. The decay is the least that makes all halvings within the
        recommended steps; then the unit stays.
        """
        assert recipe.precision is not None
        limit, steps = recipe.burst_limit, recipe.recommended_timesteps
        if steps == 1:
            return dict.fromkeys(self.factors, (0, 1))
        least = GENTLE_REACH if recipe.has_small_bursts else FIRST_REACH / limit
        common = max(0, round(log2(recipe.first_unit / recipe.precision)))
        common = min(common, max(1, round(common / (steps - 1))) * (steps - 1))
        found = {}
        for name in self.factors:
            halvings = max(common, ceil(log2(least / self.last_unit(name, recipe))))
            found[name] = (halvings, max(1, ceil(halvings / (steps - 1))))
        return found

    def last_unit(self, layer: str, recipe: Recipe) -> float:
        """Unit of a layer after the recommended steps, in units of its range."""
        assert recipe.precision is not None
        return recipe.precision * float(self.factors[layer] ** recipe.unevenness)

    def without_idle_steps(self, recipe: Recipe) -> Recipe:
        """The same units in as few steps as halve them, where fewer do.

        Small bursts need the steps in which no unit halves: a unit at a time they catch up.
        """
        if recipe.has_small_bursts:
            return recipe
        pace = self.pace(recipe)
        steps = 1 + max(ceil(halvings / decay) for halvings, decay in pace.values())
        shorter = replace(recipe, recommended_timesteps=steps)
        return shorter if self.pace(shorter) == pace else recipe

    def apply(
        self, calibration: Mapping[str, LayerCalibration], recipe: Recipe
    ) -> dict[str, LayerCalibration]:
        """First unit, decay, number of halvings (``pace``) and start of every layer."""
        pace = self.pace(recipe)
        found = {}
        for name, entry in calibration.items():
            halvings, decay = pace[name]
            last = self.last_unit(name, recipe)
            unit = np.full_like(entry.threshold, last * 2.0**halvings * self.ranges[name])
            grid = START_GRID * last * self.ranges[name]
            start = (np.rint(self.usual[name] / grid) * grid).astype(np.float32)
            found[name] = replace(
                entry, threshold=unit, decay=decay, halvings=halvings, saturated=0.0,
                start=start if start.any() else None,
            )  # fmt: skip
        return found


def measure_balance(
    ann: onnx.ModelProto,
    ranges: Mapping[str, float],
    graded: Collection[str],
    sums: Collection[str],
    exact: AbstractSet[tuple[str, str]],
    batches: Iterable[Mapping[str, Any]],
    backend: Backend,
) -> Balance:
    """Measure s_l and c_l on images.

    Args:
        ann: normalised network.
        ranges: neuron layers by output tensor, with their ranges.
        graded: outputs of the nonlinear operators between neurons.
        sums: values that meet weights there (see ``fan_out.FanOut``).
        exact: nodes, with the layers that they read without rounding (``shortcuts``).
        batches: images by input name.
        backend: where the ANN runs.
    """
    known = {name: size or 1.0 for name, size in ranges.items()}
    run = backend.compile(with_outputs(ann, known))
    run_rounded = backend.compile(rounded(ann, list(known), exact))
    outputs = [output.name for output in ann.graph.output]
    nothing = {step_name(name): np.zeros((), np.float32) for name in known}
    images = 0
    squares = dict.fromkeys(outputs, 0.0)
    distances = {layer: dict.fromkeys(outputs, 0.0) for layer in known}
    active: dict[str, Array] = dict.fromkeys(known, 0)
    seen: dict[str, list[Array]] = {layer: [] for layer in known}
    for feeds in batches:
        plain = run(feeds)
        images += len(next(iter(feeds.values())))
        expected = {name: decision_values(plain[name]) for name in outputs}
        for name, values in expected.items():
            squares[name] += _sum_of_squares(values)
        for layer, size in known.items():
            active[layer] = active[layer] + (np.abs(plain[layer]) > size * PROBE).sum(axis=0)
            seen[layer].append(some_values(plain[layer]))
            step = {step_name(layer): np.asarray(size * PROBE, np.float32)}
            changed = run_rounded({**feeds, **nothing, **step})
            for name, values in expected.items():
                distances[layer][name] += _sum_of_squares(decision_values(changed[name]), values)

    fan_out = FanOut(ann, graded, sums, PICOJOULE_MAC / PICOJOULE_AC)
    measured = {}
    for layer in known:
        sends = active[layer] / images * np.maximum(fan_out.of(layer)[0], 1.0)
        errors = (distances[layer][name] / max(squares[name], 1e-30) for name in outputs)
        measured[layer] = (float(sends.sum()), sum(errors))
    usual = {
        layer: usual_answers(np.concatenate(parts), active[layer].ndim + 1)
        for layer, parts in seen.items()
    }
    return Balance(known, _factors(measured), usual)


def some_values(activations: Array) -> Array:
    """Evenly spaced values of every channel, [N,C,P] of [N,C,*] or [N], P ≤ USUAL_POSITIONS."""
    (channels,) = activations.shape[1:2] or (1,)
    values = activations.reshape(len(activations), channels, -1)
    return values[:, :, :: ceil(values.shape[2] / USUAL_POSITIONS)].copy()


def usual_answers(values: Array, rank: int) -> Array:
    """What each channel usually answers, [1,C,1,…] of this rank, from values [N,C,P]."""
    quantiles = np.quantile(values, USUAL, axis=(0, 2)).astype(np.float32)
    return quantiles.reshape((1, -1, *(1,) * (rank - 2))[:rank])


def _factors(measured: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    costs = np.maximum([cost for cost, _ in measured.values()], 1.0)
    errors = np.array([error for _, error in measured.values()])
    errors = np.maximum(errors, max(errors.max(initial=0.0), 1e-30) * 1e-6)
    logarithms = 0.5 * (np.log(costs) - np.log(errors))
    logarithms -= np.average(logarithms, weights=costs)
    values = np.clip(np.exp(logarithms), *FACTORS)
    return dict(zip(measured, values.tolist(), strict=True))


def _sum_of_squares(found: Any, expected: Any = 0.0) -> float:
    """Of numbers, or of their distances from what is expected; 0 for what is not float."""
    return (
        float(((found.astype(np.float64) - expected) ** 2).sum())
        if found.dtype.kind == "f"
        else 0.0
    )


def step_name(layer: str) -> str:
    """Name of the input that says to which step a layer is rounded; 0 leaves it as it is."""
    return f"{layer}.rounding_step"


def rounded(
    ann: onnx.ModelProto,
    layers: list[str],
    unchanged: AbstractSet[tuple[str, str]] = frozenset(),
) -> onnx.ModelProto:
    """The ANN with an input per layer that rounds its activations to whole steps.

    Args:
        ann: the network.
        layers: the layers.
        unchanged: nodes, by name, with the layers that they read as they were.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(ann)
    graph = changed.graph
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    nodes = []
    before: dict[str, str] = {}
    for node in ann.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        nodes.append(copy)
        for index, name in enumerate(node.input):
            if (node.name, name) in unchanged:
                copy.input[index] = before[name]
        for index, name in enumerate(node.output):
            if name not in layers:
                continue
            step = step_name(name)
            exact, rounds, one, unit, ratio, whole, result = (
                free_name(f"{name}.{part}", taken.__contains__)
                for part in ("exact", "rounds", "one", "unit", "ratio", "whole", "rounded")
            )
            copy.output[index] = before[name] = exact
            nodes += [
                helper.make_node("Cast", [step], [rounds], to=onnx.TensorProto.BOOL),
                helper.make_node("Constant", [], [one], value_float=1.0),
                helper.make_node("Where", [rounds, step, one], [unit]),
                helper.make_node("Div", [exact, unit], [ratio]),
                helper.make_node("Round", [ratio], [whole]),
                helper.make_node("Mul", [whole, unit], [result]),
                helper.make_node("Where", [rounds, result, exact], [name]),
            ]
            graph.input.append(helper.make_tensor_value_info(step, onnx.TensorProto.FLOAT, []))
    del graph.node[:]
    graph.node.extend(nodes)
    return changed
