import numpy as np
import pytest
from passes.helpers import has, model, normal, operators, random

from onnx2snn.passes.gates import GATES
from onnx2snn_runtime.neurons import COMPOSITES


def ints(*numbers):
    return np.array(numbers, np.int64)


def test_matmul_and_add_are_gemm():
    source = model(
        "agraph (float[N,6] x) => (float[N,4] y) {m = MatMul(x, w) y = Add(b, m)}",
        w=random(6, 4),
        b=random(4),
    )
    proto, _ = normal(source)
    assert operators(proto) == {"Gemm": 1}
    assert proto.graph.node[0].input[1] == "w"


def test_matmul_of_tokens_stays_with_a_note():
    source = model("agraph (float[N,5,6] x) => (float[N,5,4] y) {y = MatMul(x, w)}", w=random(6, 4))
    proto, notes = normal(source)
    assert operators(proto) == {"MatMul": 1}
    assert has(notes, "its input has rank 3")


@pytest.mark.parametrize(("axes", "keep"), [((2, 3), 1), ((-1, -2), 1), ((2, 3), 0)])
def test_mean_over_space_is_global_average_pool(axes, keep):
    shape = "N,3,1,1" if keep else "N,3"
    source = model(
        f"agraph (float[N,3,4,5] x) => (float[{shape}] y){{y = ReduceMean<keepdims={keep}>(x, a)}}",
        a=ints(*axes),
    )
    proto, _ = normal(source)
    expected = {"GlobalAveragePool": 1} if keep else {"GlobalAveragePool": 1, "Flatten": 1}
    assert operators(proto) == expected


def test_mean_over_other_axes_stays():
    source = model(
        "agraph (float[N,3,4,5] x) => (float[N,1,4,5] y) {y = ReduceMean(x, a)}", a=ints(1)
    )
    assert operators(normal(source)[0]) == {"ReduceMean": 1}


ZERO, SIX, INFINITY = np.float32(0), np.float32(6), np.float32(np.inf)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Clip(x, zero, infinity)", {"Relu": 1}),
        ("y = Clip(x, zero, largest)", {"Relu": 1}),
        ("y = Clip(x, zero)", {"Relu": 1}),
        ("y = Max(x, zero)", {"Relu": 1}),
        ("y = Max(zero, x)", {"Relu": 1}),
        ("a = Relu(x) y = Min(a, six)", {"Clip": 1}),
        ("a = Min(x, six) y = Max(zero, a)", {"Clip": 1}),
        ("a = Clip(x, zero, six) y = Relu(a)", {"Clip": 1}),
        ("a = Relu(x) y = Clip(a, zero, six)", {"Clip": 1}),
        ("a = Relu(x) b = Relu(a) y = Clip(b, zero, six)", {"Clip": 1}),
        ("a = Clip(x) y = Relu(a)", {"Relu": 1}),
        ("y = Min(x, six)", {"Min": 1}),  # no weights behind it
        ("a = Mul(x, tenth) y = Max(x, a)", {"LeakyRelu": 1}),
        ("a = Mul(x, six) y = Max(x, a)", {"Mul": 1, "Max": 1}),
        ("y = Clip(x, six, zero)", {"Mul": 1}),  # always 0
        ("y = Clip(x, six, six)", {"BatchNormalization": 1}),  # always 6
        ("a = Max(x, six) y = Min(a, tenth)", {"BatchNormalization": 1}),
    ],
)
def test_clamps(body, expected):
    source = model(
        f"agraph (float[N,3,4,5] x) => (float[N,3,4,5] y) {{{body}}}",
        zero=ZERO, six=SIX, infinity=INFINITY,
        largest=np.finfo(np.float32).max, tenth=np.float32(0.1),
    )  # fmt: skip
    assert operators(normal(source)[0]) == expected


def test_a_clamp_that_others_read_is_not_merged():
    source = model(
        "agraph (float[N,4] x) => (float[N,4] y, float[N,4] z)"
        "{a = Relu(x) y = Min(a, six) z = Neg(a)}",
        six=SIX,
    )
    assert operators(normal(source)[0])["Relu"] == 1


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 3, 1, 1), ()])
@pytest.mark.parametrize(
    "body",
    [
        "y = Add(p, m)",
        "y = Add(m, p)",
        "y = Sub(p, m)",
    ],
)
def test_prelu_as_keras_writes_it(shape, body):
    source = model(
        "agraph (float[N,3,4,5] x) => (float[N,3,4,5] y)"
        f"{{p = Relu(x) n = Neg(x) q = Relu(n) m = Mul(c, q) {body}}}",
        c=np.asarray(random(*shape), np.float32),
    )
    proto, notes = normal(source)
    assert operators(proto) == {"PRelu": 1}
    assert has(notes, "is PRelu")


