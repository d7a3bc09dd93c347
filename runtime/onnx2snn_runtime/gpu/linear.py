"""Convolutions and matrix products by a library, in place of the operators that NumPy runs.

``REPLACED`` says which operators; anything that is not float32 stays with the registry in ``ops``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np

from onnx2snn_runtime.gpu.device import Device
from onnx2snn_runtime.ops import OPERATORS, Array, Call
from onnx2snn_runtime.ops.arithmetic import gemm_by
from onnx2snn_runtime.ops.bookkeeping import per_channel
from onnx2snn_runtime.ops.windows import Windows, make_windows

COMPUTES = ("fp32", "tf32", "fp16")
Convolve = Callable[[Call, Array, Windows], Array]
"""x [N,C,*] under windows to the convolution [N,M,*], without a bias.

In ``fp16`` x may be of 16 bits, and weights of 16 bits ask for sums of 16 bits. All else is
float32.
"""


class LinearEngine(ABC):
    """A library for convolutions.

    Args:
        device: where the arrays lie.
        compute: ``fp32``; ``tf32``, where inputs may be rounded to 11 bits; ``fp16``, where
            convolutions take and give 16-bit floats, and matrix products stay in fp32.

    Attributes:
        failures: what the library raises besides the errors that everybody expects.
    """

    name: ClassVar[str]
    failures: tuple[type[Exception], ...] = ()

    def __init__(self, device: Device, compute: str) -> None:
        self.device = device
        self.xp = device.xp
        self.compute = compute
        self.product = device.product(compute)

    @classmethod
    @abstractmethod
    def unavailable(cls) -> str:
        """Why it does not work here, with what to do; empty if it does."""

    @property
    def description(self) -> str:
        """Name and version."""
        return self.name

    def takes(self, x: Array, weight: Array) -> bool:
        """Whether convolutions here read arrays of these types."""
        types = (np.float32, np.float16) if self.compute == "fp16" else (np.float32,)
        return all(array.dtype in types for array in (x, weight))

    def prepare(self, weight: Array) -> tuple[Array, Callable[[Array], Array]]:
        """Weights as they are multiplied, and what makes the results of their sums."""
        if self.compute != "fp16" or weight.dtype == np.float16:
            return weight, lambda sums: sums
        half, factor = scaled_half(self.xp, weight)
        return half, lambda sums: self.xp.multiply(sums, np.float32(factor), dtype=np.float32)

    @abstractmethod
    def convolution(self, weight: Array, groups: int) -> Convolve:
        """The convolution with weights [M,C/groups,*], which are prepared once."""


def scaled_half(xp: Any, weight: Array) -> tuple[Array, float]:
    """Weights as 16-bit floats of at most 1, and the power of two that they were divided by.

    Small weights would lose bits otherwise, and large sums would overflow.
    """
    largest = float(xp.abs(weight).max()) if weight.size else 0.0
    factor = 2.0 ** int(np.frexp(largest)[1])
    return (weight / factor).astype(np.float16), factor


Function = Callable[..., Any]
REPLACED: dict[str, Callable[[LinearEngine, Call], Function]] = {}


def replaces(op: str) -> Callable[[Function], Function]:
    """Register how an engine runs a node of an operator.

    The decorated function is called once for each node and returns a function with the arguments
    of the registry's.
    """

    def register(make: Function) -> Function:
        REPLACED[op] = make
        return make

    return register


def replacements(engine: LinearEngine) -> Mapping[str, Callable[[Call], Function]]:
    """What an interpreter takes as ``replaced``."""
    return {op: partial(make, engine) for op, make in REPLACED.items()}


def _all_float32(*arrays: Array) -> bool:
    return all(array is None or array.dtype == np.float32 for array in arrays)


@replaces("Conv")
def convolution(engine: LinearEngine, call: Call) -> Function:
    """The engine's convolution, then the bias."""
    plain, groups = OPERATORS["Conv"].function, int(call.get("group", 1))
    last: list[Any] = [None, None]  # weights, and the convolution prepared for them

    def run(call: Call, x: Array, weight: Array, bias: Array | None = None) -> Array:
        fits = x.shape[1] == weight.shape[1] * groups
        if not fits or not _all_float32(bias) or not engine.takes(x, weight):
            return plain(call, x, weight, bias)
        if weight is not last[0]:
            last[:] = weight, engine.convolution(weight, groups)
        result = last[1](call, x, make_windows(call, x.shape[2:], weight.shape[2:]))
        if bias is not None:
            result += per_channel(bias, x.ndim)
        return result

    return run


@replaces("MatMul")
def matrix_product(engine: LinearEngine, call: Call) -> Function:
    """The engine's matrix product."""
    del call
    plain = OPERATORS["MatMul"].function

    def run(call: Call, a: Array, b: Array) -> Array:
        return engine.product(a, b) if _all_float32(a, b) else plain(call, a, b)

    return run


@replaces("Gemm")
def general_matrix_product(engine: LinearEngine, call: Call) -> Function:
    """All rows in one product of the engine."""
    del call
    plain = OPERATORS["Gemm"].function

    def run(call: Call, a: Array, b: Array, c: Array | None = None) -> Array:
        if not _all_float32(a, b, c):
            return plain(call, a, b, c)
        return gemm_by(engine.product, call, a, b, c)

    return run
