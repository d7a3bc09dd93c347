"""The elementwise functions that spike, one entry each.

An activation f becomes a neuron through the one law of time

    F_t = t · f(X_t / t),   X_t = x_1 + … + x_t,

which for a positively homogeneous f is F_t = f(X_t), without t.
"""

from collections.abc import Callable
from dataclasses import dataclass

from onnx2snn_runtime.neurons.body import Body

UNBOUNDED = float("inf")


def _single_operator(body: Body, op: str, inputs: list[str], attributes: list[str]) -> str:
    return body.call(op, *inputs, references=attributes)


@dataclass(frozen=True)
class Activation:
    """An elementwise function y = f(x) that a neuron can send.

    Attributes:
        op: operator name, an ONNX operator unless ``expand`` spells it out.
        homogeneous: f(a·x) = a·f(x) for every a > 0.
        low: infimum of f, or -inf.
        high: supremum of f, or inf.
        rectifier: piecewise linear and used between layers, so it is a neuron wherever it stands;
            other functions are neurons only in front of weights.
        expand: writes f in standard operators into a function body and returns the result's name.
    """

    op: str
    homogeneous: bool = False
    low: float = -UNBOUNDED
    high: float = UNBOUNDED
    rectifier: bool = False
    expand: Callable[[Body, str, list[str], list[str]], str] = _single_operator

    @property
    def nonnegative(self) -> bool:
        """Whether f never takes a negative value."""
        return self.low >= 0.0


ACTIVATIONS: dict[str, Activation] = {}


def register(activation: Activation) -> Activation:
    """Add an activation to the registry."""
    if activation.op in ACTIVATIONS:
        raise ValueError(f"activation {activation.op} is registered twice")
    ACTIVATIONS[activation.op] = activation
    return activation


register(Activation("Relu", homogeneous=True, low=0.0, rectifier=True))
register(Activation("LeakyRelu", homogeneous=True, rectifier=True))
register(Activation("PRelu", homogeneous=True, rectifier=True))
register(Activation("Clip", rectifier=True))  # bounds are inputs, the node carries the range

# smooth activations; the ranges are those of f, rounded outwards where they are not exact
register(Activation("Sigmoid", low=0.0, high=1.0))
register(Activation("HardSigmoid", low=0.0, high=1.0))
register(Activation("Tanh", low=-1.0, high=1.0))
register(Activation("Softsign", low=-1.0, high=1.0))
register(Activation("Erf", low=-1.0, high=1.0))
register(Activation("Softplus", low=0.0))
register(Activation("Abs", homogeneous=True, low=0.0))
register(Activation("Elu"))  # −alpha at least
register(Activation("Celu"))  # −alpha at least
register(Activation("Selu", low=-1.7582))
register(Activation("HardSwish", low=-0.375))
register(Activation("Mish", low=-0.3089))
register(Activation("Gelu", low=-0.17005))
register(Activation("Swish"))  # the range depends on alpha
