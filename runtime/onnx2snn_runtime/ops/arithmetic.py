"""Arithmetic of several tensors, and matrix products."""

from collections.abc import Callable
from functools import reduce

from onnx2snn_runtime.ops.bookkeeping import is_integer, widened
from onnx2snn_runtime.ops.registry import Array, Call, Law, operator


@operator("Add", Law.AFFINE)
def add(call: Call, a: Array, b: Array) -> Array:
    """Sum of two tensors, a + b."""
    return call.xp.add(a, b)


@operator("Sub", Law.AFFINE)
def subtract(call: Call, a: Array, b: Array) -> Array:
    """Difference of two tensors, a - b."""
    return call.xp.subtract(a, b)


@operator("Sum", Law.AFFINE)
def total(call: Call, *inputs: Array) -> Array:
    """Sum of any number of tensors."""
    return reduce(call.xp.add, inputs)


@operator("Mean", Law.AFFINE)
def mean(call: Call, *inputs: Array) -> Array:
    """Mean of any number of tensors."""
    return reduce(call.xp.add, inputs) / len(inputs)


@operator("Max", Law.MAXIMUM)
def maximum(call: Call, *inputs: Array) -> Array:
    """Largest of any number of tensors, element by element."""
    return reduce(call.xp.maximum, inputs)


@operator("Min", Law.NONLINEAR)
def minimum(call: Call, *inputs: Array) -> Array:
    """Smallest of any number of tensors, element by element."""
    return reduce(call.xp.minimum, inputs)


@operator("Mul", Law.AFFINE_ONE)
def multiply(call: Call, a: Array, b: Array) -> Array:
    """Product of two tensors, element by element."""
    return call.xp.multiply(a, b)


@operator("Div", Law.AFFINE_FIRST)
def divide(call: Call, a: Array, b: Array) -> Array:
    """Quotient of two tensors, a / b; integers are rounded towards zero."""
    xp = call.xp
    if not is_integer(a):
        return xp.divide(a, b)
    quotient = xp.floor_divide(a, b)
    rounded_down = (quotient * b != a) & ((a < 0) != (b < 0))
    return quotient + rounded_down.astype(quotient.dtype)


@operator("Neg", Law.AFFINE_FIRST)
def negate(call: Call, x: Array) -> Array:
    """Negative of every element, -x."""
    return call.xp.negative(x)


@operator("Mod", Law.NONLINEAR)
def remainder(call: Call, a: Array, b: Array) -> Array:
    """Remainder of a / b, with the sign of b, or with the sign of a (``fmod``)."""
    return call.xp.fmod(a, b) if call.get("fmod", 0) else call.xp.remainder(a, b)


@operator("Pow", Law.NONLINEAR)
def power(call: Call, base: Array, exponent: Array) -> Array:
    """Power of every element, base ^ exponent, in the type of the base."""
    return call.xp.power(base, exponent).astype(base.dtype, copy=False)


@operator("MatMul", Law.AFFINE_ONE)
def matrix_product(call: Call, a: Array, b: Array) -> Array:
    """Matrix product of the last two axes, the axes in front are broadcast."""
    return call.xp.matmul(widened(a), widened(b)).astype(a.dtype, copy=False)


@operator("Gemm", Law.AFFINE_ONE)
def general_matrix_product(call: Call, a: Array, b: Array, c: Array | None = None) -> Array:
    """Fully connected layer: alpha · a·b + beta · c, with a and b transposed on request."""

    # row by row: a product of many rows may round otherwise than a product of few
    def by_rows(left: Array, right: Array) -> Array:
        return call.xp.matmul(left[:, None, :], right)[:, 0, :]

    return gemm_by(by_rows, call, a, b, c)


def gemm_by(
    product: Callable[[Array, Array], Array], call: Call, a: Array, b: Array, c: Array | None
) -> Array:
    """A Gemm node by any product of two matrices."""
    left, right = widened(a), widened(b)
    left = left.T if call.get("transA", 0) else left
    right = right.T if call.get("transB", 0) else right
    alpha, beta = call.get("alpha", 1.0), call.get("beta", 1.0)
    result = product(left, right)
    if alpha != 1:
        result = (result * alpha).astype(result.dtype, copy=False)
    if c is not None and beta != 0:
        result = result + (widened(c) if beta == 1 else widened(c) * beta)
    return result.astype(a.dtype, copy=False)


@operator("Einsum", Law.AFFINE_ONE)
def einstein_sum(call: Call, *inputs: Array) -> Array:
    """Sum of products over repeated indices, as the equation says."""
    result = call.xp.einsum(call.attributes["equation"], *(widened(x) for x in inputs))
    return call.xp.asarray(result).astype(inputs[0].dtype, copy=False)
