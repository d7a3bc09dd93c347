"""A block of a transformer in an old operator set: activations that ONNX spells out, attention."""

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator
from passes.helpers import model, random

import onnx2snn

IMAGES = np.random.default_rng(3).standard_normal((40, 6, 8)).astype(np.float32)
ACTIVATIONS = {
    "gelu": "d = Div(a, k) e = Erf(d) p = Add(e, one) q = Mul(a, p) b = Mul(q, half)",
    "silu": "s = Sigmoid(a) b = Mul(a, s)",
    "relu": "b = Relu(a)",
}


@pytest.mark.parametrize("recipe", ["fast", "refine"])
@pytest.mark.parametrize("relays", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_sizes_stay_known_behind_what_onnx_lacks(activation, relays, recipe):
    """The bias comes first, as torch writes it, and Reshape keeps sizes by zeros."""
    body = f"""agraph (float[N,6,8] x) => (float[N,3] y) {{
        a = MatMul(x, w1) {ACTIVATIONS[activation]} c0 = MatMul(b, w2) c = Add(bias, c0)
        hq = Reshape(c, heads) tq = Transpose<perm=[0,2,1,3]>(hq)
        hk = Reshape(c, heads) tk = Transpose<perm=[0,2,3,1]>(hk)
        scores = MatMul(tq, tk) shares = Softmax<axis=-1>(scores) o = MatMul(shares, tq)
        ot = Transpose<perm=[0,2,1,3]>(o) r = Reshape(ot, whole)
        m = MatMul(r, w3) z = Relu(m) n = MatMul(z, w3) f = Flatten(n) y = Gemm(f, w4) }}"""
    source = model(
        body, 18, 8, w1=random(8, 8), w2=random(8, 8, seed=1), w3=random(8, 8, seed=2),
        w4=random(48, 3), bias=random(8), heads=np.array([0, 0, 2, 4]), whole=np.array([0, 0, 8]),
        k=np.float32(2**0.5), one=np.float32(1), half=np.float32(0.5),
    )  # fmt: skip
    spiking = onnx2snn.convert(source, calibration=IMAGES, recipe=recipe, relays=relays)
    assert spiking.check.passed
    (expected,) = ReferenceEvaluator(source).run(None, {"x": IMAGES})
    found = spiking.network().run(IMAGES, 64).logits
    assert np.linalg.norm(found - expected) < 0.1 * np.linalg.norm(expected)
    assert spiking.work.macs["graded"] == 0 or not relays
