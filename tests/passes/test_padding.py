import numpy as np
import pytest
from passes.helpers import apply, has, model, normal, operators, random

from onnx2snn.passes.batch import FreeBatch
from onnx2snn.passes.padding import ExplicitPadding


def attributes(proto, op_type):
    node = next(node for node in proto.graph.node if node.op_type == op_type)
    return {a.name: list(a.ints) or a.i for a in node.attribute}


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize(("size", "stride"), [(7, 1), (8, 2), (9, 2), (5, 3)])
def test_auto_pad_of_convolutions(mode, size, stride):
    source = model(
        f"agraph (float[N,3,{size},{size}] x) => (float[N,4,p,q] y)"
        f'{{y = Conv<auto_pad="{mode}", strides=[{stride},{stride}]>(x, w)}}',
        w=random(4, 3, 2, 3),
    )
    proto, notes = normal(source)
    assert "auto_pad" not in attributes(proto, "Conv")
    assert has(notes, f"auto_pad {mode}")


def test_auto_pad_counts_the_extent_of_dilated_kernels():
    source = model(
        "agraph (float[N,3,9,9] x) => (float[N,4,5,5] y)"
        '{y = Conv<auto_pad="SAME_UPPER", strides=[2,2], dilations=[2,3]>(x, w)}',
        w=random(4, 3, 2, 3),
    )
    source = apply(FreeBatch, source)[0]
    found, _ = apply(ExplicitPadding, source)
    assert attributes(found, "Conv")["pads"] == [1, 3, 1, 3]


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(("size", "kernel", "stride"), [(7, 3, 2), (8, 3, 2), (8, 2, 1), (5, 2, 2)])
def test_auto_pad_of_pools(mode, op_type, size, kernel, stride):
    source = model(
        f"agraph (float[N,3,{size},{size}] x) => (float[N,3,p,q] y)"
        f'{{y = {op_type}<auto_pad="{mode}", kernel_shape=[{kernel},{kernel}],'
        f"strides=[{stride},{stride}]>(x)}}",
    )
    proto, _ = normal(source)
    assert "auto_pad" not in attributes(proto, op_type)


@pytest.mark.parametrize("opset", [10, 18, 22])
@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(("size", "kernel", "stride", "pad"), [
    (5, 2, 2, 0), (5, 2, 2, 1), (6, 2, 2, 1), (7, 3, 2, 0), (8, 3, 2, 1), (6, 1, 3, 0),
    (7, 3, 4, 1),
])  # fmt: skip
def test_windows_beyond_the_padding(opset, op_type, size, kernel, stride, pad):
    """Two in a row: the size of the second follows from the first."""
    pool = f"kernel_shape=[{kernel},1], strides=[{stride},1], pads=[{pad},0,{pad},0], ceil_mode=1"
    second = "kernel_shape=[2,2], strides=[2,2], ceil_mode=1"
    source = model(
        f"agraph (float[N,3,{size},5] x) => (float[N,3,p,q] y)"
        f"{{m = MaxPool<{pool}>(x) y = {op_type}<{second}>(m)}}",
        opset,
    )
    proto, notes = normal(source)
    assert "ceil_mode" not in attributes(proto, op_type)
    assert has(notes, "ceil_mode")


def test_a_window_that_counts_padding_but_not_what_is_beyond_is_kept():
    pool = "kernel_shape=[2], strides=[2], ceil_mode=1, count_include_pad=1"
    body = f"{{y = AveragePool<{pool}>(x)}}"
    source = model(f"agraph (float[N,3,5] x) => (float[N,3,p] y) {body}")
    proto, notes = normal(source)
    assert attributes(proto, "AveragePool")["ceil_mode"] == 1
    assert has(notes, "it counts padding")


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (4, 2), (3, 1), (5, 3)])
def test_auto_pad_of_transposed_convolutions(mode, kernel, stride):
    source = model(
        f"agraph (float[N,3,5,5] x) => (float[N,4,p,q] y)"
        f'{{y = ConvTranspose<auto_pad="{mode}", strides=[{stride},{stride}]>(x, w)}}',
        w=random(3, 4, kernel, kernel),
    )
    proto, _ = normal(source)
    assert "auto_pad" not in attributes(proto, "ConvTranspose")


PADS = np.array([0, 0, 1, 0, 0, 0, 2, 1], np.int64)


