"""Random layers, and what the laws as written in NumPy make of them: the reference for kernels."""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st
from onnx.helper import tensor_dtype_to_np_dtype

from onnx2snn_runtime import kernels
from onnx2snn_runtime.backends import open_backend
from onnx2snn_runtime.neurons import ACTIVATIONS, FAMILIES, Chunk, Signature

OPSET = 24
HUGE = float(np.finfo(np.float32).max)
NO_PARAMETERS = st.just({})
CONSTANTS = {"Clip": 2, "PRelu": 1}  # inputs of f besides x


@dataclass
class Case:
    """A layer and its input.

    Attributes:
        family, op, attributes: the operator.
        x: input, [T,N,*].
        threshold: broadcastable to [N,*], or None.
        constants: inputs of f besides x.
        first: first estimate, [T,N,*], of an output that is finer.
        lengths: of the chunks.
        reusable: whether the output may lie over the input.
    """

    family: str
    op: str
    attributes: dict[str, Any]
    x: np.ndarray
    threshold: np.ndarray | None = None
    constants: list[np.ndarray] = field(default_factory=list)
    lengths: tuple[int, ...] = ()
    reusable: bool = False
    first: np.ndarray | None = None

    def operator(self):
        count = 1 + len(self.constants)
        signature = Signature(self.op, count, (0,))
        if self.first is not None:
            signature = Signature(self.op, count + 1, (0, count))
        return FAMILIES[self.family](signature, dict(self.attributes))

    def states(self, output=None):
        """Zeros of the shapes of the states."""
        operator = self.operator()
        shapes = [self.x.shape[1:]] * len(operator.state_names)
        if output is not None:
            shapes[-1] = output
        dtype = tensor_dtype_to_np_dtype(operator.state_type)
        return [np.zeros(shape, dtype) for shape in shapes]


@dataclass
class Result:
    """What a layer makes of its input."""

    y: np.ndarray
    counts: np.ndarray | None
    states: list[np.ndarray]


@cache
def base_function(family, op, inputs, attributes):
    """f on the numpy backend."""
    family = "Refine" if family == "RefineFurther" else family
    operator = FAMILIES[family](Signature(op, inputs, (0,)), dict(attributes))
    return open_backend("numpy")[0].compile(operator.base_model(OPSET))


def reference(case, x=None, output=None):
    """The law as it is written, in one chunk."""
    operator, x = case.operator(), case.x if x is None else x
    frozen = tuple(
        (name, tuple(value) if isinstance(value, list) else value)
        for name, value in case.attributes.items()
    )
    run = base_function(case.family, case.op, 1 + len(case.constants), frozen)

    def evaluate(arrays):
        names = ["x"] if len(arrays) == 1 else [f"x{index}" for index in range(len(arrays))]
        merged = dict(zip(names, arrays, strict=True))
        merged[names[0]] = arrays[0].reshape(-1, *arrays[0].shape[2:])
        (result,) = run(merged).values()
        return result.reshape(*arrays[0].shape[:2], *result.shape[1:])

    more = [] if case.first is None else [case.first]
    chunk = Chunk(
        [x, *case.constants, *more], case.threshold, case.states(output), 1, evaluate, record=True
    )
    return Result(operator.scan(np, chunk), chunk.counts, chunk.states)


def by_kernels(case, launch, x=None, output=None, **more):
    """The kernels, in the chunks of the case; ``more`` goes into the chunks."""
    operator, x = case.operator(), case.x if x is None else x
    states, first, outputs, counts = case.states(output), 1, [], []
    for length in case.lengths or (len(x),):
        part = x[first - 1 : first - 1 + length]
        part = part.copy() if case.reusable else part
        second = [] if case.first is None else [case.first[first - 1 : first - 1 + length]]
        chunk = Chunk(
            [part, *case.constants, *second], case.threshold, states, first, no_evaluation,
            record=True, reusable=case.reusable, **more,
        )  # fmt: skip
        y = kernels.scan(np, launch, operator, chunk)
        assert y is not None
        assert not case.reusable or y.dtype != part.dtype or y is part or case.family == "LIPool"
        outputs.append(y)
        counts.append(chunk.counts)
        states = chunk.states
        first += length
    whole = None if counts[0] is None else np.concatenate(counts)
    return Result(np.concatenate(outputs), whole, states)


