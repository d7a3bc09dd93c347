"""Comparisons and logic; the result is a tensor of truth values."""

from onnx2snn_runtime.ops.registry import Array, Call, Law, operator

# operator: function of the array module, and what it computes
BINARY = {
    "Equal": ("equal", "Whether a = b."),
    "Less": ("less", "Whether a < b."),
    "LessOrEqual": ("less_equal", "Whether a ≤ b."),
    "Greater": ("greater", "Whether a > b."),
    "GreaterOrEqual": ("greater_equal", "Whether a ≥ b."),
    "And": ("logical_and", "Whether both are true."),
    "Or": ("logical_or", "Whether at least one is true."),
    "Xor": ("logical_xor", "Whether exactly one is true."),
}


def _register(name: str, function_name: str, summary: str) -> None:
    def function(call: Call, a: Array, b: Array) -> Array:
        return getattr(call.xp, function_name)(a, b)

    function.__doc__ = summary
    operator(name, Law.NONLINEAR)(function)


for _name, (_function, _summary) in BINARY.items():
    _register(_name, _function, _summary)
