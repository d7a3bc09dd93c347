"""``onnx2snn inspect``."""

import argparse
import collections
from typing import Any

import numpy as np
import onnx

from onnx2snn.commands.plan_table import plan_of, show_plan
from onnx2snn.console import number_range, print_json, print_out, print_table
from onnx2snn.energy.costs import macs_between
from onnx2snn.energy.estimate import EnergyMeter
from onnx2snn.energy.fan_in import FanIn
from onnx2snn.integer.units import described
from onnx2snn.rewriting.work import describe
from onnx2snn_runtime.errors import UsageError
from onnx2snn_runtime.files.models import load_model
from onnx2snn_runtime.format import is_spiking, read_metadata
from onnx2snn_runtime.ops import OPERATORS
from onnx2snn_runtime.planning.plan import Stateful, tensor_shape
from onnx2snn_runtime.planning.planner import make_plan


def run(options: argparse.Namespace) -> int:
    """Show a network of either kind."""
    model = load_model(options.model)
    found = spiking(model) if is_spiking(model) else plain(model)
    if options.plan:
        if found["kind"] != "spiking":
            raise UsageError("--plan is about spiking networks; this is an ANN")
        found["plan"] = plan_of(model)
    if options.json:
        print_json(found)
        return 0
    shapes = [[name, " × ".join(map(str, shape))] for name, shape in found["inputs"].items()]
    print_table(str(options.model), ["input", "shape"], shapes)
    if found["kind"] == "spiking":
        header = ["layer", "law", "neurons", "threshold", "γ", "peak spikes", "synapses",
                  "fan-in", "fan-out"]  # fmt: skip
        rows = [
            [layer["name"], layer["law"], layer["neurons"], number_range(layer["threshold"]),
             *("" if layer[key] is None else f"{layer[key]:.0f}" for key in
               ("burst_limit", "peak_spikes", "synapses", "fan_in", "fan_out"))]
            for layer in found["layers"]
        ]  # fmt: skip
        print_table("layers", header, rows)
        for of, counts in (found["work"] or {}).items():
            print_out(describe(of, counts))
        recipe = found["metadata"].get("recipe", {})
        print_out(f"recipe {recipe.get('name')}, recommended T {found['recommended_t']}, "
                  f"verified {found['metadata'].get('verified')}")  # fmt: skip
        if found["precision"] != "float":
            print_out(described(found["metadata"]["integer"]))
        if options.plan:
            show_plan(found["plan"])
    else:
        rows = [[op, count, law] for op, (count, law) in found["operators"].items()]
        print_table("operators", ["operator", "nodes", "behaviour over time"], rows)
    return 0


def spiking(model: onnx.ModelProto) -> dict[str, Any]:
    """What there is to know about a spiking network."""
    plan, metadata = make_plan(model), read_metadata(model)
    meter = EnergyMeter(model, plan)
    fan_in = FanIn(model, meter.connections)
    macs = macs_between(model, {unit.output for unit in plan.stateful})
    layers = [
        layer_of(unit, fan_in, meter.fan_out.get(unit.name), macs[unit.output])
        for unit in plan.stateful
    ]
    return {
        "kind": "spiking",
        "inputs": {name: list(shape) for name, shape in plan.inputs.items()},
        "outputs": list(plan.outputs),
        "layers": layers,
        "work": metadata.get("work"),
        "metadata": metadata,
        "precision": "int8" if metadata.get("integer") else "float",
        "weight_bits": (metadata.get("integer") or {}).get("weight_bits"),
        "recommended_t": metadata.get("recommended_t"),
    }


def layer_of(unit: Stateful, fan_in: FanIn, fan_out: Any, macs: int) -> dict[str, Any]:
    """What there is to know about one layer with a state, as a chip must hold it.

    ``synapses``, the largest ``fan_in`` and the largest ``fan_out`` count nonzero weights, padding
    left out; ``peak_spikes`` is what the layer can send in one step at most.
    """
    threshold = unit.threshold
    sizes = [size for size in unit.state_shapes[-1] if isinstance(size, int)]
    neurons = int(np.prod(sizes)) if sizes else 0
    limit = unit.operator.attributes.get("burst_limit")
    return {
        "name": unit.name,
        "law": unit.operator.function_name,
        "neurons": neurons,
        "macs": macs,
        "threshold": None if threshold is None else
        (float(threshold.min()), float(threshold.max())),
        "burst_limit": limit,
        "peak_spikes": None if limit is None else int(limit) * neurons,
        "synapses": None if fan_out is None else int(fan_out.sum()),
        "fan_in": int(arriving(unit, fan_in).max(initial=0)) if unit.operator.spiking else None,
        "fan_out": None if fan_out is None else int(fan_out.max(initial=0)),
    }  # fmt: skip


def arriving(unit: Stateful, fan_in: FanIn) -> Any:
    """Connections that arrive at each neuron of a layer; a finer output has no others."""
    operator = unit.operator
    own = range(len(operator.inputs_of_base()))
    return sum(fan_in.of(unit.inputs[k]) for k in operator.signature.moving if k in own)


def plain(model: onnx.ModelProto) -> dict[str, Any]:
    """What there is to know about an ANN."""
    weights = {item.name for item in model.graph.initializer}
    counts = collections.Counter(node.op_type for node in model.graph.node)
    return {
        "kind": "ann",
        "inputs": {
            value.name: list(tensor_shape(value))
            for value in model.graph.input
            if value.name not in weights
        },
        "outputs": [value.name for value in model.graph.output],
        "operators": {
            op: (count, OPERATORS[op].law.value if op in OPERATORS else "only in head and tail")
            for op, count in sorted(counts.items())
        },
        "metadata": {},
    }
