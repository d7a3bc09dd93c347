"""Pooling in front of a map per channel: the same function, and when it is not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from passes.helpers import difference, has, model, normal, operators, positive, random

PICTURE = "agraph (float[N,4,6,6] x) => (float[N,c,p,q] y) "
BN = "n = BatchNormalization(r, g, b, m, v)"
POOL = "MaxPool<kernel_shape=[2,2], strides=[2,2]>"
CONV = "y = Conv<{}>(l, w)"


def keras(maps, pool=POOL, pads="pads=[0,0,0,0]", **more):
    """ReLU, maps, pooling and a convolution, as Keras networks have them."""
    weights = {"w": random(5, 4, 2, 2), **more}
    return model(PICTURE + f"{{r = Relu(x) {maps} l = {pool}(n) {CONV.format(pads)}}}", **weights)


def statistics(scale=None):
    scale = positive(4) if scale is None else np.asarray(scale, np.float32)
    return {"g": scale, "b": random(4, seed=1), "m": random(4, seed=2), "v": positive(4, seed=3)}


@pytest.mark.parametrize(
    "maps",
    [BN, "s = Mul(r, k) n = Add(s, t)", "n = Mul(k, r)", "n = Sub(r, t)", "n = Div(r, k)"],
)
def test_the_map_goes_into_the_weights_behind(maps):
    source = keras(maps, **statistics(), k=positive(1, 4, 1, 1), t=random(4, 1, 1))
    proto, notes = normal(source)
    assert operators(proto) == {"Relu": 1, "MaxPool": 1, "Conv": 1}
    assert has(notes, "goes in front of")
    assert difference(source, proto) < 1e-5


def test_it_stays_behind_the_pooling_where_zeros_pad_its_reader():
    source = keras(BN, pads="pads=[1,1,1,1]", **statistics())
    proto, _ = normal(source)
    assert [node.op_type for node in proto.graph.node] == [
        "Relu", "MaxPool", "BatchNormalization", "Conv",
    ]  # fmt: skip
    assert difference(source, proto) < 1e-5


@pytest.mark.parametrize(
    ("maps", "reason"),
    [
        (BN, "some of its factors are not positive"),
        ("n = Mul(r, dense)", "it differs along the pooled axes"),
        ("n = Add(r, row)", "it differs along the pooled axes"),
    ],
)
def test_what_does_not_commute_stays(maps, reason):
    source = keras(maps, **statistics([1, -1, 1, 1]), dense=positive(4, 6, 6), row=random(6))
    proto, notes = normal(source)
    order = [node.op_type for node in proto.graph.node]
    assert order.index("MaxPool") == 2
    assert has(notes, reason)
    assert difference(source, proto) < 1e-5


def test_a_map_that_its_producer_takes_up_is_left_to_it():
    source = model(
        PICTURE + f"{{r = Conv(x, u) {BN} l = {POOL}(n) y = Relu(l)}}",
        u=random(4, 4, 1, 1), **statistics(),
    )  # fmt: skip
    proto, notes = normal(source)
    assert operators(proto) == {"Conv": 1, "MaxPool": 1, "Relu": 1}
    assert not has(notes, "goes in front of")
    assert difference(source, proto) < 1e-5


@pytest.mark.parametrize("read_twice", ["z = Neg(n)", "z = Identity(n)"])
def test_a_value_that_others_read_stays(read_twice):
    source = model(
        "agraph (float[N,4,6,6] x) => (float[N,c,p,q] y, float[N,4,6,6] z) "
        f"{{r = Relu(x) {BN} y = {POOL}(n) {read_twice}}}",
        **statistics(),
    )
    proto, _ = normal(source)
    assert difference(source, proto) < 1e-5


@given(
    kernel=st.integers(1, 3), stride=st.integers(1, 3), pad=st.integers(0, 1),
    ceil=st.integers(0, 1), seed=st.integers(0, 99),
)  # fmt: skip
def test_every_geometry(kernel, stride, pad, ceil, seed):
    pads = [min(pad, kernel - 1)] * 4
    pool = (
        f"MaxPool<kernel_shape=[{kernel},{kernel}], strides=[{stride},{stride}], "
        f"pads=[{','.join(map(str, pads))}], ceil_mode={ceil}>"
    )
    source = model(
        PICTURE + f"{{r = Relu(x) s = Mul(r, k) n = Add(s, t) l = {pool}(n) y = Relu(l)}}",
        k=positive(4, 1, 1, seed=seed), t=random(4, 1, 1, seed=seed),
    )  # fmt: skip
    proto, _ = normal(source)
    assert [node.op_type for node in proto.graph.node][:2] == ["Relu", "MaxPool"]
    assert difference(source, proto) < 1e-5
