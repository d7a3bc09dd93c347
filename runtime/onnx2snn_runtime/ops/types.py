"""Changes of the element type, and dropout, which does nothing at inference."""

from typing import Any

import onnx

from onnx2snn_runtime.errors import BackendError
from onnx2snn_runtime.ops.bookkeeping import number
from onnx2snn_runtime.ops.registry import Array, Call, Law, operator

TYPES = {
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "bfloat16", "float32", "float64",
}  # fmt: skip


def _converted(x: Array, dtype: Any) -> Array:
    for name in (x.dtype.name, dtype.name):
        if name not in TYPES:
            raise BackendError(f"the element type {name} is not supported")
    return x.astype(dtype)


@operator("Cast", Law.AFFINE_FIRST)
def cast(call: Call, x: Array) -> Array:
    """The tensor in another element type."""
    element = int(call.attributes["to"])
    return _converted(x, onnx.helper.tensor_dtype_to_np_dtype(element))


@operator("CastLike", Law.AFFINE_FIRST)
def cast_like(call: Call, x: Array, target: Array) -> Array:
    """The tensor in the element type of another tensor."""
    del call
    return _converted(x, target.dtype)


@operator("Dropout", Law.AFFINE_FIRST)
def dropout(
    call: Call, x: Array, ratio: Array | None = None, training_mode: Array | None = None
) -> Array | tuple[Array, Array]:
    """The input itself, as at inference nothing is dropped.

    Raises:
        BackendError: it is in training mode.
    """
    if training_mode is not None and number(training_mode) and (ratio is None or number(ratio)):
        raise BackendError("Dropout in training mode is not supported")
    return (x, call.xp.ones(x.shape, dtype=bool)) if call.outputs > 1 else x
