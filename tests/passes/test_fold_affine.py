import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from passes.helpers import difference, has, model, normal, operators, positive, random, run

from onnx2snn.passes import normalise
from onnx2snn.passes.weights import scaled


def batch_normalization(channels, seed=0):
    return {
        "g": positive(channels, seed=seed),
        "b": random(channels, seed=seed + 1),
        "m": random(channels, seed=seed + 2),
        "v": positive(channels, seed=seed + 3),
    }


BN = "BatchNormalization({}, g, b, m, v)"
PICTURE = "agraph (float[N,4,6,6] x) => (float[N,c,p,q] y) "


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize(
    ("node", "shape"),
    [
        ("Conv<pads=[1,1,1,1]>(x, w{})", (6, 4, 3, 3)),
        ("Conv<group=2>(x, w{})", (6, 2, 3, 3)),
        ("ConvTranspose<strides=[2,2]>(x, w{})", (4, 6, 2, 2)),
        ("ConvTranspose<group=2>(x, w{})", (4, 3, 2, 2)),
    ],
)
def test_batch_normalization_goes_into_its_producer(node, shape, with_bias):
    body = node.format(", bias" if with_bias else "")
    source = model(
        PICTURE + f"{{a = {body} n = {BN.format('a')} y = Relu(n)}}",
        w=random(*shape), bias=random(6), **batch_normalization(6),
    )  # fmt: skip
    proto, notes = normal(source)
    assert operators(proto) == {node.split("<")[0].split("(")[0]: 1, "Relu": 1}
    assert has(notes, "folded into")
    assert proto.graph.node[0].input[1] == "w"


@pytest.mark.parametrize(
    "gemm",
    [
        "Gemm(x, w)",
        "Gemm<transB=1, alpha=0.5, beta=2.0>(x, t, bias)",
        "Gemm(x, w, one)",
        "MatMul(x, w)",
    ],
)
def test_batch_normalization_goes_into_gemm(gemm):
    source = model(
        f"agraph (float[N,5] x) => (float[N,6] y) {{a = {gemm} y = {BN.format('a')}}}",
        w=random(5, 6), t=random(6, 5), bias=random(1, 6), one=random(1), **batch_normalization(6),
    )  # fmt: skip
    assert operators(normal(source)[0]) == {"Gemm": 1}


@pytest.mark.parametrize(
    "body",
    [
        "y = Mul(a, s)",
        "y = Mul(s, a)",
        "y = Add(a, s)",
        "y = Sub(a, s)",
        "y = Sub(s, a)",
        "y = Div(a, s)",
        "y = Neg(a)",
        "y = Mul(a, k)",
        "b1 = Mul(a, s) c = Add(b1, s) d = Div(c, k) y = Sub(k, d)",
        "t = Transpose<perm=[0,2,3,1]>(a) z = Mul(t, last) y = Transpose<perm=[0,3,1,2]>(z)",
        "r = Reshape(a, flat) z = Mul(r, s2) y = Add(z, k)",
    ],
)
def test_constant_arithmetic_goes_into_its_producer(body):
    source = model(
        PICTURE + f"{{a = Conv(x, w) {body}}}",
        w=random(6, 4, 3, 3), s=positive(1, 6, 1, 1), k=np.float32(1.5), last=positive(6),
        flat=np.array([0, 6, -1], np.int64), s2=positive(6, 1),
    )  # fmt: skip
    proto, _ = normal(source)
    assert set(operators(proto)) <= {"Conv", "Transpose", "Reshape"}


def test_a_map_goes_forward_into_an_unpadded_conv():
    source = model(
        PICTURE + f"{{r = Relu(x) n = {BN.format('r')} y = Conv<group=2>(n, w, c)}}",
        w=random(6, 2, 3, 3), c=random(6), **batch_normalization(4),
    )  # fmt: skip
    proto, notes = normal(source)
    assert operators(proto) == {"Relu": 1, "Conv": 1}
    assert has(notes, "folded into")


def test_a_scale_goes_forward_into_a_padded_conv():
    source = model(
        PICTURE + "{r = Relu(x) n = Mul(r, s) y = Conv<pads=[1,1,1,1]>(n, w)}",
        w=random(6, 4, 3, 3), s=positive(4, 1, 1),
    )  # fmt: skip
    assert operators(normal(source)[0]) == {"Relu": 1, "Conv": 1}


