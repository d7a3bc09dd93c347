import numpy as np
from onnx import numpy_helper
from passes.helpers import apply, has, model, normal, operators, random

from onnx2snn.passes.batch import FreeBatch
from onnx2snn.passes.fold_shapes import FoldShapes


def ints(*numbers):
    return np.array(numbers, np.int64)


def constants(proto):
    return {i.name: numpy_helper.to_array(i).tolist() for i in proto.graph.initializer}


def operand(proto, op_type, index):
    node = next(node for node in proto.graph.node if node.op_type == op_type)
    return constants(proto)[node.input[index]]


def test_flatten_by_shape_arithmetic_copies_the_batch():
    source = model(
        """agraph (float[N,2,3,3] x) => (float[N,18] y) {
            s = Shape(x)
            n = Gather(s, zero)
            t = Concat<axis=0>(n, rest)
            y = Reshape(x, t)
        }""",
        zero=ints(0),
        rest=ints(-1),
    )
    proto, notes = normal(source)
    assert operators(proto) == {"Reshape": 1}
    assert operand(proto, "Reshape", 1) == [0, -1]
    assert has(notes, "1 of 1 shape computations became constants")


def test_a_multiple_of_the_batch_is_minus_one():
    source = model(
        """agraph (float[N,2,3] x) => (float[N,2,3] y) {
            s = Shape(x)
            n = Slice(s, a, b)
            m = Mul(n, two)
            t = Concat<axis=0>(m, rest)
            r = Reshape(x, t)
            q = Relu(r)
            y = Reshape(q, s)
        }""",
        a=ints(0), b=ints(1), two=ints(2), rest=ints(3),
    )  # fmt: skip
    found, _ = apply(FreeBatch, source)
    found, _ = apply(FoldShapes, found)
    assert [constants(found)[n.input[1]] for n in found.graph.node if n.op_type == "Reshape"] == [
        [-1, 3],
        [-1, 2, 3],
    ]


def test_resize_by_computed_sizes_leaves_the_batch_out():
    source = model(
        """agraph (float[N,2,3,3] x) => (float[N,2,6,6] y) {
            s = Shape(x)
            n = Slice(s, a, b)
            t = Concat<axis=0>(n, rest)
            y = Resize(x, , , t)
        }""",
        a=ints(0), b=ints(2), rest=ints(6, 6),
    )  # fmt: skip
    proto, _ = normal(source)
    assert operators(proto) == {"Resize": 1}
    assert operand(proto, "Resize", 3) == [2, 6, 6]


def test_expand_to_its_own_batch_broadcasts():
    source = model(
        "agraph (float[N,2,1] x) => (float[N,2,5] y)"
        "{s = Shape(x) b = Slice(s, a, two) t = Concat<axis=0>(b, five) y = Expand(x, t)}",
        a=ints(0), two=ints(2), five=ints(5),
    )  # fmt: skip
    proto, _ = normal(source)
    assert operand(proto, "Expand", 1) == [1, 2, 5]


def test_slice_to_the_batch_goes_to_the_end():
    source = model(
        "agraph (float[N,4] x) => (float[N,2] y)"
        "{s = Shape(x) n = Gather(s, zero) e = Concat<axis=0>(n, two) y = Slice(x, start, e)}",
        zero=ints(0), two=ints(2), start=ints(0, 0),
    )  # fmt: skip
    proto, _ = normal(source)
    assert operators(proto) == {"Slice": 1}
    assert operand(proto, "Slice", 2) == [2**63 - 1, 2]


def test_computed_padding_becomes_constant():
    """The identity shortcut of CIFAR ResNets: half of the channels before, half behind."""
    source = model(
        """agraph (float[N,4,4,4] x) => (float[N,8,2,2] y) {
            s = Shape(x)
            c = Gather(s, one)
            h = Div(c, two)
            hh = Concat<axis=0>(zero, h, zero, zero)
            p = Concat<axis=0>(hh, hh)
            d = Slice(x, starts, ends, axes, steps)
            y = Pad(d, p)
        }""",
        one=ints(1), two=ints(2), zero=ints(0),
        starts=ints(0, 0), ends=ints(99, 99), axes=ints(2, 3), steps=ints(2, 2),
    )  # fmt: skip
    proto, _ = normal(source)
    assert operators(proto) == {"Slice": 1, "Pad": 1}
    assert operand(proto, "Pad", 1) == [0, 2, 0, 0, 0, 2, 0, 0]


