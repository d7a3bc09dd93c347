"""How the fused laws see a chunk: every image as one row of neurons, in blocks of them."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from onnx2snn_runtime.neurons import Chunk

Floats = NDArray[np.float32]
BLOCK = 1024  # neurons that stay in the cache over all steps of a chunk

compiled = njit(cache=True, error_model="numpy", nogil=True)  # batches run on several threads


@compiled  # type: ignore[untyped-decorator]
def copy_row(source: Floats, target: Floats) -> None:
    """An assignment of slices does the same, but not with vector instructions."""
    for i in range(len(target)):
        target[i] = source[i]


def one_row_per_image(array: Any) -> Floats:
    """[C,N,*] as [C,N,D], or as [1,N,D] where it is the same at every step; no copy if it can."""
    source = array[:1] if array.strides[0] == 0 else array
    flat = np.ascontiguousarray(source, dtype=np.float32)
    return flat.reshape(*source.shape[:2], -1)


def per_neuron(values: Any, features: tuple[int, ...], dtype: type = np.float32) -> NDArray[Any]:
    """Values broadcastable to [N,*] as one number a neuron, [D]."""
    array: NDArray[Any] = np.asarray(values).astype(dtype, copy=False)
    if array.ndim == len(features) + 1:
        array = array[0]
    if array.shape != features:
        array = np.broadcast_to(array, features)
    return np.ascontiguousarray(array).reshape(-1)


def states_as_rows(chunk: Chunk, first: int = 0) -> list[NDArray[Any]]:
    """States from the one with index ``first`` on as [N,D], to be changed in place."""
    chunk.states[first:] = [np.ascontiguousarray(state) for state in chunk.states[first:]]
    return [state.reshape(len(state), -1) for state in chunk.states[first:]]


def make_buffers(chunk: Chunk, rows: Floats) -> tuple[Floats, int, Floats]:
    """Where outputs and spike counts go.

    Args:
        chunk: the chunk. Outputs lie at its place if it has one, else over ``rows`` where it allows
            that.
        rows: its input, as `one_row_per_image` gives it.

    Returns:
        An array [C,N,*] for outputs, the first of D columns that they take, and an array [C,N,D]
        for counts, [0,N,D] if nobody asks for them.
    """
    steps, (images, size) = len(chunk.inputs[0]), rows.shape[1:]
    counts = np.empty((steps if chunk.record else 0, images, size), dtype=np.float32)
    if chunk.place is not None:
        return chunk.place.rows, chunk.place.first, counts
    reuse = chunk.reusable and len(rows) == steps
    return rows if reuse else np.empty((steps, images, size), dtype=np.float32), 0, counts


def finish(chunk: Chunk, outputs: Floats, first: int, counts: Floats) -> Floats:
    """Give the chunk its counts; returns y [C,N,*]. Rows become what they were, [N,*]."""
    shape = chunk.inputs[0].shape[1:]
    if chunk.record:
        chunk.counts = counts.reshape(len(counts), *shape)
    size = counts.shape[2]
    return outputs[:, :, first : first + size].reshape(len(outputs), *shape)