@pytest.mark.parametrize(
    "reader", ["Gemm(f, w)", "Gemm<transB=1, alpha=2.0>(f, t, c)", "MatMul(f, w)"]
)
def test_a_map_goes_forward_through_flatten_into_gemm(reader):
    source = model(
        f"agraph (float[N,4,2,3] x) => (float[N,5] y)"
        f"{{r = Relu(x) n = {BN.format('r')} p = Transpose<perm=[0,2,3,1]>(n)"
        f" f = Flatten(p) y = {reader}}}",
        w=random(24, 5), t=random(5, 24), c=random(5), **batch_normalization(4),
    )  # fmt: skip
    proto, _ = normal(source)
    assert operators(proto) == {"Relu": 1, "Transpose": 1, "Flatten": 1, "Gemm": 1}


def test_shared_weights_are_copied():
    source = model(
        "agraph (float[N,4,6,6] x) => (float[N,4,6,6] y, float[N,4,6,6] z)"
        f"{{a = Conv(x, w, c) y = {BN.format('a')} z = Conv(x, w, c)}}",
        w=random(4, 4, 1, 1), c=random(4), **batch_normalization(4),
    )  # fmt: skip
    proto, _ = normal(source)
    assert operators(proto) == {"Conv": 2}
    assert {i.name for i in proto.graph.initializer} >= {"w", "c"}
    assert len(proto.graph.initializer) == 4


def test_images_are_normalised_by_the_first_conv():
    source = model(
        PICTURE + "{a = Sub(x, m) b = Div(a, s) y = Conv(b, w)}",
        w=random(6, 4, 3, 3), m=random(1, 4, 1, 1), s=positive(1, 4, 1, 1),
    )  # fmt: skip
    assert operators(normal(source)[0]) == {"Conv": 1}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            "a = Concat<axis=1>(x, x) b = Mul(a, k8) y = Relu(b)",
            "its producer a_node has no weights",
        ),
        ("r = Relu(x) b = Add(r, s) y = Conv<pads=[1,1,1,1]>(b, w)", "pads with zeros"),
        ("r = Relu(x) b = Add(r, s) y = ConvTranspose(b, u)", "windows are partial"),
        ("a = Conv(x, w) b = Mul(a, k6) c = Relu(a) y = Mul(b, c)", "is read by 2 nodes"),
        ("a = Conv(x, w) b = Mul(a, place) y = Relu(b)", "not one per channel"),
        ("b = Mul(x, s) y = Relu(b)", "its input is an input of the model"),
        ("r = Relu(x) y = Mul(r, s)", "y is an output of the model"),
        ("r = Relu(x) b = Mul(r, s) c = Relu(b) e = Neg(b) y = Mul(c, e)", "b is read by 2 nodes"),
        ("a = Conv(x, w) b = Div(a, zeros) y = Relu(b)", "infinite factors"),
    ],
)
def test_reasons_why_a_map_stays(body, reason):
    source = model(
        f"agraph (float[N,4,6,6] x) => (float[N,c,p,q] y) {{{body}}}",
        w=random(6, 4, 3, 3), u=random(4, 6, 3, 3), s=positive(1, 4, 1, 1), k6=positive(6, 1, 1),
        k8=positive(8, 1, 1), place=positive(1, 6, 4, 4), zeros=np.zeros((6, 1, 1), np.float32),
    )  # fmt: skip
    for node in source.graph.node:
        node.name = f"{node.output[0]}_node"
    _, notes = normalise(source, run=run)
    assert has(notes, reason), [str(note) for note in notes]


def test_computed_weights_are_a_reason():
    source = model(
        "agraph (float[N,4,6,6] x) => (float[N,1,1,1] y)"
        "{t = ReduceMean(x, axis) a = Conv(x, t) b = Mul(a, k) y = Relu(b)}",
        axis=np.array([0], np.int64),
        k=np.float32(2),
    )
    _, notes = normal(source)
    assert has(notes, "has no constant weights")


def test_maps_across_an_output_are_not_folded():
    source = model(
        "agraph (float[N,4,6,6] x) => (float[N,6,4,4] a, float[N,6,4,4] y)"
        "{a = Conv(x, w) y = Mul(a, k)}",
        w=random(6, 4, 3, 3),
        k=positive(6, 1, 1),
    )
    proto, notes = normal(source)
    assert operators(proto) == {"Conv": 1, "Mul": 1}
    assert has(notes, "its input a is an output of the model")


def test_maps_in_a_row_become_one_batch_normalization():
    source = model(
        PICTURE + "{r = Relu(x) a = Mul(r, s) b = Add(a, s) c = Div(b, k) y = Relu(c)}",
        s=positive(4, 1, 1), k=np.float32(3),
    )  # fmt: skip
    proto, notes = normal(source)
    assert operators(proto) == {"Relu": 2, "BatchNormalization": 1}
    assert has(notes, "3 maps in a row are now one BatchNormalization")


