"""Spiking networks of one layer, written without the converter."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx2snn_runtime.neurons import ACTIVATIONS, FAMILIES, Signature

OPSET = 24
DOMAIN = "ai.onnx2snn"
SHAPE = (6, 5, 7)  # [C,H,W] of every signal
BURST_LIMIT = 7.0
HUGE = float(np.finfo(np.float32).max)
TICK = FAMILIES["Tick"](Signature("Identity"))

# Inputs of an activation besides the signal.
CONSTANTS: dict[str, list[np.ndarray]] = {
    "Clip": [np.float32(-0.25), np.float32(1.5)],
    "PRelu": [np.linspace(-0.5, 0.5, SHAPE[0], dtype=np.float32).reshape(-1, 1, 1)],
}
RANGES = {"Clip": (-0.25, 1.5)}
WHOLE_BOUNDS = (
    np.linspace(-40, -10, SHAPE[0]).round().astype(np.float32).reshape(1, -1, 1, 1),
    np.float32(300),
)


@dataclass(frozen=True)
class Layer:
    """One stateful operator.

    Attributes:
        family: name of the law.
        op: base operator f.
        moving: number of signals; they come first among the inputs, but for a first estimate.
        constants: further inputs of f.
        attributes: attributes of f.
        output: shape of the result without batch.
    """

    family: str
    op: str
    moving: int = 1
    constants: tuple[Any, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict, hash=False)
    output: tuple[int, ...] = SHAPE

    def __str__(self) -> str:
        """Name of the test case."""
        return f"{self.family}-{self.op}{self.moving if self.moving > 1 else ''}"

    @property
    def is_whole(self) -> bool:
        """Takes whole numbers only."""
        return self.family.startswith("Integer")

    @property
    def is_exact(self) -> bool:
        """Piecewise linear or whole: nothing in it may be rounded in two ways."""
        return self.is_whole or (self.op in ACTIVATIONS and ACTIVATIONS[self.op].rectifier)

    @property
    def signals(self) -> list[str]:
        """Names of the inputs that move."""
        return [f"signal_{index}" for index in range(self.moving)]


def threshold(whole: bool = False) -> np.ndarray:
    """A threshold per channel, [1,C,1,1]; no power of two, so that quotients are rounded."""
    if whole:
        return np.linspace(7, 31, SHAPE[0]).round().astype(np.float32).reshape(1, -1, 1, 1)
    return np.linspace(0.07, 0.31, SHAPE[0], dtype=np.float32).reshape(1, -1, 1, 1)


def start(layer: Layer) -> np.ndarray:
    """What estimates begin with, a value per channel, [1,C,1,1], in the range of f."""
    numbers = law_parameters(layer)
    ramp = np.linspace(-0.4, 0.9, SHAPE[0]).clip(numbers["low"], numbers["high"])
    return ramp.astype(np.float32).reshape(1, -1, 1, 1)


def law_parameters(layer: Layer) -> dict[str, float]:
    """The numbers of a spiking law as the converter sets them."""
    entry = ACTIVATIONS.get(layer.op)
    if layer.family == "IntegerIF":
        return {"v0": 0.5, "burst_limit": BURST_LIMIT, "lower_limit": -BURST_LIMIT}
    if entry is None or not layer.family.startswith(("BurstIF", "Refine")):
        return {}
    low, high = RANGES.get(layer.op, (entry.low, entry.high))
    if layer.family == "RefineFurther":  # what an estimate leaves has either sign
        low, high = -HUGE, HUGE
    if layer.family == "BurstIF":
        return {
            "v0": 0.5, "burst_limit": BURST_LIMIT, "lower_limit": -BURST_LIMIT, "rounding": 1.0,
        }  # fmt: skip
    return {
        "burst_limit": BURST_LIMIT, "growth": 2.0, "decay": 1.0, "dead_zone": 0.6,
        "lowest": -20.0, "highest": 2.0,
        "low": max(low, -HUGE), "high": min(high, HUGE),
    }  # fmt: skip


def one_layer(layer: Layer, opset: int = OPSET) -> onnx.ModelProto:
    """The spiking network that holds this layer alone, a valid file of one step."""
    count = layer.moving + len(layer.constants)
    weights = {f"constant_{i}": np.asarray(value) for i, value in enumerate(layer.constants)}
    inputs = [*layer.signals, *weights]
    if layer.family == "RefineFurther":
        first, coarse = layer.signals
        inputs = [first, *weights, coarse]
    moving = tuple(inputs.index(name) for name in layer.signals)
    operator = FAMILIES[layer.family](Signature(layer.op, count, moving))
    if operator.spiking:
        weights["threshold"] = threshold(layer.is_whole)
        inputs.append("threshold")
    if "start" in operator.stored:
        weights["start"] = start(layer)
        inputs.append("start")
    if operator.needs_step:
        inputs.append("step.next")
    sums = len(operator.state_names) - int(layer.family in ("Graded", "LIPool"))
    states = {
        name: SHAPE if index < sums else layer.output
        for index, name in enumerate(operator.state_names)
    }
    nodes = [
        helper.make_node(
            operator.function_name, [*inputs, *states], ["y", *(f"{s}.next" for s in states)],
            name="layer", domain=DOMAIN, family=layer.family, op=layer.op,
            moving=list(moving), **law_parameters(layer), **layer.attributes,
        )
    ]  # fmt: skip
    functions = [operator.function(opset)]
    make = helper.make_tensor_value_info
    clock: list[list[onnx.ValueInfoProto]] = [[], []]
    if operator.needs_step:
        nodes.insert(0, helper.make_node(
            "Tick", ["step"], ["step.next"], name="tick", domain=DOMAIN, family="Tick",
            op="Identity", moving=[0],
        ))  # fmt: skip
        functions.append(TICK.function(opset))
        clock = [[make(name, TensorProto.INT64, [])] for name in ("step", "step.next")]
    graph = helper.make_graph(
        nodes, "one_layer",
        [
            *(make(name, TensorProto.FLOAT, ["N", *SHAPE]) for name in layer.signals),
            *clock[0],
            *(make(name, operator.state_type, ["N", *shape]) for name, shape in states.items()),
        ],
        [
            make("y", TensorProto.FLOAT, ["N", *layer.output]),
            *clock[1],
            *(make(f"{n}.next", operator.state_type, ["N", *s]) for n, s in states.items()),
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    model = helper.make_model(
        graph, functions=functions, ir_version=10,
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, 1)],
    )  # fmt: skip
    onnx.checker.check_model(model, full_check=True)
    return model


def spiking_layers() -> list[Layer]:
    """Every spiking family with every activation."""
    layers = [
        Layer(family, op, 2 if family == "RefineFurther" else 1, tuple(CONSTANTS.get(op, ())))
        for family, law in sorted(FAMILIES.items())
        if law.spiking
        for op in law.activations or ACTIVATIONS
    ]
    return [
        replace(layer, constants=WHOLE_BOUNDS if layer.constants else ())
        if layer.is_whole
        else layer
        for layer in layers
    ]


def other_layers() -> list[Layer]:
    """The families that do not spike, with what they stand for in real networks."""
    channels, height, width = SHAPE
    scale = np.linspace(0.5, 1.5, width, dtype=np.float32)
    ramp = np.linspace(0.5, 1.5, channels, dtype=np.float32)
    pooling = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    half = (channels, (height + 1) // 2, (width + 1) // 2)
    axes = np.array([2, 3], np.int64)
    graded = [Layer("Graded", op, constants=tuple(CONSTANTS.get(op, ()))) for op in ACTIVATIONS]
    return [
        *graded,
        Layer("Graded", "Exp"),
        Layer("Graded", "Softmax", attributes={"axis": 1}),
        Layer("Graded", "Mul", moving=2),
        Layer("Graded", "Min", moving=2),
        Layer("Graded", "Div", moving=2),
        Layer("Graded", "LayerNormalization", constants=(scale,), attributes={"axis": -1}),
        Layer("Graded", "InstanceNormalization", constants=(ramp, ramp)),
        Layer("LIPool", "MaxPool", attributes=pooling, output=half),
        Layer("LIPool", "GlobalMaxPool", output=(channels, 1, 1)),
        Layer("LIPool", "ReduceMax", constants=(axes,), attributes={"keepdims": 0},
              output=(channels,)),
        Layer("LIPool", "Max", moving=2),
        Layer("Readout", "Identity"),
        Layer("IntegerReadout", "Mul", constants=(np.float32(0.37),)),
    ]  # fmt: skip


def frames(layer: Layer, steps: int = 8, images: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    """Noise for every signal, [T,N,C,H,W]."""
    generator = np.random.default_rng(seed)
    shape = (steps, images, *SHAPE)
    noise = {name: generator.normal(0.3, 1.0, shape) for name in layer.signals}
    if layer.is_whole:
        noise = {name: np.rint(100 * array) for name, array in noise.items()}
    return {name: array.astype(np.float32) for name, array in noise.items()}
