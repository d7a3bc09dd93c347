"""Operators that depend on shapes only, and constants."""

import numpy as np
import onnx

from onnx2snn_runtime.errors import BackendError
from onnx2snn_runtime.ops.bookkeeping import integers, number
from onnx2snn_runtime.ops.registry import Array, Call, Law, operator


@operator("Shape", Law.SHAPE)
def shape_of(call: Call, x: Array) -> Array:
    """Sizes of the axes of a tensor, or of a range of them."""
    return call.xp.asarray(x.shape[call.get("start", 0) : call.get("end")], dtype=np.int64)


@operator("Size", Law.SHAPE)
def size_of(call: Call, x: Array) -> Array:
    """Number of elements of a tensor."""
    return call.xp.asarray(x.size, dtype=np.int64)


@operator("Constant", Law.SHAPE)
def constant(call: Call) -> Array:
    """A tensor that is part of the model.

    Raises:
        BackendError: it is spelled in a way that is not supported.
    """
    types = {"value_float": np.float32, "value_floats": np.float32,
             "value_int": np.int64, "value_ints": np.int64}  # fmt: skip
    for name, value in call.attributes.items():
        if name == "value":
            return call.xp.asarray(value)
        if name in types:
            return call.xp.asarray(value, dtype=types[name])
    raise BackendError(f"Constant with {', '.join(call.attributes)} is not supported")


@operator("ConstantOfShape", Law.SHAPE)
def constant_of_shape(call: Call, shape: Array) -> Array:
    """A tensor of the given shape, filled with one value (zero unless given)."""
    value = call.get("value")
    value = np.zeros(1, dtype=np.float32) if value is None else value
    return call.xp.full(tuple(integers(shape)), number(value), dtype=value.dtype)


@operator("Range", Law.SHAPE)
def number_range(call: Call, start: Array, limit: Array, delta: Array) -> Array:
    """Numbers from start to below limit in steps of delta."""
    first, last, step = (number(value) for value in (start, limit, delta))
    count = max(0, int(np.ceil((last - first) / step)))
    return (call.xp.arange(count) * step + first).astype(start.dtype)


@operator("EyeLike", Law.SHAPE)
def eye_like(call: Call, x: Array) -> Array:
    """A matrix of the shape of x with ones on a diagonal."""
    element = call.get("dtype")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(element) if element else x.dtype
    return call.xp.eye(x.shape[0], x.shape[1], k=int(call.get("k", 0)), dtype=dtype)
