"""Functions of each element of one tensor."""

from collections.abc import Callable
from functools import wraps
from math import pi, sqrt

from onnx2snn_runtime.ops.bookkeeping import widened
from onnx2snn_runtime.ops.registry import Array, Call, Law, operator

# operator: function of the array module, and what it computes
UNARY = {
    "Abs": ("abs", "Magnitude, |x|."),
    "Acos": ("arccos", "Inverse cosine of x."),
    "Acosh": ("arccosh", "Inverse hyperbolic cosine of x."),
    "Asin": ("arcsin", "Inverse sine of x."),
    "Asinh": ("arcsinh", "Inverse hyperbolic sine of x."),
    "Atan": ("arctan", "Inverse tangent of x."),
    "Atanh": ("arctanh", "Inverse hyperbolic tangent of x."),
    "Ceil": ("ceil", "Smallest integer that is not below x."),
    "Cos": ("cos", "Cosine of x."),
    "Cosh": ("cosh", "Hyperbolic cosine of x."),
    "Exp": ("exp", "Exponential, e^x."),
    "Floor": ("floor", "Largest integer that is not above x."),
    "Log": ("log", "Natural logarithm of x."),
    "Not": ("logical_not", "Whether x is false."),
    "Round": ("rint", "Nearest integer, half to even."),
    "Sign": ("sign", "Sign of x: -1, 0 or 1."),
    "Sin": ("sin", "Sine of x."),
    "Sinh": ("sinh", "Hyperbolic sine of x."),
    "Sqrt": ("sqrt", "Square root of x."),
    "Tan": ("tan", "Tangent of x."),
    "Tanh": ("tanh", "Hyperbolic tangent of x."),
}


Function = Callable[..., Array]


def function_of_each(name: str) -> Callable[[Function], Function]:
    """Register a function of x that is computed in float32 or wider and keeps the type of x."""

    def register(function: Function) -> Function:
        @wraps(function)
        def typed(call: Call, x: Array, *others: Array | None) -> Array:
            wide = (None if other is None else widened(other) for other in others)
            return function(call, widened(x), *wide).astype(x.dtype, copy=False)

        return operator(name, Law.ELEMENTWISE)(typed)

    return register


def _unary(name: str, summary: str) -> Function:
    def function(call: Call, x: Array) -> Array:
        return getattr(call.xp, name)(x)

    function.__doc__ = summary
    return function


for _name, (_function, _summary) in UNARY.items():
    function_of_each(_name)(_unary(_function, _summary))


@operator("IsNaN", Law.ELEMENTWISE)
def is_not_a_number(call: Call, x: Array) -> Array:
    """Whether x is not a number."""
    return call.xp.isnan(x)


@function_of_each("Relu")
def relu(call: Call, x: Array) -> Array:
    """Rectified linear unit, max(x, 0)."""
    return call.xp.maximum(x, 0)


