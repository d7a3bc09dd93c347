"""Habits of less common exporters: what each computes is kept, or the reason says what to do."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from passes.helpers import feeds_for, has, model, normal, operators, random, run

import onnx2snn
from onnx2snn.passes import normalise
from onnx2snn_runtime.errors import UnsupportedError

CONDITIONS = {
    "Greater(c, zero)": "x, y", "GreaterOrEqual(c, zero)": "x, y", "Less(zero, c)": "x, y",
    "LessOrEqual(zero, c)": "x, y", "Less(c, zero)": "y, x", "LessOrEqual(c, zero)": "y, x",
    "Greater(zero, c)": "y, x", "GreaterOrEqual(zero, c)": "y, x",
}  # fmt: skip


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("slope", [0.25, 0.0, 1.5])
def test_a_choice_by_sign_is_a_rectifier(condition, slope):
    branches = CONDITIONS[condition].replace("x", "c").replace("y", "scaled")
    source = model(
        f"""agraph (float[N,3,4,4] input) => (float[N,2,4,4] output) {{
            c = Conv(input, w)
            scaled = Mul(slope, c)
            b = {condition}
            output = Where(b, {branches})
        }}""",
        w=random(2, 3, 1, 1), zero=np.float32(0), slope=np.float32(slope),
    )  # fmt: skip
    proto, notes = normal(source)
    assert operators(proto) == {"Conv": 1, "LeakyRelu" if slope else "Relu": 1}
    assert has(notes, "is one rectifier")


@pytest.mark.parametrize("inner", ["c", "Where(b, zero, c)"])
@pytest.mark.parametrize("scale", [1.0, 0.7])
def test_elu_as_jax_spells_it(inner, scale):
    lines = "i = Identity(c)" if inner == "c" else f"i = {inner}"
    source = model(
        f"""agraph (float[N,3,4,4] input) => (float[N,2,4,4] output) {{
            c = Conv(input, w)
            b = Greater(c, zero)
            {lines}
            e = Exp(i)
            m = Sub(e, one)
            s = Mul(scale, m)
            output = Where(b, c, s)
        }}""",
        w=random(2, 3, 1, 1), zero=np.float32(0), one=np.float32(1), scale=np.float32(scale),
    )  # fmt: skip
    proto, _ = normal(source)
    assert operators(proto) == {"Conv": 1, "Elu": 1}


def test_a_constant_output_is_refused_by_name():
    source = model(
        """agraph (float[N,3,4,4] input) => (float[N,2,4,4] output, float[2,3,1,1] anchors) {
            c = Conv(input, w) r = Relu(c) output = Conv(r, v) anchors = Identity(w)
        }""",
        w=random(2, 3, 1, 1), v=random(2, 2, 1, 1),
    )  # fmt: skip
    with pytest.raises(UnsupportedError, match=r"anchors.* does not depend on the input"):
        onnx2snn.convert(source)


@pytest.mark.parametrize("product", ["Mul(c, m)", "Mul(m, c)"])
def test_a_masked_value_is_a_rectifier(product):
    source = model(
        f"""agraph (float[N,3,4,4] input) => (float[N,2,4,4] output) {{
            c = Conv(input, w)
            b = Greater(c, zero)
            m = Cast<to=1>(b)
            output = {product}
        }}""",
        w=random(2, 3, 1, 1), zero=np.float32(0),
    )  # fmt: skip
    proto, _ = normal(source)
    assert operators(proto) == {"Conv": 1, "Relu": 1}


@pytest.mark.parametrize("branches", ["scaled, c", "c, other"])
def test_other_choices_stay(branches):
    """x < 0 ? x : a·x with the branches exchanged, and a choice between two tensors."""
    source = model(
        f"""agraph (float[N,3,4,4] input) => (float[N,2,4,4] output) {{
            c = Conv(input, w)
            other = Conv(input, v)
            scaled = Mul(slope, c)
            b = Greater(c, zero)
            output = Where(b, {branches})
        }}""",
        w=random(2, 3, 1, 1), v=random(2, 3, 1, 1, seed=5),
        zero=np.float32(0), slope=np.float32(0.5),
    )  # fmt: skip
    proto, _ = normal(source)
    assert "Where" in operators(proto)


@pytest.mark.parametrize("stated", [[13, 13], [14, 12], [15, 16]])
@pytest.mark.parametrize("mode", ["NOTSET", "SAME_UPPER", "SAME_LOWER"])
def test_the_stated_size_of_a_transposed_convolution_is_padding(stated, mode):
    source = model(
        f"""agraph (float[N,3,7,7] input) => (float[N,2,{stated[0]},{stated[1]}] output) {{
            r = Relu(input)
            output = ConvTranspose<strides=[2,2], output_shape={stated}, auto_pad="{mode}">(r, w)
        }}""",
        w=random(3, 2, 3, 3),
    )
    proto, notes = normal(source)
    (node,) = (node for node in proto.graph.node if node.op_type == "ConvTranspose")
    assert {item.name for item in node.attribute} == {"strides", "pads", "output_padding"}
    assert has(notes, "output_shape of")


def test_a_spatial_transformer_of_any_batch():
    for corners in (0, 1):
        source = model(
            f"""agraph (float[N,2,5,6] input) => (float[N,2,4,3] output) {{
                mean = GlobalAveragePool(input)
                flat = Flatten(mean)
                six = Gemm(flat, w, b)
                theta = Reshape(six, matrix)
                shape = Shape<start=0, end=1>(input)
                size = Concat<axis=0>(shape, rest)
                grid = AffineGrid<align_corners={corners}>(theta, size)
                output = GridSample<align_corners={corners}>(input, grid)
            }}""",
            20, w=random(2, 6) * 0.1, b=np.array([1, 0.1, 0, -0.1, 0.9, 0.2], np.float32),
            matrix=np.array([-1, 2, 3]), rest=np.array([2, 4, 3]),
        )  # fmt: skip
        proto, _ = normal(source)
        assert "AffineGrid" not in operators(proto)


def branches(inner):
    """If the input has three channels: `inner` of its activation, else the activation."""
    return model(f"""agraph (float[N,3,4,4] input) => (float[N,3,4,4] output) {{
        shape = Shape(input)
        channels = Gather(shape, one)
        condition = Equal(channels, three)
        r = Relu(input)
        output = If (condition) <
            then_branch = then () => (float[N,3,4,4] a) {{ {inner} }},
            else_branch = otherwise () => (float[N,3,4,4] b) {{ b = Identity(r) }}
        >
    }}""", one=np.array(1), three=np.array(3))  # fmt: skip


@pytest.mark.parametrize("inner", ["a = Identity(r)", "a = Add(r, r)"])
def test_a_branch_on_a_shape_is_inlined(inner):
    proto, _ = normal(branches(inner))
    assert "If" not in operators(proto)


def test_sizes_of_minus_one_are_open():
    source = model(
        "agraph (float[N,3,4,4] input) => (float[N,2,4,4] output) {r = Relu(input)"
        "output = Conv(r, w)}",
        w=random(2, 3, 1, 1),
    )
    open_one = onnx.ModelProto()
    open_one.CopyFrom(source)
    for value in (open_one.graph.input[0], open_one.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    proto = ir.to_proto(normalise(open_one, run=run)[0])
    feeds = feeds_for(proto, 3)
    np.testing.assert_allclose(run(proto)(feeds)["output"], run(source)(feeds)["output"])


@pytest.mark.parametrize(("low", "high"), [(0, 15), (-8, 7), (-2, 1)])
def test_numbers_of_few_bits_are_clipped_behind_their_quantisation(low, high):
    """Quantise, clip, dequantise: how Brevitas writes less than 8 bits, also of weights."""
    source = model(
        """agraph (float[N,3,4,4] input) => (float[N,2,4,4] output) {
            wq = QuantizeLinear(w, ws, z)
            wc = Clip(wq, wlow, whigh)
            wd = DequantizeLinear(wc, ws, z)
            c = Conv(input, wd)
            r = Relu(c)
            q = QuantizeLinear(r, s, z)
            n = Clip(q, low, high)
            output = DequantizeLinear(n, s, z)
        }""",
        w=random(2, 3, 1, 1), ws=np.float32(0.25), s=np.float32(0.01), z=np.int8(0),
        wlow=np.int8(-2), whigh=np.int8(1), low=np.int8(low), high=np.int8(high),
    )  # fmt: skip
    proto = ir.to_proto(normalise(source, run=run)[0])
    assert operators(proto) == {"Conv": 1, "Clip": 1}
    feeds = feeds_for(proto, 3)
    expected, found = run(source)(feeds)["output"], run(proto)(feeds)["output"]
    np.testing.assert_allclose(found, expected, atol=0.005 + 1e-6)  # half a step
    assert found.max() == pytest.approx(0.01 * high)


@pytest.mark.parametrize("operator", ["NonZero(c)", "Compress<axis=0>(f, b)"])
def test_results_as_large_as_the_data_says_are_refused(operator):
    kind = "int64[2,K]" if "NonZero" in operator else "float[K]"
    source = model(
        f"""agraph (float[N,3] input) => ({kind} output) {{
            r = Relu(input)
            c = Gemm(r, w)
            f = Flatten<axis=0>(c)
            b = Greater(c, zero)
            output = {operator}
        }}""",
        w=random(3, 2), zero=np.float32(0),
    )  # fmt: skip
    with pytest.raises(UnsupportedError, match="depends on the data") as caught:
        onnx2snn.convert(source)
    assert "extract_model" in str(caught.value)


def test_text_is_refused_by_its_name():
    source = model(
        "agraph (float[N,3] input) => (string[N] label)"
        "{r = Relu(input) i = ArgMax<axis=1, keepdims=0>(r) label = Gather(names, i)}"
    )
    names = onnx.helper.make_tensor("names", onnx.TensorProto.STRING, [3], [b"a", b"b", b"c"])
    source.graph.initializer.append(names)
    with pytest.raises(UnsupportedError, match=r"label.*text"):
        onnx2snn.convert(source)


@pytest.mark.parametrize(
    ("line", "domain", "words"),
    [
        ("c = com.microsoft.FusedConv(r, w)", "com.microsoft", "onnxruntime alone"),
        ("q, s, z = DynamicQuantizeLinear(r) c = DequantizeLinear(q, s, z)", "", "quantised n"),
    ],
)  # fmt: skip
def test_graphs_that_were_optimised_or_quantised_are_referred_to_their_source(line, domain, words):
    source = model(
        f"""agraph (float[N,3,4,4] input) => (float[N,3,4,4] output) {{
            a = Conv(input, w)
            r = Relu(a)
            {line.replace("com.microsoft.", "")}
            b = Conv(c, w)
            output = Relu(b)
        }}""",
        w=random(3, 3, 1, 1),
    )
    if domain:
        (node,) = (node for node in source.graph.node if node.op_type == "FusedConv")
        node.domain = domain
        source.opset_import.append(onnx.helper.make_opsetid(domain, 1))
    with pytest.raises(UnsupportedError, match=words) as caught:
        onnx2snn.convert(source)
    assert "QDQ" in str(caught.value)


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_training_exports_of_any_age_are_named(opset):
    mode = "training_mode=1" if opset >= 14 else "momentum=0.5"
    outputs = "b, m2, v2" if opset >= 14 else "b, m2, v2, m3, v3"
    source = model(
        f"""agraph (float[N,3,4,4] input) => (float[N,3,4,4] output) {{
            a = Conv(input, w)
            {outputs} = BatchNormalization<{mode}>(a, one, zero, mean, var)
            output = Relu(b)
        }}""",
        opset, w=random(3, 3, 1, 1), one=np.ones(3, np.float32), zero=np.zeros(3, np.float32),
        mean=np.zeros(3, np.float32), var=np.ones(3, np.float32),
    )  # fmt: skip
    with pytest.raises(UnsupportedError, match="training mode") as caught:
        onnx2snn.convert(source)
    assert "model.eval()" in str(caught.value)


def test_random_numbers_are_warned_of():
    source = model(
        """agraph (float[N,3,4,4] input) => (float[N,2,4,4] output) {
            a = Conv(input, w)
            r = Relu(a)
            noise = RandomNormalLike<scale=0.01>(r)
            s = Add(r, noise)
            output = Conv(s, v)
        }""",
        w=random(3, 3, 1, 1), v=random(2, 3, 1, 1),
    )  # fmt: skip
    with pytest.warns(UserWarning, match="draws new numbers"):
        onnx2snn.convert(
            source, calibration=np.ones((32, 3, 4, 4), np.float32) * random(32, 1, 1, 1)
        )