def test_what_still_depends_on_the_batch_stays_with_a_note():
    source = model(
        "agraph (float[N,1,4] x) => (float[N,2,4] y)"
        "{s = Shape(x) z = ConstantOfShape(s) y = Concat<axis=1>(x, z)}"
    )
    proto, notes = normal(source)
    assert operators(proto)["ConstantOfShape"] == 1
    assert has(notes, "z not folded: it depends on the batch")


def test_constants_do_not_grow():
    source = model(
        "agraph (float[N,2048,2048] x) => (float[N,2048,2048] y) {e = Expand(w, s) y = Add(x, e)}",
        w=random(1),
        s=ints(2048, 2048),
    )
    proto, notes = normal(source, batches=(1,))
    assert operators(proto)["Expand"] == 1
    assert has(notes, "it would be 4,194,304 numbers")


def test_transposed_weights_are_folded():
    source = model(
        "agraph (float[N,300] x) => (float[N,400] y) {t = Transpose(w) y = MatMul(x, t)}",
        w=random(400, 300),
    )
    proto, _ = normal(source)
    assert operators(proto) == {"Gemm": 1}


def test_constant_if_is_its_branch():
    source = model(
        """agraph (float[N,4] x) => (float[N,4] y) {
            y = If (c) <
                then_branch = yes () => (float[N,4] a) { a = Relu(x) },
                else_branch = no () => (float[N,4] b) { b = Neg(x) }
            >
        }""",
        c=np.bool_(True),
    )
    proto, _ = normal(source)
    assert operators(proto) == {"Relu": 1}


def test_sizes_that_inference_cannot_know_are_measured():
    source = model(
        "agraph (float[N,2,5] x) => (float[N,2,3] y)"
        "{s = Shape(x) l = Gather(s, two) h = Div(l, two) k = Add(h, one)"
        " e = Unsqueeze(k, zero) y = Slice(x, zero, e, axis)}",
        two=np.int64(2), one=np.int64(1), zero=ints(0), axis=ints(2),
    )  # fmt: skip
    proto, _ = normal(source)
    shape = proto.graph.output[0].type.tensor_type.shape
    assert [size.dim_param or size.dim_value for size in shape.dim] == ["N", 2, 3]


AS_STRIDED = """agraph (float[N,2,3] x) => (float[N,%s] y) {
    n = Shape<start=0, end=1>(x)
    scalar = Squeeze(n)
    rows = Range(zero, scalar, one)
    far = Mul(rows, k)
    wide = Unsqueeze(far, axes)
    at = Add(wide, inside)
    flat = Reshape(x, all)
    y = Gather(flat, at)
}"""
NUMBERS = {"zero": np.int64(0), "one": np.int64(1), "axes": ints(1, 2), "all": ints(-1)}


def test_as_strided_of_torch_in_its_own_order_is_a_reshape():
    inside = np.arange(6).reshape(1, 3, 2)
    source = model(AS_STRIDED % "3,2", k=np.int64(6), inside=inside, **NUMBERS)
    proto, notes = normal(source)
    assert operators(proto) == {"Reshape": 1}
    assert operand(proto, "Reshape", 1) == [0, 3, 2]
    assert has(notes, "1 of 1 shape computations became constants")


def test_as_strided_in_another_order_gathers_within_the_sample():
    inside = np.arange(6).reshape(2, 3).T[None]
    source = model(AS_STRIDED % "3,2", k=np.int64(6), inside=inside, **NUMBERS)
    proto, _ = normal(source)
    assert operators(proto) == {"Flatten": 1, "Gather": 1}
    assert operand(proto, "Gather", 1) == inside[0].tolist()


def test_a_gather_across_samples_stays():
    source = model(AS_STRIDED % "1,1", k=np.int64(3), inside=np.zeros((1, 1, 1), int), **NUMBERS)
    found, _ = apply(FreeBatch, source)
    found, notes = apply(FoldShapes, found)
    assert "Range" in operators(found)
    assert has(notes, "not folded: it depends on the batch")
