"""Normalisation by fixed statistics (affine) and by statistics of the input (nonlinear)."""

import math

from onnx2snn_runtime.errors import BackendError
from onnx2snn_runtime.ops.bookkeeping import per_channel, positive_axis, widened
from onnx2snn_runtime.ops.registry import Array, Call, Law, operator


@operator("BatchNormalization", Law.AFFINE_FIRST)
def batch_normalization(
    call: Call, x: Array, scale: Array, bias: Array, mean: Array, variance: Array
) -> Array:
    """Affine map of each channel by stored statistics.

    y = (x - mean) · scale / sqrt(variance + epsilon) + bias

    Raises:
        BackendError: it is in training mode.
    """
    if call.get("training_mode", 0) or call.outputs > 1:
        raise BackendError("BatchNormalization in training mode is not supported")
    deviation = call.xp.sqrt(widened(variance) + call.get("epsilon", 1e-5))
    factor = widened(scale) / deviation
    offset = widened(bias) - widened(mean) * factor
    result = widened(x) * per_channel(factor, x.ndim) + per_channel(offset, x.ndim)
    return result.astype(x.dtype, copy=False)


def _standardized(call: Call, x: Array, axes: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """(x - mean) / sqrt(variance + epsilon) over axes, the mean, and the inverse deviation."""
    mean = x.mean(axis=axes, keepdims=True)
    centred = x - mean
    variance = (centred * centred).mean(axis=axes, keepdims=True)
    inverse = 1 / call.xp.sqrt(variance + call.get("epsilon", 1e-5))
    return centred * inverse, mean, inverse


@operator("LayerNormalization", Law.NONLINEAR)
def layer_normalization(
    call: Call, x: Array, scale: Array, bias: Array | None = None
) -> tuple[Array, ...]:
    """Mean 0 and variance 1 over the last axes of each sample, then scale and bias."""
    axis = positive_axis(int(call.get("axis", -1)), x.ndim)
    result, mean, inverse = _standardized(call, widened(x), tuple(range(axis, x.ndim)))
    result = result * widened(scale)
    if bias is not None:
        result = result + widened(bias)
    return (result.astype(x.dtype, copy=False), mean, inverse)[: call.outputs]


@operator("RMSNormalization", Law.NONLINEAR)
def root_mean_square_normalization(call: Call, x: Array, scale: Array) -> Array:
    """Mean square 1 over the last axes of each sample, then scale."""
    axis = positive_axis(int(call.get("axis", -1)), x.ndim)
    wide = widened(x)
    square = (wide * wide).mean(axis=tuple(range(axis, x.ndim)), keepdims=True)
    result = wide / call.xp.sqrt(square + call.get("epsilon", 1e-5)) * widened(scale)
    return result.astype(x.dtype, copy=False)


@operator("InstanceNormalization", Law.NONLINEAR)
def instance_normalization(call: Call, x: Array, scale: Array, bias: Array) -> Array:
    """Mean 0 and variance 1 over each channel of each sample, then scale and bias."""
    result, _, _ = _standardized(call, widened(x), tuple(range(2, x.ndim)))
    result = result * per_channel(widened(scale), x.ndim) + per_channel(widened(bias), x.ndim)
    return result.astype(x.dtype, copy=False)


@operator("GroupNormalization", Law.NONLINEAR)
def group_normalization(call: Call, x: Array, scale: Array, bias: Array) -> Array:
    """Mean 0 and variance 1 over each group of channels, then scale and bias.

    Scale and bias have one number per channel from opset 21, one per group before.
    """
    groups = int(call.attributes["num_groups"])
    grouped = widened(x).reshape(x.shape[0], groups, -1)
    result, _, _ = _standardized(call, grouped, (2,))
    if call.opset < 21:
        result = result * widened(scale)[:, None] + widened(bias)[:, None]
        return result.reshape(x.shape).astype(x.dtype, copy=False)
    result = result.reshape(x.shape) * per_channel(widened(scale), x.ndim)
    return (result + per_channel(widened(bias), x.ndim)).astype(x.dtype, copy=False)


@operator("LpNormalization", Law.NONLINEAR)
def lp_normalization(call: Call, x: Array) -> Array:
    """Divide by the norm along an axis; what has norm 0 stays 0."""
    axis, p = int(call.get("axis", -1)), int(call.get("p", 2))
    magnitudes = call.xp.abs(x) if p == 1 else x * x
    norm = magnitudes.sum(axis=axis, keepdims=True)
    norm = norm if p == 1 else call.xp.sqrt(norm)
    return x / call.xp.where(norm == 0, call.xp.ones_like(norm), norm)


@operator("LRN", Law.NONLINEAR)
def local_response_normalization(call: Call, x: Array) -> Array:
    """Divide by a power of the mean square of neighbouring channels.

    y_c = x_c / (bias + alpha / size · sum of x_j²)^beta, j = c - ⌊(size-1)/2⌋ … c + ⌈(size-1)/2⌉
    """
    size = int(call.attributes["size"])
    front, back = (size - 1) // 2, math.ceil((size - 1) / 2)
    squares = widened(x) ** 2
    channels = x.shape[1]
    sums = call.xp.zeros_like(squares)
    for shift in range(-front, back + 1):
        low, high = max(0, -shift), min(channels, channels - shift)
        if low < high:
            sums[:, low:high] += squares[:, low + shift : high + shift]
    alpha, beta, bias = (
        call.get(name, default)
        for name, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )
    return (x / (bias + sums * (alpha / size)) ** beta).astype(x.dtype, copy=False)


def _shifted(call: Call, x: Array, axis: int) -> Array:
    return widened(x) - widened(call.xp.max(x, axis=axis, keepdims=True))


@operator("Softmax", Law.NONLINEAR)
def softmax(call: Call, x: Array) -> Array:
    """Exponentials along an axis, divided by their sum."""
    axis = int(call.get("axis", -1))
    exponentials = call.xp.exp(_shifted(call, x, axis))
    result = exponentials / exponentials.sum(axis=axis, keepdims=True)
    return result.astype(x.dtype, copy=False)


@operator("LogSoftmax", Law.NONLINEAR)
def log_softmax(call: Call, x: Array) -> Array:
    """Logarithm of the softmax along an axis."""
    axis = int(call.get("axis", -1))
    shifted = _shifted(call, x, axis)
    sums = call.xp.log(call.xp.exp(shifted).sum(axis=axis, keepdims=True))
    return (shifted - sums).astype(x.dtype, copy=False)


@operator("Hardmax", Law.NONLINEAR)
def hardmax(call: Call, x: Array) -> Array:
    """One at the first largest element along an axis, zero elsewhere."""
    xp, axis = call.xp, positive_axis(int(call.get("axis", -1)), x.ndim)
    first = xp.expand_dims(xp.argmax(x, axis=axis), axis)
    positions = xp.arange(x.shape[axis]).reshape((-1,) + (1,) * (x.ndim - axis - 1))
    return (positions == first).astype(x.dtype)