def no_evaluation(arrays):
    raise AssertionError("a kernel evaluates f itself")


def assert_equal(found, expected):
    """Not a bit of difference, but for the sign of zero."""
    np.testing.assert_array_equal(found.y, expected.y)
    assert (found.counts is None) == (expected.counts is None)
    if expected.counts is not None:
        np.testing.assert_array_equal(found.counts, expected.counts)
    for ours, theirs in zip(found.states, expected.states, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype


@st.composite
def splits(draw, steps):
    """Lengths of chunks that add up to ``steps``."""
    lengths = []
    while sum(lengths) < steps:
        lengths.append(draw(st.integers(1, steps - sum(lengths))))
    return tuple(lengths)


@st.composite
def cases(draw, family, op, parameters=NO_PARAMETERS):
    """Layers of one law and activation, of odd sizes too, whose sums often hit a threshold."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    images, steps = draw(st.integers(1, 3)), draw(st.integers(1, 11))
    features = (draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 7)))
    shape = draw(st.sampled_from([(), (1, 1, 1), features, (features[0], 1, 1), features[2:]]))
    threshold = np.ones((1, *shape), np.float32) * generator.uniform(0.05, 0.6, shape)
    threshold = threshold.astype(np.float32) if shape else np.float32(threshold[0])
    x = generator.normal(draw(st.sampled_from([-0.5, 0.0, 0.6])), 1.0, (steps, images, *features))
    if draw(st.booleans()):  # ties: whole and half multiples of the threshold
        x = np.round(x * 4) / 4 * threshold
    constants = []
    if op == "Clip":
        constants = [np.float32(draw(st.sampled_from([0.0, -0.4]))), np.float32(1.1)]
    elif op == "PRelu":
        slopes = draw(st.sampled_from([(1, 1, 1), (features[0], 1, 1), features]))
        constants = [generator.uniform(-0.5, 0.5, slopes).astype(np.float32)]
    given = threshold if FAMILIES[family].spiking else None
    return Case(
        family, op, draw(parameters), x.astype(np.float32), given, constants,
        draw(splits(steps)), draw(st.booleans()),
    )  # fmt: skip


@st.composite
def burst_parameters(draw, **attributes):
    """Numbers of the burst neuron: every limit, with and without retraction."""
    limit = float(draw(st.integers(1, 16)))
    return {
        "v0": draw(st.sampled_from([0.0, 0.5])),
        "burst_limit": limit,
        "lower_limit": draw(st.sampled_from([0.0, -limit])),
        "rounding": draw(st.sampled_from([1.0, 1.000001])),
        **attributes,
    }


@st.composite
def refine_parameters(draw, low=-HUGE, high=HUGE, **attributes):
    """Numbers of the refining neuron, with the growth for small limits."""
    limit = float(draw(st.integers(1, 16)))
    return {
        "burst_limit": limit,
        "growth": 1.0 if limit <= 2 else 2.0,
        "decay": float(draw(st.integers(1, 3))),
        "dead_zone": draw(st.sampled_from([0.5, 2 / 3, 0.75])),
        "lowest": draw(st.sampled_from([-20.0, -3.0])),
        "highest": 0.0 if limit <= 2 else 2.0,
        "low": low,
        "high": high,
        **attributes,
    }


def plain_attributes(family, op):
    """A usual set of numbers for a law, for tests of something else."""
    entry = ACTIVATIONS.get(op)
    if family == "BurstIF":
        return {"v0": 0.5, "burst_limit": 7.0, "lower_limit": -7.0, "rounding": 1.0}
    if family.startswith("Refine"):
        return {
            "burst_limit": 7.0, "growth": 2.0, "decay": 1.0, "dead_zone": 0.6, "lowest": -20.0,
            "highest": 2.0, "low": max(entry.low, -HUGE), "high": min(entry.high, HUGE),
        }  # fmt: skip
    return {}
