"""The laws in which every neuron is by itself, on the kernels of scan.h."""

from math import prod
from typing import Any

import numpy as np
from onnx.helper import tensor_dtype_to_np_dtype

from onnx2snn_runtime.kernels.formula import bounds_struct, function_struct
from onnx2snn_runtime.kernels.signals import LARGEST, Signal, Signals, dense_state, signal_type
from onnx2snn_runtime.kernels.source import Launch
from onnx2snn_runtime.kernels.table import table_of
from onnx2snn_runtime.neurons import FAMILIES, Chunk, Signature, StatefulOperator
from onnx2snn_runtime.neurons.refine import RefineFurther

Array = Any
FILES = {
    "BurstIF": "burst", "Refine": "refine", "RefineFrom": "refine",
    "RefineFurther": "refine_further", "Graded": "graded", "Readout": "readout",
    "IntegerIF": "integer", "IntegerReadout": "integer_readout",
}  # fmt: skip
LARGEST_INT8 = 127


def joins(operator: StatefulOperator) -> bool:
    """Whether there is a kernel that adds a bias and a residual in the same pass."""
    is_free = operator.family in FILES and not isinstance(operator, RefineFurther)
    return is_free and _function(operator) is not None


def scan_neurons(
    xp: Any, launch: Launch, operator: StatefulOperator, chunk: Chunk, channels_last: bool = False
) -> Array | None:
    """All steps of a chunk; see ``kernels.scan`` and ``order``."""
    function = _function(operator)
    given = chunk.inputs[0]
    steps, images, *features = given.shape
    if function is None or not 0 < images * prod(features) < LARGEST:
        return None
    dtype = signal_type(given)
    sent = dtype if chunk.sends is None else np.dtype(chunk.sends)
    if sent == np.int8 and not _counts_fit(operator):
        return None
    moving = operator.signature.moving
    constants = [row for index, row in enumerate(chunk.inputs) if index not in moving]
    rows = [chunk.scale, chunk.bias, chunk.threshold, *constants]
    rows = [row for row in rows if row is not None]
    table = table_of(xp, operator, rows, features, channels_last)
    if table is None:
        return None
    x = Signal(xp, given, dtype)
    reuse = chunk.reusable and sent == dtype and len(x.values) == steps
    residual = chunk.residual
    if isinstance(operator, RefineFurther):
        residual = chunk.inputs[operator.first_estimate]
    if residual is not None:
        residual = xp.broadcast_to(residual, given.shape)
        residual = Signal(xp, residual, signal_type(residual))
    state_type = tensor_dtype_to_np_dtype(operator.state_type)
    chunk.states[:] = [dense_state(xp, held, state_type) for held in chunk.states]
    signals = Signals(
        x=x,
        y=x.values if reuse else xp.empty(given.shape, dtype=sent),
        states=chunk.states,
        table=table,
        is_scaled=chunk.scale is not None,
        is_biased=chunk.bias is not None,
        residual=residual,
        counts=xp.empty(given.shape, np.float32) if operator.spiking and chunk.record else None,
        first_step=chunk.first_step,
    )
    numbers = [np.float32(operator.attributes[name]) for name in operator.parameters]
    signals.launch(launch, FILES[operator.family], function, numbers)
    if signals.counts is not None:
        chunk.counts = signals.counts
    return signals.y


def _function(operator: StatefulOperator) -> str | None:
    """The struct of f; empty for a law without one, None where there is no kernel."""
    if operator.is_readout:
        return ""
    if operator.family == "IntegerIF":
        return bounds_struct(operator)
    if isinstance(operator, RefineFurther):
        base = Signature(operator.signature.op, len(operator.inputs_of_base()))
        return function_struct(FAMILIES["Refine"](base, operator.attributes))
    return function_struct(operator)


def _counts_fit(operator: StatefulOperator) -> bool:
    """Whether spike counts are what the operator sends, and fit int8."""
    return operator.family == "BurstIF" and operator.attributes["burst_limit"] <= LARGEST_INT8
