"""The engines of the backend ``cupy`` for convolutions.

By columns on NumPy against sums that are written out; cuDNN as a recording fake that convolves from
what it was told: sizes, strides, padding, and addresses.
"""

import contextlib
import importlib.util
import sys

import numpy as np
import pytest
from convolution_cases import TOLERANCES, convolutions, convolve, written_out
from fake_cudnn import fake_cudnn
from hypothesis import given
from hypothesis import strategies as st
from strict_arrays import StrictDevice

from onnx2snn_runtime.gpu import ColumnsEngine, CudnnEngine, choose_engine
from onnx2snn_runtime.gpu.cudnn import strides_of
from onnx2snn_runtime.gpu.linear import REPLACED, replacements
from onnx2snn_runtime.ops import OPERATORS, Call


@pytest.mark.parametrize("compute", sorted(TOLERANCES))
@given(convolutions())
def test_convolution_by_columns(compute, case):
    expected, magnitudes = written_out(*case)
    found = convolve(ColumnsEngine(StrictDevice(), compute), *case)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert np.all(np.abs(found - expected) <= TOLERANCES[compute] * magnitudes + 1e-6)


def test_columns_come_in_blocks(monkeypatch):
    """The same bits whatever the size of the buffer."""
    attributes = {"group": 1, "kernel_shape": [3, 3], "strides": [1, 1], "dilations": [1, 1],
                  "pads": [1, 1, 1, 1]}  # fmt: skip
    random = np.random.default_rng(0)
    x, weight = (random.normal(0, 1, s).astype(np.float32) for s in ((7, 4, 6, 6), (5, 4, 3, 3)))
    engine = ColumnsEngine(StrictDevice(), "fp32")
    whole = convolve(engine, attributes, x, weight, None)
    monkeypatch.setattr("onnx2snn_runtime.gpu.columns.CACHED_COLUMNS", 3 * 4 * 9 * 36 * 4)
    np.testing.assert_array_equal(convolve(engine, attributes, x, weight, None), whole)


def test_small_and_large_weights_survive_16_bits():
    """Weights of 1e-6 are no numbers of 16 bits; divided by a power of two they are."""
    attributes = {"group": 1, "kernel_shape": [1], "strides": [1], "dilations": [1], "pads": [0, 0]}
    x = np.ones((1, 2, 5), np.float32)
    for size in (1e-7, 3e4, 0.0):
        weight = np.full((2, 2, 1), size, np.float32)
        expected, magnitudes = written_out(attributes, x, weight, None)
        found = convolve(ColumnsEngine(StrictDevice(), "fp16"), attributes, x, weight, None)
        assert np.all(np.abs(found - expected) <= TOLERANCES["fp16"] * magnitudes)


