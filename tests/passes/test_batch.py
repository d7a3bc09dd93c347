import numpy as np
import pytest
from passes.helpers import apply, difference, feeds_for, has, model, normal, operators, random, run

from onnx2snn.passes.batch import FreeBatch
from onnx2snn_runtime.errors import UnsupportedError, UsageError

BODY = "{c = Conv(x, w) r = Relu(c) f = Reshape(r, s) y = Gemm<transB=1>(f, g)}"


def net(inputs, outputs, shape, **options):
    return model(
        f"agraph (float[{inputs}] x) => (float[{outputs}] y) {BODY}",
        w=random(2, 3, 3, 3),
        s=np.array(shape, np.int64),
        g=random(5, 32),
        **options,
    )


def shape_of(value):
    return [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize("symbol", ["N", "batch", "unk__12"])
def test_the_batch_is_called_n(symbol):
    proto, _ = normal(net(f"{symbol},3,6,6", f"{symbol},5", [-1, 32]))
    assert shape_of(proto.graph.input[0]) == ["N", 3, 6, 6]
    assert shape_of(proto.graph.output[0]) == ["N", 5]


@pytest.mark.parametrize("target", [[1, 32], [1, -1], [-1, 32], [0, 32]])
def test_a_fixed_batch_of_one_becomes_free(target):
    proto, notes = normal(net("1,3,6,6", "1,5", target), batches=(1,))
    assert has(notes, "the file fixed the batch at 1; it is free now")
    assert difference(net("N,3,6,6", "N,5", [-1, 32]), proto) < 1e-5


def test_a_fixed_batch_of_four_becomes_free():
    proto, _ = normal(net("4,3,6,6", "4,5", [4, 32]), batches=(4,))
    assert shape_of(proto.graph.output[0]) == ["N", 5]


def test_sizes_of_resize_leave_the_batch_out():
    source = model(
        "agraph (float[1,3,4,4] x) => (float[1,3,8,8] y) {y = Resize(x, , , s)}",
        s=np.array([1, 3, 8, 8], np.int64),
    )
    proto, _ = normal(source, batches=(1,))
    assert run(proto)(feeds_for(proto, 3))["y"].shape == (3, 3, 8, 8)


def test_samples_that_influence_each_other_are_refused():
    source = model(
        "agraph (float[4,3] x) => (float[4,3] y) {m = ReduceMean(x, a) y = Sub(x, m)}",
        a=np.array([0], np.int64),
    )
    with pytest.raises(UnsupportedError, match=r"fixes the batch at 4.*influence each other"):
        apply(FreeBatch, source)


def test_a_batch_that_cannot_be_free_is_refused():
    source = model(
        "agraph (float[1,3] x) => (float[2,3] y) {y = Concat<axis=0>(x, c)}", c=random(1, 3)
    )
    with pytest.raises(UnsupportedError, match="export the model with a dynamic batch"):
        apply(FreeBatch, source)


def test_open_sizes_are_asked_for_with_the_flag_to_paste():
    source = net("N,3,h,w", "N,5", [-1, 32])
    with pytest.raises(UsageError, match="--input-shape x:1,3,224,224") as caught:
        apply(FreeBatch, source)
    assert "[N, 3, h, w]" in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("told", [(1, 3, 6, 6), ("N", 3, 6, 6), (7, 3, 6, 6)])
def test_open_sizes_can_be_given(told):
    source = net("N,3,h,w", "N,5", [-1, 32])
    proto, _ = normal(source, input_shapes={"x": told})
    assert shape_of(proto.graph.input[0]) == ["N", 3, 6, 6]


def test_a_shape_that_contradicts_the_file_is_refused():
    source = net("N,3,h,w", "N,5", [-1, 32])
    with pytest.raises(UsageError, match=r"x:1,4,6,6 does not fit the shape \[N, 3, h, w\]"):
        apply(FreeBatch, source, input_shapes={"x": (1, 4, 6, 6)})
    with pytest.raises(UsageError, match="names z, which is no input"):
        apply(FreeBatch, source, input_shapes={"z": (1, 3, 6, 6)})


def test_an_input_of_unknown_rank_needs_a_shape():
    source = net("N,3,6,6", "N,5", [-1, 32])
    source.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(UsageError, match="its shape is unknown"):
        apply(FreeBatch, source)
    proto, _ = normal(source, input_shapes={"x": (1, 3, 6, 6)})
    assert operators(proto)["Conv"] == 1


def test_mixed_batches_are_refused():
    source = model("agraph (float[N,3] x, float[1,3] z) => (float[N,3] y) {y = Add(x, z)}")
    with pytest.raises(UnsupportedError, match="free batch and others a fixed one"):
        apply(FreeBatch, source)


def test_a_batch_that_is_free_in_name_only_is_made_free():
    proto, notes = normal(net("N,3,6,6", "M,5", [1, 32]), batches=(1,))
    assert has(notes, "the file fixed the batch at 1")
    assert difference(net("N,3,6,6", "N,5", [-1, 32]), proto) < 1e-5


@pytest.mark.parametrize(("batch", "taken"), [(200, True), (100_000, False)])
def test_a_large_fixed_batch(batch, taken):
    source = model(
        f"agraph (float[{batch},3,4,4] x) => (float[{batch},2,4,4] y) {{y = Conv(x, w)}}",
        w=random(2, 3, 1, 1),
    )
    if taken:
        proto, notes = apply(FreeBatch, source)
        assert has(notes, f"the file fixed the batch at {batch}")
        assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    else:
        with pytest.raises(UnsupportedError, match="100,000"):
            normal(source)