@function_of_each("Clip")
def clip(call: Call, x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    """Limit to a range, min(max(x, low), high)."""
    result = x if low is None else call.xp.maximum(x, low)
    return result if high is None else call.xp.minimum(result, high)


@function_of_each("LeakyRelu")
def leaky_relu(call: Call, x: Array) -> Array:
    """Rectifier with a slope alpha below zero."""
    return call.xp.where(x < 0, x * call.get("alpha", 0.01), x)


@function_of_each("PRelu")
def parametric_relu(call: Call, x: Array, slope: Array) -> Array:
    """Rectifier with a learned slope below zero."""
    return call.xp.where(x < 0, x * slope, x)


@function_of_each("ThresholdedRelu")
def thresholded_relu(call: Call, x: Array) -> Array:
    """Elements above alpha are kept, the others are zero."""
    return call.xp.where(x > call.get("alpha", 1.0), x, call.xp.zeros_like(x))


@function_of_each("Shrink")
def shrink(call: Call, x: Array) -> Array:
    """Move towards zero by bias; what lies within ±lambd becomes zero."""
    xp, bias, limit = call.xp, call.get("bias", 0.0), call.get("lambd", 0.5)
    below = xp.where(x < -limit, x + bias, xp.zeros_like(x))
    return xp.where(x > limit, x - bias, below)


@function_of_each("Sigmoid")
def sigmoid(call: Call, x: Array) -> Array:
    """Logistic function, 1 / (1 + e^-x)."""
    return 1 / (1 + call.xp.exp(-x))


@function_of_each("HardSigmoid")
def hard_sigmoid(call: Call, x: Array) -> Array:
    """Piecewise linear logistic function, max(0, min(1, alpha · x + beta))."""
    line = x * call.get("alpha", 0.2) + call.get("beta", 0.5)
    return call.xp.clip(line, 0, 1)


@function_of_each("HardSwish")
def hard_swish(call: Call, x: Array) -> Array:
    """Piecewise quadratic swish, x · max(0, min(1, x / 6 + 1/2))."""
    return x * call.xp.clip(x / 6 + 0.5, 0, 1)


@function_of_each("Swish")
def swish(call: Call, x: Array) -> Array:
    """Sigmoid-weighted linear unit (SiLU), x · sigmoid(alpha · x)."""
    return x / (1 + call.xp.exp(x * -call.get("alpha", 1.0)))


@function_of_each("Elu")
def elu(call: Call, x: Array) -> Array:
    """Exponential linear unit: alpha · (e^x - 1) below zero, else x."""
    return call.xp.where(x < 0, call.xp.expm1(x) * call.get("alpha", 1.0), x)


@function_of_each("Selu")
def selu(call: Call, x: Array) -> Array:
    """Scaled exponential linear unit: gamma · elu(x)."""
    alpha = call.get("alpha", 1.67326319217681884765625)
    gamma = call.get("gamma", 1.05070102214813232421875)
    return call.xp.where(x > 0, x * gamma, call.xp.expm1(x) * (alpha * gamma))


@function_of_each("Celu")
def celu(call: Call, x: Array) -> Array:
    """Continuously differentiable exponential linear unit: alpha · (e^(x/alpha) - 1) below zero."""
    alpha = call.get("alpha", 1.0)
    return call.xp.where(x < 0, call.xp.expm1(x / alpha) * alpha, x)


@function_of_each("Gelu")
def gelu(call: Call, x: Array) -> Array:
    """Gaussian error linear unit: x · Φ(x), exact or by tanh."""
    if call.get("approximate", "none") == "tanh":
        inner = (x + x * x * x * 0.044715) * sqrt(2 / pi)
        return x * 0.5 * (1 + call.xp.tanh(inner))
    return x * 0.5 * (1 + erf(call, x * sqrt(0.5)))


@function_of_each("Erf")
def erf(call: Call, x: Array) -> Array:
    """Gauss error function, to float32 accuracy.

    A rational function x · P(x²) / Q(x²) on [-4, 4], the usual minimax coefficients for float32.
    """
    numerator = (
        -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
        -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02,
    )  # fmt: skip
    denominator = (
        -1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03,
        -7.37332916720468e-03, -1.42647390514189e-02,
    )  # fmt: skip
    bounded = call.xp.clip(x, -4, 4)
    square = bounded * bounded
    return call.xp.clip(bounded * _horner(square, numerator) / _horner(square, denominator), -1, 1)


def _horner(x: Array, coefficients: tuple[float, ...]) -> Array:
    result = x * coefficients[0] + coefficients[1]
    for coefficient in coefficients[2:]:
        result = result * x + coefficient
    return result


def _softplus(call: Call, x: Array) -> Array:
    return call.xp.maximum(x, 0) + call.xp.log1p(call.xp.exp(-call.xp.abs(x)))


@function_of_each("Softplus")
def softplus(call: Call, x: Array) -> Array:
    """Smooth rectifier, ln(1 + e^x)."""
    return _softplus(call, x)


@function_of_each("Mish")
def mish(call: Call, x: Array) -> Array:
    """Mish: x · tanh(ln(1 + e^x))."""
    return x * call.xp.tanh(_softplus(call, x))


@function_of_each("Softsign")
def softsign(call: Call, x: Array) -> Array:
    """Soft sign, x / (1 + |x|)."""
    return x / (1 + call.xp.abs(x))


@function_of_each("Reciprocal")
def reciprocal(call: Call, x: Array) -> Array:
    """Reciprocal, 1 / x."""
    return call.xp.reciprocal(x)


@operator("IsInf", Law.ELEMENTWISE)
def is_infinite(call: Call, x: Array) -> Array:
    """Whether x is infinite, of either sign or of one."""
    found = call.xp.isinf(x)
    if not call.get("detect_positive", 1):
        found &= x < 0
    if not call.get("detect_negative", 1):
        found &= x > 0
    return found
