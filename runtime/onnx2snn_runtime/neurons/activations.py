"""The elementwise functions that spike, one entry each.

An activation f becomes a neuron through the one law of time

    F_t = t · f(X_t / t),   X_t = x_1 + … + x_t,

which for a positively homogeneous f is F_t = f(X_t), without t.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import pi, sqrt

from onnx import AttributeProto, FunctionProto, NodeProto

from onnx2snn_runtime.neurons.body import Body, operator_attributes

UNBOUNDED = float("inf")
COMPOSITES = "ai.onnx2snn.composite"
"""Domain of activations that the operator set of a network does not have."""

Spell = Callable[[Body, str], str]
"""Writes f of a tensor in standard operators; returns the name of the result."""


@dataclass(frozen=True)
class Activation:
    """An elementwise function y = f(x) that a neuron can send.

    Attributes:
        op: operator name, of ONNX or of the domain ``COMPOSITES``.
        homogeneous: f(a·x) = a·f(x) for every a > 0.
        low: infimum of f, or -inf.
        high: supremum of f, or inf.
        rectifier: piecewise linear and used between layers, so it is a neuron wherever it stands;
            other functions are neurons only in front of weights.
        nondecreasing: x ≤ y implies f(x) ≤ f(y), whatever the attributes.
        since: first operator set that has the operator.
        spell: writes f in standard operators, for older operator sets.
        parameters: float attributes that ``spell`` reads.
        cuda: f as an expression of CUDA C++ in the float ``x``, in float attributes of the operator
            and in ``constants`` by their names, on what ``kernels/functions.h`` offers; empty: the
            GPU evaluates f apart from the law. It rounds where the operator on arrays rounds.
        constants: names of the inputs besides x in ``cuda``, in order; one number a neuron.
    """

    op: str
    homogeneous: bool = False
    low: float = -UNBOUNDED
    high: float = UNBOUNDED
    rectifier: bool = False
    nondecreasing: bool = False
    since: int = 1
    spell: Spell | None = None
    parameters: tuple[str, ...] = ()
    cuda: str = ""
    constants: tuple[str, ...] = ()

    @property
    def nonnegative(self) -> bool:
        """Whether f never takes a negative value."""
        return self.low >= 0.0

    def is_standard(self, opset: int) -> bool:
        """Whether the operator set has the operator."""
        return opset >= self.since

    def attributes(self, opset: int) -> list[str]:
        """Names of the attributes of a node that computes f."""
        if self.is_standard(opset):
            return sorted(operator_attributes(self.op, opset))
        return list(self.parameters)

    def write(self, body: Body, inputs: Sequence[str]) -> str:
        """Write f into the body of a function that has the attributes of f."""
        if self.is_standard(body.opset) or self.spell is None:
            return body.call(self.op, *inputs, references=self.attributes(body.opset))
        return self.spell(body, inputs[0])

    def function(self, opset: int) -> FunctionProto:
        """f as a model-local function of the domain ``COMPOSITES``."""
        body = Body(opset)
        result = self.write(body, ["x"])
        description = f"{self.op} for operator sets before {self.since}"
        return body.function(self.op, ["x"], [result], self.parameters, description, COMPOSITES)


ACTIVATIONS: dict[str, Activation] = {}


def register(activation: Activation) -> Activation:
    """Add an activation to the registry.

    Raises:
        ValueError: it is registered twice.
    """
    if activation.op in ACTIVATIONS:
        raise ValueError(f"activation {activation.op} is registered twice")
    ACTIVATIONS[activation.op] = activation
    return activation


register(
    Activation(
        "Relu", homogeneous=True, low=0.0, rectifier=True, nondecreasing=True,
        cuda="at_least(x, 0.0f)",
    )
)  # fmt: skip
register(Activation("LeakyRelu", homogeneous=True, rectifier=True, cuda="x < 0.0f ? x * alpha : x"))
register(
    Activation(
        "PRelu", homogeneous=True, rectifier=True,
        cuda="x < 0.0f ? x * slope : x", constants=("slope",),
    )
)  # fmt: skip
register(
    Activation(
        "Clip", rectifier=True, nondecreasing=True,
        cuda="at_most(at_least(x, low), high)", constants=("low", "high"),
    )
)  # fmt: skip  # bounds are inputs, the node carries the range

# smooth activations; the ranges are those of f, rounded outwards where they are not exact
register(
    Activation("Sigmoid", low=0.0, high=1.0, nondecreasing=True, cuda="1.0f / (1.0f + expf(-x))")
)
register(
    Activation(
        "HardSigmoid", low=0.0, high=1.0, cuda="at_most(at_least(x * alpha + beta, 0.0f), 1.0f)"
    )
)
register(Activation("Tanh", low=-1.0, high=1.0, nondecreasing=True, cuda="tanhf(x)"))
register(
    Activation("Softsign", low=-1.0, high=1.0, nondecreasing=True, cuda="x / (1.0f + fabsf(x))")
)
register(Activation("Erf", low=-1.0, high=1.0, nondecreasing=True, cuda="error_function(x)"))
register(Activation("Softplus", low=0.0, nondecreasing=True, cuda="softplus(x)"))
register(Activation("Abs", homogeneous=True, low=0.0, cuda="fabsf(x)"))
# −alpha at least
register(Activation("Elu", cuda="x < 0.0f ? expm1f(x) * alpha : x"))
register(Activation("Celu", cuda="x < 0.0f ? expm1f(x / alpha) * alpha : x"))
register(Activation("Selu", low=-1.7582, cuda="x > 0.0f ? x * gamma : expm1f(x) * (alpha * gamma)"))
register(
    Activation("HardSwish", low=-0.375, cuda="x * at_most(at_least(x / 6.0f + 0.5f, 0.0f), 1.0f)")
)
register(Activation("Mish", low=-0.3089, cuda="x * tanhf(softplus(x))"))
register(Activation("Exp", low=0.0, nondecreasing=True, cuda="expf(x)"))
register(Activation("ThresholdedRelu", cuda="x > alpha ? x : 0.0f"))  # alpha may be negative
register(Activation("Shrink", cuda="x > lambd ? x - bias : x < -lambd ? x + bias : 0.0f"))


def _swish(body: Body, x: str) -> str:
    """x · sigmoid(alpha · x)."""
    gate = body.call("Sigmoid", body.call("Mul", x, body.attribute("alpha")))
    return body.call("Mul", x, gate)


def _gelu(body: Body, x: str) -> str:
    """x/2 · (1 + erf(x / √2))."""
    inner = body.call("Erf", body.call("Mul", x, body.constant(sqrt(0.5))))
    return _half_of_one_plus(body, x, inner)


def _tanh_gelu(body: Body, x: str) -> str:
    """x/2 · (1 + tanh(√(2/π) · (x + 0.044715·x³)))."""
    cube = body.call("Mul", body.call("Mul", x, x), x)
    total = body.call("Add", x, body.call("Mul", cube, body.constant(0.044715)))
    inner = body.call("Tanh", body.call("Mul", total, body.constant(sqrt(2 / pi))))
    return _half_of_one_plus(body, x, inner)


def _half_of_one_plus(body: Body, x: str, inner: str) -> str:
    half = body.call("Mul", x, body.constant(0.5))
    return body.call("Mul", half, body.call("Add", inner, body.constant(1.0)))


NEVER = 10**6
register(
    Activation(
        "Gelu", low=-0.17005, since=20, spell=_gelu,
        cuda="x * 0.5f * (1.0f + error_function(x * 0.70710678f))",
    )
)  # fmt: skip
register(
    Activation(
        "TanhGelu", low=-0.17005, since=NEVER, spell=_tanh_gelu,
        cuda="x * 0.5f * (1.0f + tanhf((x + x * x * x * 0.044715f) * 0.79788456f))",
    )
)  # fmt: skip
# the range of Swish depends on alpha
register(
    Activation(
        "Swish", since=24, spell=_swish, parameters=("alpha",), cuda="x / (1.0f + expf(x * -alpha))"
    )
)


def spelled_out(node: NodeProto, opset: int) -> list[NodeProto]:
    """Nodes in standard operators that compute what a node of the domain ``COMPOSITES`` does."""
    body = Body(opset)
    result = ACTIVATIONS[node.op_type].write(body, [node.input[0]])
    renamed = {node.input[0]: node.input[0], result: node.output[0]}
    given = {item.name: item for item in node.attribute}
    for inner in body.nodes:
        inner.name = f"{node.name}.{inner.output[0]}"
        for names in (inner.input, inner.output):
            names[:] = [renamed.setdefault(name, f"{node.output[0]}.{name}") for name in names]
        for attribute in inner.attribute:
            if attribute.ref_attr_name:
                value = AttributeProto()
                value.CopyFrom(given[attribute.ref_attr_name])
                value.name = attribute.name
                attribute.CopyFrom(value)
    return body.nodes
