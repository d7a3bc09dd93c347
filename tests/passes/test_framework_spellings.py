"""What tf2onnx leaves of Keras' Gelu: an operator that ONNX lacks, between Transposes."""

from math import erfc

import numpy as np
import onnx_ir as ir
import pytest
from passes.helpers import apply, has, model, normal, operators, run

from onnx2snn.passes import normalise
from onnx2snn.passes.framework_operators import FrameworkOperators
from onnx2snn.passes.transposes import SharedTransposes

HALF, ROOT_HALF = np.float32(0.5), np.float32(np.sqrt(0.5))
GELU = """agraph (float[N,3,4,5] x) => (float[N,4,5,3] y) {
    half = Mul(h, x)
    th = Transpose<perm=[0,2,3,1]>(half)
    negative = Neg(x)
    scaled = Mul(negative, r)
    ts = Transpose<perm=[0,2,3,1]>(scaled)
    %s
    y = Mul(th, g)
}"""


def test_erfc_is_what_mathematics_says():
    # not through the parser: it knows no Erfc either
    source = model("agraph (float[N,7] x) => (float[N,7] y) {y = Erf(x)}", opset=15)
    source.graph.node[0].op_type = "Erfc"
    proto, notes = apply(FrameworkOperators, source)
    assert "Erfc" not in operators(proto)
    assert has(notes, "ONNX lacks")
    x = np.linspace(-3, 3, 21, dtype=np.float32).reshape(3, 7)
    expected = np.vectorize(erfc)(x.astype(np.float64))
    assert run(proto)({"x": x})["y"] == pytest.approx(expected, abs=1e-6)


def test_gelu_of_keras_is_one_activation():
    source = model(GELU % "g = Erf(ts)", opset=15, h=HALF, r=ROOT_HALF)
    source.graph.node[-2].op_type = "Erfc"
    result, notes = normalise(source, run=run)
    nodes = [node.op_type for node in result.graph]
    assert nodes == ["Transpose", "Gelu"]
    assert has(notes, "2 Transposes behind x are one")
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    found = run(ir.to_proto(result))({"x": x})["y"]
    wide = x.astype(np.float64).transpose(0, 2, 3, 1)
    assert found == pytest.approx(0.5 * wide * np.vectorize(erfc)(-wide * np.sqrt(0.5)), abs=1e-6)


MOVED = "agraph (float[N,3,4,5] x) => (float[N,4,5,3] y, float[N,4,5,3] z) {%s}"
TURN = "Transpose<perm=[0,2,3,1]>"


@pytest.mark.parametrize(
    ("body", "transposes"),
    [
        (f"a = {TURN}(x) b = {TURN}(x) y = Relu(a) z = Exp(b)", 1),
        (f"s = Sub(h, x) a = {TURN}(s) b = {TURN}(x) y = Relu(a) z = Exp(b)", 1),
        (f"s = Div(x, h) q = Add(s, r) a = {TURN}(q) b = {TURN}(s) y = Relu(a) z = Exp(b)", 1),
        (f"s = Div(h, x) a = {TURN}(s) b = {TURN}(x) y = Relu(a) z = Exp(b)", 1),
        # different orders, an activation in between, and Transposes that are outputs stay
        (f"s = Exp(x) a = {TURN}(s) b = {TURN}(x) y = Relu(a) z = Exp(b)", 2),
        (f"a = {TURN}(x) b = Transpose<perm=[0,3,1,2]>(x) y = Relu(a) "
         "c = Transpose<perm=[0,3,1,2]>(b) z = Exp(c)", 3),
        (f"y = {TURN}(x) z = {TURN}(x)", 2),
    ],
)  # fmt: skip
def test_equal_transposes_are_one(body, transposes):
    source = model(MOVED % body, h=HALF, r=ROOT_HALF)
    proto, _ = normal(source, batches=(1, 2))
    assert operators(apply(SharedTransposes, proto)[0]) == operators(proto)
    assert operators(proto)["Transpose"] == transposes
