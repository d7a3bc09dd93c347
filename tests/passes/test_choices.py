"""Activations that are spelled as a choice between branches."""

import numpy as np
import pytest
from passes.helpers import has, model, normal, operators, random

import onnx2snn
from onnx2snn_runtime.errors import UnsupportedError

CHOICES = {
    "Softplus": ("big = Greater(c, twenty) s = Softplus(c) y = Where(big, c, s)", {}),
    "Softplus of a product": (
        "d = Mul(c, two) big = Greater(d, twenty) s = Softplus(d) t = Div(s, two) "
        "y = Where(big, c, t)", None,
    ),
    "ThresholdedRelu": ("low = LessOrEqual(c, half) y = Where(low, zero, c)", {"alpha": 0.5}),
    "ThresholdedRelu by a mask": (
        "high = Less(half, c) m = Cast<to=1>(high) y = Mul(c, m)", None,
    ),
    "hard Shrink": (
        "a = Abs(c) low = LessOrEqual(a, half) y = Where(low, zero, c)",
        {"lambd": 0.5, "bias": 0.0},
    ),
    "soft Shrink": (
        "a = Greater(c, half) b = Sub(c, half) e = Where(a, b, zero) f = Less(c, minus) "
        "g = Add(c, half) h = Where(f, g, zero) y = Add(e, h)",
        {"lambd": 0.5, "bias": 0.5},
    ),
}  # fmt: skip
NUMBERS = {
    "far": 127.0,
    "tiny": 1e-6,
    "half": 0.5,
    "minus": -0.5,
    "zero": 0.0,
    "two": 2.0,
    "twenty": 20.0,
}


def network(lines, **weights):
    numbers = {name: np.float32(number) for name, number in NUMBERS.items()}
    return model(
        f"""agraph (float[N,3,4,4] input) => (float[N,2,4,4] output) {{
            c = Conv(input, w) {lines} output = Conv(y, v)
        }}""",
        w=random(2, 3, 1, 1), v=random(2, 2, 1, 1),
        **{name: number for name, number in numbers.items() if name in lines}, **weights,
    )  # fmt: skip


@pytest.mark.parametrize("case", [case for case in CHOICES if CHOICES[case][1] is not None])
def test_a_choice_is_the_activation_with_its_values(case):
    lines, expected = CHOICES[case]
    proto, notes = normal(network(lines))
    op = case.split()[-1]
    assert operators(proto) == {"Conv": 2, op: 1}
    (node,) = (node for node in proto.graph.node if node.op_type == op)
    assert {a.name: a.f for a in node.attribute} == pytest.approx(expected)
    assert has(notes, "is its branch" if op == "Softplus" else f"is {op}")


def test_a_superfluous_choice_behind_other_operators():
    proto, _ = normal(network(CHOICES["Softplus of a product"][0]))
    assert "Where" not in operators(proto)


@pytest.mark.parametrize(
    "lines",
    [
        "low = Less(c, half) d = Mul(c, two) y = Where(low, d, c)",
        "low = Less(c, far) d = Mul(c, half) e = Add(c, two) y = Where(low, d, e)",
        "high = Greater(c, far) d = Mul(c, half) y = Where(high, far, d)",
        "f = Mul(c, tiny) high = Greater(f, half) y = Where(high, half, c)",
    ],
)
def test_another_choice_stays(lines):
    """Also one whose threshold few activations reach."""
    proto, _ = normal(network(lines))
    assert operators(proto)["Where"] == 1


@pytest.mark.parametrize("recipe", ["fast", "refine"])
def test_a_choice_by_the_picture_is_linear_in_spikes(recipe):
    """The condition stands in front of the first neuron: it is the same in every step."""
    generator = np.random.default_rng(0)
    images = generator.normal(size=(40, 3, 4, 4)).astype(np.float32)
    source = network("r = Relu(c) low = Less(c, half) d = Mul(r, two) y = Where(low, d, r)")
    spiking = onnx2snn.convert(source, calibration=images, recipe=recipe)
    assert [layer.role for layer in spiking.layers] == ["neuron"]
    assert spiking.check.output_error < 0.02


def test_booleans_between_layers_are_refused_by_name():
    lines = "r = Relu(c) e = Conv(r, v) low = Less(e, half) d = Mul(e, two) y = Where(low, d, r)"
    with pytest.raises(UnsupportedError, match="not float") as caught:
        onnx2snn.convert(
            network(lines.replace("y = Where", "z = Where") + " y = Relu(z)"),
            calibration=np.random.default_rng(0).normal(size=(40, 3, 4, 4)).astype(np.float32),
        )
    assert any(finding.op in ("Less", "Where") for finding in caught.value.findings)


@pytest.mark.parametrize(
    "op", ["Clip(c, minus)", "Max(c, minus)", "Min(c, half)", "Clip(c, , half)"]
)
@pytest.mark.parametrize("recipe", ["fast", "refine"])
def test_a_clamp_with_one_bound_is_a_rectifier(op, recipe):
    images = np.random.default_rng(0).normal(size=(40, 3, 4, 4)).astype(np.float32)
    source = network(f"y = {op}")
    proto, notes = normal(source)
    assert operators(proto) == {"Conv": 2, "Relu": 1}
    assert has(notes, "is a Relu between constants")
    spiking = onnx2snn.convert(source, calibration=images, recipe=recipe)
    assert [layer.role for layer in spiking.layers] == ["neuron"]
    assert spiking.check.output_error < 0.03


@pytest.mark.parametrize("bound", [-1e4, -1e9, 1e9])
def test_a_bound_that_would_take_the_digits_stays(bound):
    op = "Max" if bound < 0 else "Min"
    proto, notes = normal(network(f"y = {op}(c, b)", b=np.float32(bound)))
    assert operators(proto)[op] == 1
    assert has(notes, "would lose its digits")


def test_an_epsilon_is_no_activation():
    """As in x / max(|x|, ε)."""
    proto, _ = normal(network("y = Max(c, b)", b=np.float32(1e-12)))
    assert operators(proto)["Max"] == 1


@pytest.mark.parametrize(("op", "sign"), [("Max", -1), ("Min", 1)])
def test_the_largest_number_is_no_bound(op, sign):
    largest = np.float32(sign) * np.finfo(np.float32).max
    proto, _ = normal(network(f"y = {op}(c, b)", b=largest))
    assert operators(proto) == {"Conv": 2}
