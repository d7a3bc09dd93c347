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
    assert operators(proto) == {"Conv": 2, "Clip": 1 + hidden}
    assert has(notes, "clips: Clip(0, 12.75)") == hidden
    assert has(notes, "3 quantised weights became float32 and 2 quantisations")
    assert {"w", "b"} <= {item.name for item in proto.graph.initializer}
    feeds = {name: np.clip(x, -2, 2) for name, x in feeds_for(proto, 3).items()}
    expected, found = run(source)(feeds)["y"], run(proto)(feeds)["y"]
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 0.05


@pytest.mark.parametrize("behind", ["", "MaxPool<kernel_shape=[2,2]>", "Flatten"])
@pytest.mark.parametrize("rectifier", ["before", "behind"])
def test_what_a_quantiser_clips_stays_clipped(behind, rectifier):
    """Learned ranges, as PACT has them, are far from the largest activation."""
    lines = ["r = Relu(x)"] if rectifier == "before" else ["r = Neg(x)"]
    lines += [f"m = {behind}(r)" if behind else "m = Identity(r)"]
    lines += ["q = QuantizeLinear(m, s, z)", "d = DequantizeLinear(q, s, z)"]
    lines += ["y = Mul(d, s)"] if rectifier == "before" else ["t = Relu(d)", "y = Mul(t, s)"]
    shape = {"": "N,2,6,6", "Flatten": "N,72"}.get(behind, "N,2,5,5")
    source = model(
        f"agraph (float[N,2,6,6] x) => (float[{shape}] y) {{ {' '.join(lines)} }}",
        s=np.float32(0.004), z=np.uint8(0 if rectifier == "before" else 128),
    )  # fmt: skip
    proto = ir.to_proto(normalise(source, run=run)[0])
    feeds = feeds_for(proto, 3)
    assert operators(proto)["Clip"] == 1
    assert "Relu" not in operators(proto)
    np.testing.assert_allclose(run(proto)(feeds)["y"], run(source)(feeds)["y"], atol=1e-4)


@pytest.mark.parametrize("second", ["s", "other"])
def test_one_rectifier_read_by_two_quantisers(second):
    """With one range it clips for both; with two it would take a neuron more, so none is kept."""
    source = model(
        f"""agraph (float[N,2,6,6] x) => (float[N,2,6,6] y, float[N,2,6,6] v) {{
            r = Relu(x)
            q = QuantizeLinear(r, s, z)
            d = DequantizeLinear(q, s, z)
            y = Neg(d)
            p = QuantizeLinear(r, {second}, z)
            e = DequantizeLinear(p, {second}, z)
            v = Neg(e)
        }}""",
        s=np.float32(0.004), other=np.float32(0.001), z=np.uint8(0),
    )  # fmt: skip
    proto, notes = normalise(source, run=run)
    proto = ir.to_proto(proto)
    if second == "other":
        assert operators(proto) == {"Relu": 1, "Neg": 2}
        assert has(notes, "in 2 places")
        return
    assert operators(proto) == {"Clip": 1, "Neg": 2}
    feeds = feeds_for(proto, 3)
    for name in "yv":
        expected, found = run(source)(feeds)[name], run(proto)(feeds)[name]
        np.testing.assert_allclose(found, expected, atol=0.0021)


def test_a_range_that_nothing_leaves_needs_no_clip():
    source = model(
        "agraph (float[N,4] x) => (float[N,4] y) {c = Clip(x, zero, six)"
        "q = QuantizeLinear(c, s, z) d = DequantizeLinear(q, s, z) y = Neg(d)}",
        s=np.float32(6 / 255), z=np.uint8(0), zero=np.float32(0), six=np.float32(6),
    )  # fmt: skip
    found, notes = apply(StripQuantisation, source)
    assert operators(found) == {"Clip": 1, "Neg": 1}
    assert not has(notes, "places")


def test_the_ranges_of_sums_are_dropped_with_a_note():
    proto, notes = normalise(quantised_net(128), run=run)
    assert operators(ir.to_proto(proto))["Clip"] == 1  # that of the input
    assert has(notes, "in 1 places")


def test_a_value_that_is_rectified_by_its_quantiser_alone_is_clipped():
    source = model(
        "agraph (float[N,4] x) => (float[N,4] y)"
        "{r = Relu(x) q = QuantizeLinear(r, s, z) d = DequantizeLinear(q, s, z) y = Mul(d, s)}",
        s=np.float32(0.1),
        z=np.uint8(0),
    )
    found, _ = apply(StripQuantisation, source)
    assert operators(found) == {"Relu": 1, "Clip": 1, "Mul": 1}


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


@pytest.mark.parametrize("mover", [
    "m = Transpose<perm=[0,1,3,2]>(q)", "m = Reshape(q, flat)", "m = Concat<axis=1>(q, q)",
    "m = Slice(q, one, two, one)", "m = MaxPool<kernel_shape=[2,2]>(q)",
    "t = Transpose<perm=[0,2,3,1]>(q) m = Reshape(t, flat)",
])  # fmt: skip
def test_integers_that_are_only_moved(mover):
    """TFLite keeps data in 8 bits between layers while it is moved."""
    source = model(
        f"""agraph (float[N,2,4,4] x) => (float[N,A,B,C] y) {{
            r = Relu(x)
            q = QuantizeLinear(r, s, z)
            {mover}
            d = DequantizeLinear(m, s, z)
            y = Neg(d)
        }}""",
        s=np.float32(0.02), z=np.int8(-128), flat=np.array([0, -1, 2, 2]),
        one=np.array([1]), two=np.array([2]),
    )  # fmt: skip
    proto = ir.to_proto(normalise(source, run=run)[0])
    assert not {"QuantizeLinear", "DequantizeLinear"} & operators(proto).keys()
    feeds = feeds_for(proto, 3)
    expected, found = run(source)(feeds)["y"], run(proto)(feeds)["y"]
    np.testing.assert_allclose(found, expected, atol=0.0101)  # half a step


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_an_input_of_quantised_numbers_takes_them_as_floats(kind):
    name = np.dtype(kind).name
    source = model(
        f"""agraph ({name}[N,2,4,4] x) => (float[N,3,4,4] y) {{
            d = DequantizeLinear(x, s, z)
            r = Relu(d)
            y = Conv(r, w)
        }}""",
        s=np.float32(0.02), z=kind(3), w=random(3, 2, 1, 1),
    )  # fmt: skip
    proto = ir.to_proto(normalise(source, run=run)[0])
    numbers = np.random.default_rng(0).integers(0, 127, (3, 2, 4, 4)).astype(kind)
    expected = run(source)({"x": numbers})["y"]
    np.testing.assert_allclose(run(proto)({"x": np.float32(numbers)})["y"], expected, atol=1e-4)