@given(st.data())
def test_matrix_products(data):
    numbers = st.integers(1, 4)
    rows, depth, columns = (data.draw(numbers) for _ in range(3))
    transposed = data.draw(st.tuples(st.integers(0, 1), st.integers(0, 1)))
    attributes = {"transA": transposed[0], "transB": transposed[1], "alpha": 0.5, "beta": 2.0}
    random = np.random.default_rng(rows)
    a, b, c = (
        random.normal(0, 1, s).astype(np.float32)
        for s in ((rows, depth), (depth, columns), (columns,))
    )
    engine = ColumnsEngine(StrictDevice(), "fp32")
    call = Call(engine.xp, attributes, 18)
    given_arrays = (a.T if transposed[0] else a, b.T if transposed[1] else b, c)
    arrays = [engine.xp.asarray(array) for array in given_arrays]
    gemm = replacements(engine)["Gemm"](call)(call, *arrays).get()
    np.testing.assert_allclose(gemm, 0.5 * a @ b + 2 * c, rtol=1e-5, atol=1e-6)
    product = replacements(engine)["MatMul"](call)(call, *map(engine.xp.asarray, (a, b))).get()
    np.testing.assert_allclose(product, a @ b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op", sorted(REPLACED))
def test_what_is_not_float32_stays_with_the_registry(op):
    engine = ColumnsEngine(StrictDevice(), "fp32")
    call = Call(engine.xp, {}, 18)
    shape = {"Conv": (2, 2, 3)}.get(op, (2, 2))
    arrays = [engine.xp.asarray(np.arange(np.prod(shape)).reshape(shape).astype(np.float64))] * 2
    found = replacements(engine)[op](call)(call, *arrays)
    np.testing.assert_array_equal(found.get(), OPERATORS[op].function(call, *arrays).get())
    assert found.dtype == np.float64


# cuDNN


@pytest.mark.parametrize("compute", sorted(TOLERANCES))
@given(convolutions())
def test_convolution_by_cudnn(compute, case):
    library = fake_cudnn()
    found = convolve(CudnnEngine(StrictDevice(), compute, library), *case)
    expected, magnitudes = written_out(*case)
    assert found.dtype == np.float32 and found.shape == expected.shape
    assert np.all(np.abs(found - expected) <= TOLERANCES[compute] * magnitudes + 1e-6)
    (graph,) = library.graphs  # one plan for two runs
    built = [name for name, *_ in graph.calls]
    assert built == [
        "validate", "build_operation_graph", "create_execution_plans", "deselect_numeric_notes",
        "deselect_workspace_greater_than", "check_support", "build_plans",
    ]  # fmt: skip
    assert ("TENSOR_CORE" in dict(graph.calls[3:4])["deselect_numeric_notes"]) == (
        compute == "fp32"
    )


def test_what_cudnn_has_no_plan_for_goes_by_columns():
    library = fake_cudnn(refuses=True)
    engine = CudnnEngine(StrictDevice(), "fp32", library)
    attributes = {"group": 1, "kernel_shape": [2, 2], "strides": [1, 1], "dilations": [1, 1],
                  "pads": [0, 0, 0, 0]}  # fmt: skip
    x, weight = np.ones((1, 2, 4, 4), np.float32), np.ones((3, 2, 2, 2), np.float32)
    assert np.all(convolve(engine, attributes, x, weight, None) == 8)
    assert len(library.graphs) == 1  # asked once, not at each run
    assert [geometry.x for geometry in engine.declined] == [(1, 2, 4, 4)]


def test_one_workspace_for_all_plans():
    library = fake_cudnn(workspace=1000)
    engine = CudnnEngine(StrictDevice(), "fp32", library)
    attributes = {"group": 1, "kernel_shape": [1], "strides": [1], "dilations": [1], "pads": [0, 0]}
    weight = np.ones((1, 1, 1), np.float32)
    for size, workspace in ((3, 1000), (4, 10), (5, 2000)):
        library.workspace = workspace
        convolve(engine, attributes, np.ones((1, 1, size), np.float32), weight, None)
    assert engine.workspace.nbytes == 2000
    assert [held.nbytes for held in engine.outgrown] == [1, 1000]  # a captured launch has them
    assert [sizes.x[-1] for sizes in engine.plans] == [3, 4, 5]
    assert library.streams[-1] == ("a handle", 0)


@given(st.lists(st.integers(1, 4), min_size=3, max_size=5))
def test_strides(sizes):
    array = np.zeros(sizes, np.int8)
    assert strides_of(tuple(sizes), False) == list(array.strides)
    last = np.moveaxis(np.zeros([sizes[0], *sizes[2:], sizes[1]], np.int8), -1, 1)
    assert strides_of(tuple(sizes), True) == list(last.strides)


def test_the_frontend_infers_the_same_sizes():
    """The package's own graph, where it is installed: it needs neither cuDNN nor a GPU for this."""
    cudnn = pytest.importorskip("cudnn", reason="nvidia-cudnn-frontend is not installed")
    graph = cudnn.pygraph(
        io_data_type=cudnn.data_type.FLOAT, intermediate_data_type=cudnn.data_type.FLOAT,
        compute_data_type=cudnn.data_type.FLOAT,
    )  # fmt: skip
    x = graph.tensor(name="x", dim=[2, 4, 9, 7], stride=strides_of((2, 4, 9, 7), True))
    weight = graph.tensor(name="w", dim=[6, 2, 3, 2], stride=strides_of((6, 2, 3, 2), True))
    y = graph.conv_fprop(
        x, weight, pre_padding=[1, 0], post_padding=[2, 1], stride=[2, 1], dilation=[1, 2]
    )
    with contextlib.suppress(RuntimeError):  # sizes first, then the library is asked
        graph.validate()
    if not y.get_dim():
        pytest.skip("this version of the frontend infers sizes in cuDNN itself")
    assert list(y.get_dim()) == [2, 6, 5, 6]


def test_the_choice_of_an_engine(monkeypatch):
    """One that is missing, or does not start, is passed over, and the reason is told."""
    device, library = StrictDevice(), fake_cudnn()
    monkeypatch.setitem(sys.modules, "cudnn", library)
    monkeypatch.setattr(CudnnEngine, "unavailable", classmethod(lambda cls: ""))
    engine, passed = choose_engine(device, "fp32")
    assert (type(engine), passed) == (CudnnEngine, "")

    def fail():
        raise RuntimeError("no driver")

    library.create_handle = fail
    engine, passed = choose_engine(device, "fp32")
    assert (type(engine), passed) == (ColumnsEngine, "cudnn: no driver")
    monkeypatch.undo()
    if importlib.util.find_spec("cudnn") is None:
        engine, passed = choose_engine(device, "fp32")
        assert type(engine) is ColumnsEngine
        assert "pip install 'onnx2snn[gpu]'" in passed


ATTRIBUTES = {"group": 1, "kernel_shape": [3, 3], "strides": [1, 1], "dilations": [1, 1],
              "pads": [1, 1, 1, 1]}  # fmt: skip


def arrays_of(shapes):
    random = np.random.default_rng(0)
    return [random.normal(0, 1, shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("compute", ["fp32", "tf32", "fp16"])
def test_convolutions_of_many_rows_are_done_in_parts(compute, monkeypatch):
    x, weight = arrays_of([(7, 4, 6, 6), (5, 4, 3, 3)])
    whole = convolve(
        CudnnEngine(StrictDevice(), compute, fake_cudnn()), ATTRIBUTES, x, weight, None
    )
    monkeypatch.setattr("onnx2snn_runtime.gpu.cudnn.MOST_ELEMENTS", 2 * 5 * 36)
    library = fake_cudnn()
    found = convolve(CudnnEngine(StrictDevice(), compute, library), ATTRIBUTES, x, weight, None)
    np.testing.assert_array_equal(found, whole)
    assert {graph.convolution[0].dim[0] for graph in library.graphs} == {1, 2}


@pytest.mark.parametrize("compute", ["fp32", "fp16"])
def test_memory_is_handed_over_as_plans_are_chosen_for(compute):
    """A part of another tensor may begin anywhere: cuDNN assumes 16 bytes."""
    engine = CudnnEngine(StrictDevice(), compute, fake_cudnn())
    whole = engine.xp.asarray(np.arange(200, dtype=np.float32))
    for first in range(9):
        part = whole[first : first + 3 * 2 * 4 * 4].reshape(3, 2, 4, 4)
        lying = engine.lay(part)
        assert lying.data.ptr % 16 == 0
        order = (0, 2, 3, 1) if engine.channels_last else (0, 1, 2, 3)
        np.testing.assert_array_equal(lying.get(), part.get().transpose(order))