def padded(reader, **weights):
    return model(
        f"agraph (float[N,2,6,6] x) => (float[N,c,p,q] y) {{a = Pad(x, pads) y = {reader}}}",
        **{"pads": PADS, **weights},
    )


def test_pad_goes_into_conv():
    proto, notes = normal(padded("Conv<pads=[1,1,0,0]>(a, w)", w=random(3, 2, 3, 3)))
    assert operators(proto) == {"Conv": 1}
    assert attributes(proto, "Conv")["pads"] == [2, 1, 2, 1]
    assert has(notes, "folded into")


def test_pad_of_chosen_axes_goes_into_conv():
    source = model(
        "agraph (float[N,2,6,6] x) => (float[N,3,p,q] y) {a = Pad(x, pads, , axes) y = Conv(a, w)}",
        pads=np.array([1, 0, 0, 2], np.int64),
        axes=np.array([-1, 2], np.int64),
        w=random(3, 2, 3, 3),
    )
    proto, _ = normal(source)
    assert operators(proto) == {"Conv": 1}
    assert attributes(proto, "Conv")["pads"] == [0, 1, 2, 0]


def test_pad_goes_into_an_average_that_counts_it():
    proto, _ = normal(padded("AveragePool<kernel_shape=[3,3], strides=[2,2]>(a)"))
    assert operators(proto) == {"AveragePool": 1}
    assert attributes(proto, "AveragePool")["count_include_pad"] == 1


@pytest.mark.parametrize(
    ("reader", "reason"),
    [
        ("MaxPool<kernel_shape=[3,3]>(a)", "zeros take part in the maximum"),
        ("Relu(a)", "has no padding"),
        (
            "AveragePool<kernel_shape=[3,3], strides=[3,3], ceil_mode=1, count_include_pad=1>(a)",
            "partial windows",
        ),
        ("AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(a)", "does not count its own padding"),
        ("AveragePool<kernel_shape=[2,2]>(a)", "wider than the kernel"),
    ],
)
def test_pad_that_must_stay(reader, reason):
    proto, notes = normal(padded(reader))
    assert operators(proto)["Pad"] == 1
    assert has(notes, reason)


@pytest.mark.parametrize(
    ("pad", "constants", "reason"),
    [
        ('Pad<mode="reflect">(x, pads)', {}, "its mode is reflect"),
        ("Pad(x, pads, v)", {"v": np.float32(1)}, "another value than zero"),
        ("Pad(x, pads)", {"pads": np.array([0, 1, 0, 0, 0, 0, 0, 0], np.int64)}, "channels"),
        ("Pad(x, pads)", {"pads": np.array([0, 0, -1, 0, 0, 0, 0, 0], np.int64)}, "cuts off"),
    ],
)
def test_pads_that_are_no_zeros_around_the_picture(pad, constants, reason):
    channels = 3 if reason == "channels" else 2
    source = model(
        f"agraph (float[N,2,6,6] x) => (float[N,3,p,q] y) {{a = {pad} y = Conv(a, w)}}",
        **{"pads": PADS, "w": random(3, channels, 3, 3), **constants},
    )
    proto, notes = normal(source)
    assert operators(proto) == {"Pad": 1, "Conv": 1}
    assert has(notes, reason)


def test_pad_with_two_readers_stays():
    source = model(
        "agraph (float[N,2,6,6] x) => (float[N,3,p,q] y, float[N,2,r,s] z)"
        "{a = Pad(x, pads) y = Conv(a, w) z = Relu(a)}",
        pads=PADS,
        w=random(3, 2, 3, 3),
    )
    _, notes = normal(source)
    assert has(notes, "several readers")


@pytest.mark.parametrize("opset", [7, 10])
@pytest.mark.parametrize("mode", ["reflect", "edge", "constant"])
def test_old_padding_may_state_a_value_that_nobody_reads(opset, mode):
    source = model(
        "agraph (float[N,3,6,6] x) => (float[N,4,9,7] y)"
        f'{{a = Pad<mode="{mode}", pads=[0,0,2,0,0,0,1,1], value=0.5>(x) y = Conv(a, w)}}',
        opset=opset, ir_version=6, w=random(4, 3, 1, 1),
    )  # fmt: skip
    proto, _ = normal(source)
    assert attributes(proto, "Pad").get("value") is None
