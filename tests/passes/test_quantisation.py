import numpy as np
import onnx_ir as ir
import pytest
from passes.helpers import apply, feeds_for, has, model, operators, random, run, well_formed

from onnx2snn.passes import normalise
from onnx2snn.passes.quantisation import StripQuantisation


def quantised_net(zero, kind=np.uint8):
    """Conv, quantised at its output, Conv; weights per channel int8."""
    weight = np.random.default_rng(0).integers(-127, 127, (4, 3, 3, 3)).astype(np.int8)
    return model(
        """agraph (float[N,3,6,6] x) => (float[N,4,2,2] y) {
            xq = QuantizeLinear(x, xs, xz)
            xd = DequantizeLinear(xq, xs, xz)
            wd = DequantizeLinear<axis = 0>(w_quantized, ws, wz)
            bd = DequantizeLinear(b_quantized, bs)
            c = Conv(xd, wd, bd)
            cq = QuantizeLinear(c, cs, cz)
            cd = DequantizeLinear(cq, cs, cz)
            vq = QuantizeLinear(v, vs, vz)
            vd = DequantizeLinear(vq, vs, vz)
            y = Conv(cd, vd)
        }""",
        xs=np.float32(0.02), xz=np.int8(0), w_quantized=weight,
        ws=np.linspace(0.001, 0.004, 4, dtype=np.float32), wz=np.zeros(4, np.int8),
        b_quantized=np.array([100, -50, 7, 0], np.int32), bs=np.float32(0.001),
        cs=np.float32(0.05), cz=kind(zero),
        v=random(4, 4, 3, 3), vs=np.float32(0.03), vz=np.int8(0),
    )  # fmt: skip


@pytest.mark.parametrize(("zero", "kind"), [(0, np.uint8), (-128, np.int8), (128, np.uint8)])
def test_pairs_are_stripped_and_hidden_rectifiers_found(zero, kind):
    source = quantised_net(zero, kind)
    result, notes = normalise(source, run=run)
    proto = ir.to_proto(result)
    well_formed(proto)
    hidden = zero != 128
    assert operators(proto) == {"Conv": 2, **({"Clip": 1} if hidden else {})}
    assert has(notes, "is a rectifier: Clip(0, 12.75)") == hidden
    assert has(notes, "3 quantised weights became float32 and 2 quantisations")
    assert {"w", "b"} <= {item.name for item in proto.graph.initializer}
    feeds = {name: np.clip(x, -2, 2) for name, x in feeds_for(proto, 3).items()}
    expected, found = run(source)(feeds)["y"], run(proto)(feeds)["y"]
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 0.05


def test_a_rectified_value_is_not_clipped_again():
    source = model(
        "agraph (float[N,4] x) => (float[N,4] y)"
        "{r = Relu(x) q = QuantizeLinear(r, s, z) d = DequantizeLinear(q, s, z) y = Mul(d, s)}",
        s=np.float32(0.1),
        z=np.uint8(0),
    )
    found, _ = apply(StripQuantisation, source)
    assert operators(found) == {"Relu": 1, "Mul": 1}


def test_a_quantised_output_stays_with_a_note():
    source = model(
        "agraph (float[N,4] x) => (uint8[N,4] y) {y = QuantizeLinear(x, s, z)}",
        s=np.float32(0.1),
        z=np.uint8(0),
    )
    found, notes = apply(StripQuantisation, source)
    assert operators(found) == {"QuantizeLinear": 1}
    assert has(notes, "no pair to remove")


def test_a_pair_at_an_output_keeps_its_name():
    source = model(
        "agraph (float[N,4] x) => (float[N,4] y)"
        "{a = Neg(x) q = QuantizeLinear(a, s, z) y = DequantizeLinear(q, s, z)}",
        s=np.float32(0.1),
        z=np.uint8(128),
    )
    found, _ = apply(StripQuantisation, source)
    assert operators(found) == {"Neg": 1}
    assert found.graph.node[0].output[0] == "y"
