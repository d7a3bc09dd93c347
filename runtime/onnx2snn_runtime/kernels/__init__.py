"""The laws as CUDA kernels: all steps of a chunk in one launch, with the states in registers.

The arithmetic is in headers that a C++ compiler of the CPU takes as well: the tests run the very
text of the kernels without a GPU. Nothing here imports CuPy; who calls ``scan`` brings the array
module and a function that compiles and launches.
"""

from dataclasses import replace
from typing import Any

from onnx2snn_runtime.kernels.neurons import joins, scan_neurons
from onnx2snn_runtime.kernels.order import as_it_lies, as_it_means, lies_last
from onnx2snn_runtime.kernels.pool import scan_pool
from onnx2snn_runtime.kernels.source import KernelSource, Launch
from onnx2snn_runtime.neurons import Chunk, StatefulOperator

Array = Any
KERNELS = {
    "BurstIF": scan_neurons,
    "Refine": scan_neurons,
    "RefineFrom": scan_neurons,
    "RefineFurther": scan_neurons,
    "Graded": scan_neurons,
    "Readout": scan_neurons,
    "IntegerIF": scan_neurons,
    "IntegerReadout": scan_neurons,
    "LIPool": scan_pool,
}


def scan(xp: Any, launch: Launch, operator: StatefulOperator, chunk: Chunk) -> Array | None:
    """All steps of a chunk; the same contract as ``StatefulOperator.scan``.

    The input may also be float16: then so is the output unless the chunk says what to send; states
    keep their type. Where channels lie last in memory, they do so in all results. States are
    changed in place or replaced, and the outputs lie over the input where ``chunk.reusable`` allows
    it.

    Args:
        xp: array module, whose memory ``launch`` can reach.
        launch: compiles and runs a kernel.
        operator: the law.
        chunk: what it sees.

    Returns:
        y [C,N,*], or None where there is no kernel for this operator, or for what the chunk asks of
        it; then the chunk is as it was.
    """
    kernel = KERNELS.get(operator.family)
    if kernel is None:
        return None
    if not lies_last(xp, chunk.inputs[0]):
        chunk.begin()
        return kernel(xp, launch, operator, chunk)
    residual = chunk.residual
    turned = replace(
        chunk,
        inputs=[
            as_it_lies(xp, array, 2) if index in operator.signature.moving else array
            for index, array in enumerate(chunk.inputs)
        ],
        states=_states(xp, chunk),
        residual=None if residual is None else as_it_lies(xp, residual, 2),
    )
    sent = kernel(xp, launch, operator, turned, channels_last=True)
    if sent is None:
        return None
    chunk.states[:] = [as_it_means(xp, held, 1) for held in turned.states]
    chunk.begins = None
    chunk.counts = None if turned.counts is None else as_it_means(xp, turned.counts, 2)
    return as_it_means(xp, sent, 2)


def _states(xp: Any, chunk: Chunk) -> list[Array]:
    """The states as the kernel sees them; where they hold nothing yet they are made as they lie."""
    if chunk.begins is None:
        return [as_it_lies(xp, held, 1) for held in chunk.states]
    return [
        xp.zeros(held.shape, dtype=held.dtype)
        if start is None
        else as_it_lies(xp, xp.broadcast_to(start, held.shape), 1).copy()
        for held, start in zip(chunk.states, chunk.begins, strict=True)
    ]


def handles(operator: StatefulOperator) -> bool:
    """Whether there is a kernel for an operator, but for the sizes of its tensors."""
    return joins(operator) or (operator.family == "LIPool" and operator.signature.op == "MaxPool")


__all__ = ["KERNELS", "KernelSource", "Launch", "handles", "joins", "scan"]