SPELLED = {
    "HardSwish from HardSigmoid": (
        "g = HardSigmoid<alpha=0.16666667, beta=0.5>(x) y = Mul(x, g)", "HardSwish", 18,
    ),
    "HardSwish from ReLU6": (
        "a = Add(x, three) c = Clip(a, zero, six) d = Div(c, six) y = Mul(d, x)", "HardSwish", 18,
    ),
    "HardSwish, divided last": (
        "a = Add(three, x) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)", "HardSwish", 18,
    ),
    "HardSwish as Keras writes it": (
        "m = Mul(x, sixth) a = Add(m, half) c = Clip(a, zero, one) y = Mul(x, c)", "HardSwish", 18,
    ),
    "HardSwish, the divided clamp first": (
        "d = Div(x, six) a = Add(half, d) c = Clip(a, zero, one) y = Mul(c, x)", "HardSwish", 18,
    ),
    "SiLU": ("s = Sigmoid(x) y = Mul(x, s)", "Swish", 18),
    "SiLU of a newer operator set": ("s = Sigmoid(x) y = Mul(s, x)", "Swish", 24),
    "Swish with a slope": ("m = Mul(slope, x) s = Sigmoid(m) y = Mul(x, s)", "Swish", 18),
    "Gelu of an older operator set": (
        "m = Mul(x, root_half) e = Erf(m) a = Add(one, e) h = Mul(a, half) y = Mul(x, h)",
        "Gelu", 18,
    ),
    "Mish": ("s = Softplus(x) t = Tanh(s) y = Mul(x, t)", "Mish", 18),
    "Gelu": (
        "d = Div(x, root) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)", "Gelu", 20,
    ),
    "Gelu, halved first": (
        "h = Mul(half, x) d = Div(x, root) e = Erf(d) a = Add(one, e) y = Mul(h, a)", "Gelu", 20,
    ),
    "Gelu by tanh": (
        "p = Pow(x, three) q = Mul(p, k) a = Add(x, q) s = Mul(a, r) t = Tanh(s)"
        "b = Add(t, one) h = Mul(x, half) y = Mul(h, b)", "TanhGelu", 20,
    ),
}  # fmt: skip
NUMBERS = {
    "zero": 0, "one": 1, "half": 0.5, "three": 3, "six": 6, "root": 2**0.5, "sixth": 1 / 6,
    "root_half": 0.5**0.5, "slope": 1.702,
    "k": 0.044715, "r": (2 / np.pi) ** 0.5,
}  # fmt: skip


@pytest.mark.parametrize("case", SPELLED)
def test_spelled_out_activations(case):
    body, expected, opset = SPELLED[case]
    source = model(
        f"agraph (float[N,3,4,5] x) => (float[N,3,4,5] y) {{{body}}}",
        opset=opset,
        **{name: np.float32(number) for name, number in NUMBERS.items()},
    )
    assert operators(normal(source)[0]) == {expected: 1}


def test_every_gate_is_tested():
    assert {gate.op for gate in GATES} == {expected for _, expected, _ in SPELLED.values()}


@pytest.mark.parametrize(("opset", "domain"), [(18, COMPOSITES), (20, "")])
def test_what_the_operator_set_lacks_is_a_function(opset, domain):
    source = model(
        f"agraph (float[N,4] x) => (float[N,4] y) {{{SPELLED['Gelu'][0]}}}",
        opset=opset,
        **{name: np.float32(number) for name, number in NUMBERS.items()},
    )
    proto, _ = normal(source)
    assert [node.domain for node in proto.graph.node] == [domain]
    assert [function.name for function in proto.functions] == (["Gelu"] if domain else [])


def test_a_gate_by_another_value_is_no_activation():
    source = model(
        "agraph (float[N,4] x) => (float[N,4] y)"
        "{r = Relu(x) g = HardSigmoid<alpha=0.16666667, beta=0.5>(r) y = Mul(x, g)}"
    )
    assert operators(normal(source)[0]) == {"Relu": 1, "HardSigmoid": 1, "Mul": 1}
