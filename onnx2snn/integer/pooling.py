"""Pooling in whole numbers: maxima keep their unit, means are sums in a finer one."""

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import NodeProto, helper

from onnx2snn.integer.registry import rule
from onnx2snn.integer.rules import channels_of
from onnx2snn.integer.signals import NoIntegerFormError, Signal, spread
from onnx2snn_runtime.nodes import attributes_of, run_node

if TYPE_CHECKING:
    from onnx2snn.integer.work import IntegerWork


@rule("MaxPool", "GlobalMaxPool", "ReduceMax")
def maximum(work: "IntegerWork", node: NodeProto) -> list[Signal]:
    """The largest of whole numbers of one unit."""
    signal, shape = work.read(node, 0), work.shape(node.output[0])
    if node.op_type == "ReduceMax":
        return [_reduced(work, node, signal, 1)]
    return [Signal(*(spread(part, shape) for part in channels_of(signal)))]


@rule("GlobalAveragePool", "ReduceMean", "ReduceSum")
def average(work: "IntegerWork", node: NodeProto) -> list[Signal]:
    """The mean of n elements is their sum in units of one n-th."""
    signal = work.read(node, 0)
    count = prod(signal.unit.shape) // prod(work.shape(node.output[0]))
    result = _reduced(work, node, signal, count)
    if node.op_type == "GlobalAveragePool":
        axes = np.arange(2, signal.unit.ndim, dtype=np.int64)
        node.input.append(work.add_constant(f"{node.name}.axes", axes))
    if node.op_type == "ReduceSum":
        result = Signal(result.unit * count, result.low, result.high)
    node.op_type = "ReduceSum"
    work.check_sum(node, result.bound)
    return [result]


def _reduced(work: "IntegerWork", node: NodeProto, signal: Signal, count: int) -> Signal:
    """Extremes over what is reduced; its units must be equal."""
    constants = {name: work.arrays[name] for name in node.input[1:] if name in work.arrays}
    shape = work.shape(node.output[0])
    ends = {}
    for op in ("ReduceMin", "ReduceMax"):
        probe = NodeProto()
        probe.CopyFrom(node)
        probe.op_type = op
        if node.op_type == "GlobalAveragePool":
            probe.input.append("axes")
            constants["axes"] = np.arange(2, signal.unit.ndim, dtype=np.int64)
        ends[op] = [
            run_node(probe, {node.input[0]: part, **constants}, work.opset)[0].reshape(shape)
            for part in (signal.unit, signal.low, signal.high)
        ]
    if not np.array_equal(ends["ReduceMin"][0], ends["ReduceMax"][0]):
        raise NoIntegerFormError(
            "it adds up values of different units", "reduce within channels only"
        )
    reduced = Signal(ends["ReduceMin"][0], ends["ReduceMin"][1], ends["ReduceMax"][2])
    return reduced.scaled(count) if count > 1 else reduced


@rule("AveragePool")
def average_pool(work: "IntegerWork", node: NodeProto) -> list[Signal]:
    """Sums over windows by a depthwise convolution of ones; 1/k² goes into the unit.

    Raises:
        NoIntegerFormError: with the reason and the advice.
    """
    signal, shape = work.read(node, 0), work.shape(node.output[0])
    unit, low, high = channels_of(signal)
    given = attributes_of(node)
    kernel = list(given["kernel_shape"])
    sums = _window_sum(node, given, signal.unit.shape, shape)
    ones = np.ones((1, 1, *signal.unit.shape[2:]))
    (real,) = run_node(sums, {node.input[0]: ones, "ones": np.ones((1, 1, *kernel))}, work.opset)
    (mean,) = run_node(node, {node.input[0]: ones}, work.opset)
    if not np.array_equal(np.rint(real / mean), np.full(real.shape, prod(kernel))):
        raise NoIntegerFormError(
            "its windows hold different numbers of elements, so no one factor stands for them",
            "use count_include_pad = 1, or no padding and sizes that divide",
        )
    channels = len(unit)
    weight = work.add_constant(f"{node.name}.ones", np.ones((channels, 1, *kernel), np.float32))
    for attribute in sums.attribute:
        if attribute.name == "group":
            attribute.i = channels
    sums.input[1] = weight
    node.CopyFrom(sums)
    whole = Signal(*(spread(part, shape) for part in (unit, low, high))).scaled(prod(kernel))
    work.check_sum(node, whole.bound)
    return [whole]


def _window_sum(
    node: NodeProto, given: dict[str, Any], shape: tuple[int, ...], out: tuple[int, ...]
) -> NodeProto:
    """The convolution of ones over the same windows, for one channel."""
    rank = len(shape) - 2
    kernel = list(given["kernel_shape"])
    strides = list(given.get("strides", [1] * rank))
    dilations = list(given.get("dilations", [1] * rank))
    first = list(given.get("pads", [0] * 2 * rank))[:rank]
    last = [
        (out[2 + i] - 1) * strides[i] + dilations[i] * (kernel[i] - 1) + 1 - shape[2 + i] - first[i]
        for i in range(rank)
    ]
    return helper.make_node(
        "Conv", [node.input[0], "ones"], list(node.output), node.name, kernel_shape=kernel,
        strides=strides, dilations=dilations, group=1, pads=[*first, *(max(0, e) for e in last)],
    )  # fmt: skip
