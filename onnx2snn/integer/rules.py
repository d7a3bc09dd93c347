"""How each linear operator works on whole numbers: one rule per operator, found by its name."""

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import NodeProto

from onnx2snn.integer.registry import FINE, MERGES, MOVES, rule
from onnx2snn.integer.signals import (
    Array,
    NoIntegerFormError,
    Signal,
    compact,
    filled,
    per_channel,
    spread,
)
from onnx2snn_runtime.nodes import attributes_of, run_node

if TYPE_CHECKING:
    from onnx2snn.integer.work import IntegerWork

COMMON = 1.0 / 64  # relative error that an integer factor to a common scale may have
FINEST_REACH = 2048  # largest magnitude that a gain in front of weights may make of spikes


def channels_of(signal: Signal) -> tuple[Array, Array, Array]:
    """Unit, low and high of each channel.

    Raises:
        NoIntegerFormError: with the reason and the advice.
    """
    found = per_channel(signal)
    if found is None:
        raise NoIntegerFormError(
            "its input has several units in one channel", "pool or flatten after this operator"
        )
    return found


@rule("Conv")
def convolution(work: "IntegerWork", node: NodeProto) -> list[Signal]:
    """Weights [O,I/g,*]: input units go into them, one scale per output channel."""
    weight = work.constant(node, 1)
    group = int(attributes_of(node).get("group", 1))
    outputs = weight.shape[0]
    parts = [_grouped(v, group, outputs // group) for v in channels_of(work.read(node, 0))]
    flat = weight.reshape(outputs, weight.shape[1], -1)
    unit, low, high = (part[:, :, np.newaxis] for part in parts)
    found = work.weigh(node, flat * unit, low, high)
    work.store(node, 1, found.weight.reshape(weight.shape))
    return [work.weighed(node, found)]


def _grouped(values: Array, group: int, repeats: int) -> Array:
    """Values of input channels as [O,I/g]."""
    return np.repeat(values.reshape(group, -1), repeats, axis=0)


@rule("ConvTranspose")
def transposed_convolution(work: "IntegerWork", node: NodeProto) -> list[Signal]:
    """Weights [I,O/g,*]."""
    weight = work.constant(node, 1)
    group = int(attributes_of(node).get("group", 1))
    inputs, per_group, *kernel = weight.shape
    split = weight.reshape(group, inputs // group, per_group, -1).transpose(0, 2, 1, 3)
    ordered = split.reshape(group * per_group, inputs // group, -1)
    parts = [_grouped(v, group, per_group) for v in channels_of(work.read(node, 0))]
    unit, low, high = (part[:, :, np.newaxis] for part in parts)
    found = work.weigh(node, ordered * unit, low, high)
    whole = found.weight.reshape(group, per_group, inputs // group, -1).transpose(0, 2, 1, 3)
    work.store(node, 1, whole.reshape(inputs, per_group, *kernel))
    return [work.weighed(node, found)]


@rule("Gemm", "MatMul")
def matrix_product(work: "IntegerWork", node: NodeProto) -> list[Signal]:
    """Weights [K,O] (or [O,K]); units along the last axis of the input go into them.

    Raises:
        NoIntegerFormError: with the reason and the advice.
    """
    weight, given = work.constant(node, 1), attributes_of(node)
    signal = work.read(node, 0)
    if weight.ndim != 2 or given.get("transA", 0):
        raise NoIntegerFormError("its weights are no plain matrix", "use a Gemm with transA = 0")
    turned = bool(given.get("transB", 0))
    rows = signal.mapped(lambda part: part.reshape(-1, part.shape[-1]))
    if not np.array_equal(np.broadcast_to(rows.unit[:1], rows.unit.shape), rows.unit):
        raise NoIntegerFormError("its rows have different units", "flatten the input first")
    matrix = (weight if turned else weight.T) * given.get("alpha", 1.0) * rows.unit[0]
    found = work.weigh(
        node, matrix, rows.low.min(axis=0), rows.high.max(axis=0), given.get("beta", 1.0)
    )
    work.store(node, 1, found.weight if turned else found.weight.T)
    kept = [a for a in node.attribute if a.name not in ("alpha", "beta")]
    del node.attribute[:]
    node.attribute.extend(kept)
    return [work.weighed(node, found, axis=-1)]


@rule(*MERGES)
def merge(work: "IntegerWork", node: NodeProto) -> list[Signal]:
    """Branches come to one unit by integer factors; the weights of a branch take its scale."""
    if any(name in work.arrays for name in node.input):
        return channel_map(work, node)
    signals = [work.read(node, index) for index in range(len(node.input))]
    shape = work.shape(node.output[0])
    target = work.common_unit(node.output[0], signals, shape)
    parts = []
    for index, signal in enumerate(signals):
        ratio = np.where(signal.is_zero, 1.0, np.broadcast_to(signal.unit, shape) / target)
        factor = np.maximum(np.rint(ratio), 1)
        if np.abs(factor / ratio - 1).max() > COMMON:
            work.coarsen(node.output[0], np.broadcast_to(signal.unit, shape), ratio)
        node.input[index] = work.multiplied(node.name, node.input[index], compact(factor))
        parts.append(filled(shape, target, signal.low * factor, signal.high * factor))
    result = _merged(node.op_type, parts)
    work.check_sum(node, result.bound)
    return [result]


def _merged(op: str, parts: list[Signal]) -> Signal:
    lows, highs = [part.low for part in parts], [part.high for part in parts]
    if op == "Max":
        return Signal(parts[0].unit, np.max(lows, axis=0), np.max(highs, axis=0))
    if op == "Sub":
        return Signal(parts[0].unit, lows[0] - highs[1], highs[0] - lows[1])
    return Signal(parts[0].unit, np.sum(lows, axis=0), np.sum(highs, axis=0))


@rule("Mul", "Div", "BatchNormalization")
def channel_map(work: "IntegerWork", node: NodeProto) -> list[Signal]:
    """y = a·x + b that no weights took up: a is a whole multiple of a finer unit, b is rounded.

    Raises:
        NoIntegerFormError: with the reason and the advice.
    """
    constants = [k for k, name in enumerate(node.input) if name in work.arrays]
    if len(node.input) - len(constants) != 1 or node.op_type in ("Sum", "Max"):
        raise NoIntegerFormError("a constant meets signals here", "fold it before the export")
    (moving,) = set(range(len(node.input))) - set(constants)
    signal, shape = work.read(node, moving), work.shape(node.output[0])
    if signal.unit.shape != shape or (node.op_type == "Div" and moving):
        raise NoIntegerFormError("it is no gain and shift per channel", "fold it before the export")
    gain, shift = _gain_and_shift(work, node, moving, shape)
    reach = np.maximum(np.maximum(np.abs(signal.low), np.abs(signal.high)), 1)
    reach = reach.max(axis=tuple(range(2, reach.ndim)), keepdims=True)
    finer = np.where(shift == 0, 1, np.clip(np.floor(FINEST_REACH / reach), 1, FINE))
    unit = np.abs(gain) * signal.unit / finer
    unit = np.where(gain == 0, np.maximum(np.abs(shift), 1) / FINE, unit)
    factor, offset = np.sign(gain) * finer, np.rint(shift / unit)
    made = work.multiplied(node.name, node.input[moving], compact(factor))
    del node.input[:]
    del node.attribute[:]
    node.input.append(made)
    node.op_type = "Identity"
    if offset.any():
        node.op_type = "Add"
        node.input.append(work.add_constant(f"{node.name}.shift", _floats(offset)))
    ends = signal.low * factor + offset, signal.high * factor + offset
    result = Signal(unit, np.minimum(*ends), np.maximum(*ends))
    work.check_sum(node, result.bound)
    return [result]


def _gain_and_shift(
    work: "IntegerWork", node: NodeProto, moving: int, shape: tuple[int, ...]
) -> tuple[Array, Array]:
    """a and b of a node y = a·x + b, from what it makes of 0 and 1."""
    constants = {
        name: np.asarray(work.arrays[name], np.float64)
        for name in node.input
        if name in work.arrays
    }
    source = node.input[moving]
    zero, one = (
        run_node(node, {**constants, source: np.full(shape, value)}, work.opset)[0]
        for value in (0.0, 1.0)
    )
    return one - zero, zero


def _floats(array: Array) -> Any:
    return compact(array).astype(np.float32)


@rule("Concat")
def concatenation(work: "IntegerWork", node: NodeProto) -> list[Signal]:
    """Channels keep their units."""
    axis = int(attributes_of(node)["axis"])
    parts = [work.read(node, index) for index in range(len(node.input))]
    arrays = zip(*((part.unit, part.low, part.high) for part in parts), strict=True)
    return [Signal(*(np.concatenate(array, axis=axis) for array in arrays))]


@rule(*MOVES)
def movement(work: "IntegerWork", node: NodeProto) -> list[Signal]:
    """Elements move, and their units with them.

    Raises:
        NoIntegerFormError: with the reason and the advice.
    """
    signal = work.read(node, 0)
    constants = {name: work.arrays[name] for name in node.input[1:] if name and name in work.arrays}
    if any(name and name not in work.arrays for name in node.input[1:]):
        raise NoIntegerFormError("its sizes are computed", "give the input's size: --input-shape")
    results = [
        run_node(node, {node.input[0]: part, **constants}, work.opset)
        for part in (signal.unit, signal.low, signal.high)
    ]
    return [Signal(*parts) for parts in zip(*results, strict=True)]


@rule("Pad")
def padding(work: "IntegerWork", node: NodeProto) -> list[Signal]:
    """Zeros are zeros in every unit.

    Raises:
        NoIntegerFormError: with the reason and the advice.
    """
    mode = attributes_of(node).get("mode", b"constant")
    value = node.input[2] if len(node.input) > 2 else ""
    if mode == b"constant" and value and (value not in work.arrays or work.arrays[value].any()):
        raise NoIntegerFormError("it pads with a number that is not zero", "pad with zeros")
    signal = work.read(node, 0)
    channels_of(signal)
    constants = {name: work.arrays[name] for name in node.input[1:] if name in work.arrays}
    unit, low, high = (
        run_node(node, {node.input[0]: part, **constants}, work.opset)[0]
        for part in (signal.unit, signal.low, signal.high)
    )
    known = unit.reshape(unit.shape[1], -1).max(axis=1)
    known = np.where(known > 0, known, known.max())  # of channels that are nothing but zeros
    return [Signal(spread(known, unit.shape), low, high)]


@rule("Resize")
def resize(work: "IntegerWork", node: NodeProto) -> list[Signal]:
    """Nearest neighbours are copies; anything else would mix them by fractions.

    Raises:
        NoIntegerFormError: with the reason and the advice.
    """
    if attributes_of(node).get("mode", b"nearest") != b"nearest":
        raise NoIntegerFormError("it interpolates by fractions", "use mode nearest")
    shape = work.shape(node.output[0])
    return [Signal(*(spread(part, shape) for part in channels_of(work.read(node, 0))))]
