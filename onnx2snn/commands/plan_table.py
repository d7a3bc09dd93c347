"""``onnx2snn inspect --plan``: the parts that the engine runs, and the memory they take."""

import math
from typing import Any

import onnx

from onnx2snn.console import print_out, print_table
from onnx2snn_runtime.backends import open_backend
from onnx2snn_runtime.engine import Engine
from onnx2snn_runtime.planning.plan import FLOAT_BYTES, Segment, Shape, Stateful, tensor_bytes
from onnx2snn_runtime.planning.planner import make_plan

MANY_STEPS = 10**6


def plan_of(model: onnx.ModelProto) -> dict[str, Any]:
    """The plan as JSON data; bytes are for one image and one step."""
    backend, _ = open_backend()
    engine = Engine(make_plan(model), backend)
    plan = engine.plan
    parts = [("head", plan.head), *(("", unit) for unit in plan.units), ("tail", plan.tail)]
    images = engine.schedule.images_at_once(MANY_STEPS)
    return {
        "backend": backend.name,
        "channel_block": backend.channel_block,
        "parts": [_part(engine, label, unit) for label, unit in parts if unit is not None],
        "state_bytes": plan.footprint.state_bytes,
        "alive_bytes": plan.footprint.row_bytes,
        "memory": engine.schedule.memory,
        "images_at_once": images,
        "steps_at_once": engine.schedule.chunk_steps(images, MANY_STEPS),
        "batches_at_once": backend.batches_at_once,
    }


def _part(engine: Engine, label: str, unit: Segment | Stateful) -> dict[str, Any]:
    if isinstance(unit, Segment):
        outputs = list(unit.outputs)
        weights = sum(tensor_bytes(item) for item in unit.model.graph.initializer)
        found = {
            "part": label or "segment",
            "operators": [node.op_type for node in unit.model.graph.node],
            "weight_bytes": weights,
            "state_bytes": 0,
        }
    else:
        outputs = [unit.output]
        found = {
            "part": "stateful",
            "operators": [unit.operator.function_name],
            "weight_bytes": 0,
            "state_bytes": sum(map(_bytes, unit.state_shapes)),
        }
    shapes = [engine.plan.shapes.get(name, ()) for name in outputs]
    return {
        **found,
        "outputs": {name: list(shape) for name, shape in zip(outputs, shapes, strict=True)},
        "output_bytes": sum(map(_bytes, shapes)),
        "in_place": not isinstance(unit, Segment)
        and unit.share is None
        and engine.plan.units.index(unit) in engine.last_readers,
        "joint": not isinstance(unit, Segment) and unit.share is not None,
        "blocked": bool(outputs) and set(outputs) <= engine.blocked,
    }


def _bytes(shape: Shape) -> int:
    return FLOAT_BYTES * math.prod(size for size in shape if isinstance(size, int))


def show_plan(plan: dict[str, Any]) -> None:
    """The plan as a table."""
    header = ["part", "operators", "output", "KiB", "states KiB", "weights KiB", "layout"]
    rows = []
    for part in plan["parts"]:
        layout = [f"blocks of {plan['channel_block']}"] if part["blocked"] else []
        layout += ["in place"] if part["in_place"] else []
        layout += ["part of a Concat"] if part["joint"] else []
        shapes = (" × ".join(map(str, shape[1:])) for shape in part["outputs"].values())
        rows.append([
            part["part"], " ".join(part["operators"]), ", ".join(shapes),
            *(f"{part[key] / 1024:.0f}" for key in ("output_bytes", "state_bytes", "weight_bytes")),
            ", ".join(layout),
        ])  # fmt: skip
    print_table(f"plan on {plan['backend']}, for one image and one step", header, rows)
    print_out(
        f"{plan['batches_at_once']} batches at once of {plan['images_at_once']} images, "
        f"{plan['steps_at_once']} steps in a chunk; states {plan['state_bytes'] / 2**20:.1f} MiB "
        f"an image, alive together {plan['alive_bytes'] / 2**20:.1f} MiB an image and step; "
        f"budget {plan['memory'] / 2**20:.0f} MiB a batch"
    )
