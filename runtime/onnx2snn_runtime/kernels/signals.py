"""The signals of a layer as the kernels of scan.h take them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from onnx2snn_runtime.kernels.source import Launch, kernel_source, layer_struct
from onnx2snn_runtime.kernels.table import Table

Array = Any
THREADS = 256
MOST_BLOCKS = 2**16  # a thread takes several turns where there is more to do
LARGEST = 2**31  # numbers of neurons and elements are 32-bit, with room for a last stride
VECTOR = 4  # neurons of a thread: 128-bit loads of float32
NULL = np.uint64(0)
C_TYPES = {
    np.dtype(np.float32): "float",
    np.dtype(np.float16): "Half",
    np.dtype(np.int8): "signed char",
}


class Signal:
    """[C,N,*] in memory without gaps: ``values``, and the elements ``apart`` from step to step.

    Where all steps are the same memory there is one step only, and ``apart`` is 0.
    """

    def __init__(self, xp: Any, array: Array, dtype: np.dtype[Any]) -> None:
        source = array[:1] if array.strides[0] == 0 else array
        self.values = xp.ascontiguousarray(source, dtype=dtype)
        self.apart = prod(source.shape[1:]) if len(source) > 1 else 0


@dataclass(frozen=True, eq=False)
class Signals:
    """What a kernel of scan.h works on.

    Attributes:
        x: input.
        y: where the output goes, [C,N,*] without gaps.
        states: float32 or int32, [N,*] without gaps; changed in place.
        table: what every neuron has of its own.
        is_scaled: the first row of the table is a factor of x.
        is_biased: the next row of the table is a bias.
        residual: second input, or None.
        counts: where spike counts go, float32 [C,N,*], or None.
        first_step: number of the first step.
    """

    x: Signal
    y: Array
    states: Sequence[Array]
    table: Table
    is_scaled: bool = False
    is_biased: bool = False
    residual: Signal | None = None
    counts: Array | None = None
    first_step: int = 1

    def launch(
        self, launch: Launch, name: str, function: str = "", numbers: Sequence[np.float32] = ()
    ) -> None:
        """Run a kernel over all steps.

        Args:
            launch: compiles and runs it.
            name: of its file.
            function: the struct of f, if the law has one.
            numbers: of the law, in its order.
        """
        steps, neurons, residual, table = len(self.y), self.y[0].size, self.residual, self.table
        layer = layer_struct(
            Input=C_TYPES[self.x.values.dtype],
            Residual=C_TYPES[(self.x if residual is None else residual).values.dtype],
            Output=C_TYPES[self.y.dtype],
            WIDTH=self.width,
            SCALED=self.is_scaled,
            BIASED=self.is_biased,
            JOINS=residual is not None,
            COUNTS=self.y.dtype == np.int8,
            F=function,
        )
        arguments = [
            self.x.values, np.uint64(self.x.apart),
            NULL if residual is None else residual.values,
            np.uint64(0 if residual is None else residual.apart),
            self.y, NULL if self.counts is None else self.counts,
            table.values, np.uint32(table.inner), np.uint32(table.entries),
            np.uint32(neurons), np.int32(steps), np.int32(self.first_step),
            *self.states, *numbers,
        ]  # fmt: skip
        launch(kernel_source(name, layer), *grid(neurons // self.width), arguments)

    @property
    def width(self) -> int:
        """Neurons of a thread: more than one only where all vectors are whole and aligned."""
        others = [] if self.residual is None else [self.residual.values]
        arrays = [self.x.values, self.y, *self.states, *others]
        fits = all(address(array) % (VECTOR * array.dtype.itemsize) == 0 for array in arrays)
        return VECTOR if fits and self.y[0].size % VECTOR == 0 else 1


def signal_type(array: Array) -> np.dtype[Any]:
    """Type in which a signal is read and sent: float16 where it is that already."""
    return np.dtype(np.float16 if array.dtype == np.float16 else np.float32)


def dense_state(xp: Any, array: Array, dtype: Any = np.float32) -> Array:
    """A state without gaps."""
    return xp.ascontiguousarray(array, dtype=dtype)


def grid(threads: int) -> tuple[tuple[int], tuple[int]]:
    """Blocks, and threads of a block, for so many threads."""
    return (min(-(-threads // THREADS), MOST_BLOCKS),), (THREADS,)


def address(array: Array) -> int:
    """Where the memory of an array begins, on the host or on a device."""
    interface = getattr(array, "__cuda_array_interface__", None) or array.__array_interface__
    return int(interface["data"][0])