def test_a_map_that_changes_nothing_goes():
    source = model(PICTURE + "{r = Relu(x) a = Mul(r, one) y = Neg(a)}", one=np.float32(1))
    proto, notes = normal(source)
    assert operators(proto) == {"Relu": 1, "Neg": 1}
    assert has(notes, "it changes nothing")


def test_bias_of_token_matmul_stays_and_its_scale_goes():
    source = model(
        "agraph (float[N,5,4] x) => (float[N,5,6] y)"
        "{a = MatMul(x, w) b = Add(a, s) c = Mul(b, s) y = Relu(c)}",
        w=random(4, 6), s=positive(6),
    )  # fmt: skip
    proto, _ = normal(source)
    assert operators(proto)["MatMul"] == 1
    source = model(
        "agraph (float[N,5,4] x) => (float[N,5,6] y) {a = MatMul(x, w) c = Mul(a, s) y = Relu(c)}",
        w=random(4, 6), s=positive(6),
    )  # fmt: skip
    assert operators(normal(source)[0]) == {"MatMul": 1, "Relu": 1}


LAYERS = ("conv", "padded", "group", "bn", "mul", "add", "sub", "div", "neg", "relu", "shuffle")


@st.composite
def chains(draw):
    kinds = draw(st.lists(st.sampled_from(LAYERS), min_size=1, max_size=8))
    return kinds, draw(st.integers(0, 99))


def chain_model(kinds, seed):
    lines, weights, value = [], {}, "x"
    for step, kind in enumerate(kinds):
        out, name = f"v{step}", f"w{step}"
        k = seed + 10 * step
        if kind in ("conv", "padded", "group"):
            option = {"conv": "", "padded": "<pads=[1,1,1,1]>", "group": "<group=2>"}[kind]
            size = 3 if kind == "padded" else 1
            weights[name] = random(4, 2 if kind == "group" else 4, size, size, seed=k) * 0.5
            lines.append(f"{out} = Conv{option}({value}, {name})")
        elif kind == "bn":
            for part in "gbmv":
                weights[name + part] = (positive if part in "gv" else random)(4, seed=k + ord(part))
            parts = ", ".join(name + part for part in "gbmv")
            lines.append(f"{out} = BatchNormalization({value}, {parts})")
        elif kind in ("mul", "add", "sub", "div"):
            weights[name] = positive(*((4, 1, 1) if k % 3 else (1,)), seed=k)
            pair = f"{name}, {value}" if k % 2 and kind != "div" else f"{value}, {name}"
            lines.append(f"{out} = {kind.capitalize()}({pair})")
        elif kind == "shuffle":
            weights[f"{name}a"] = np.array([0, 2, 2, 5, 5], np.int64)
            weights[f"{name}b"] = np.array([0, 4, 5, 5], np.int64)
            lines.append(
                f"{out}p = Reshape({value}, {name}a) {out}q = Transpose<perm=[0,2,1,3,4]>({out}p)"
                f" {out} = Reshape({out}q, {name}b)"
            )
        else:
            lines.append(f"{out} = {kind.capitalize()}({value})")
        value = out
    text = " ".join(lines)
    return model(f"agraph (float[N,4,5,5] x) => (float[N,4,5,5] {value}) {{{text}}}", **weights)


@given(chains())
def test_folding_is_identity(chain):
    source = chain_model(*chain)
    result, notes = normalise(source, run=run)
    proto = ir.to_proto(result)
    assert difference(source, proto, batches=(2,)) < 1e-4
    left = sum(operators(proto).get(op, 0) for op in ("Mul", "Add", "Sub", "Div", "Neg"))
    left += operators(proto).get("BatchNormalization", 0)
    reasons = [
        note for note in notes if note.pass_name == "fold-affine" and "not folded" in note.text
    ]
    assert left <= sum(note.text.split(" not folded")[0].count(",") + 1 for note in reasons)
    assert bool(left) <= bool(reasons)


@pytest.mark.parametrize("piece", [1, 10, 64, 10**6])
def test_weights_are_scaled_a_piece_at_a_time(piece, monkeypatch):
    monkeypatch.setattr("onnx2snn.passes.weights.PIECE", piece)
    generator = np.random.default_rng(0)
    matrix = generator.standard_normal((7, 5)).astype(np.float32)
    for factors in (generator.standard_normal((7, 1)), generator.standard_normal(5)):
        expected = (matrix.astype(np.float64) * factors).astype(np.float32)
        np.testing.assert_array_equal(scaled(matrix, factors), expected)
