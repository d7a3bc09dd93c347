"""Convolution and pooling agree with onnxruntime for random geometries in 1-D to 3-D."""

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx2snn_runtime.interpreter import Interpreter

onnxruntime = pytest.importorskip("onnxruntime")
PADDINGS = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


@st.composite
def geometries(draw: st.DrawFn, pooling: bool) -> dict[str, Any]:
    """Attributes of a node with windows, and the size of its input."""
    axes = draw(st.integers(1, 3))

    def numbers(low: int, high: int, count: int = axes) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    kernel, strides, dilations = numbers(1, 3), numbers(1, 3), numbers(1, 2)
    auto_pad = draw(st.sampled_from(PADDINGS))
    if auto_pad.startswith("SAME"):  # engines differ on dilation, and on gaps between windows
        dilations = [1] * axes
        strides = [min(pair) for pair in zip(strides, kernel, strict=True)]
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": strides,
        "dilations": dilations,
        "auto_pad": auto_pad,
    }
    if auto_pad == "NOTSET":
        limit = min(kernel) - 1 if pooling else 2
        attributes["pads"] = numbers(0, limit, 2 * axes)
    return {"attributes": attributes, "sizes": numbers(5, 8)}


def run_both(
    op: str, attributes: dict[str, Any], inputs: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The result of one node from the interpreter and from onnxruntime."""
    names = [f"x{index}" for index in range(len(inputs))]
    node = onnx.helper.make_node(op, names, ["y"], **attributes)
    float_type = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [node],
        "one_node",
        [
            onnx.helper.make_tensor_value_info(name, float_type, array.shape)
            for name, array in zip(names, inputs, strict=True)
        ],
        [onnx.helper.make_tensor_value_info("y", float_type, None)],
    )
    opset = onnx.helper.make_opsetid("", 22)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = dict(zip(names, inputs, strict=True))
    return Interpreter(model)(feeds)["y"], session.run(None, feeds)[0]


def assert_equal(results: tuple[np.ndarray, np.ndarray]) -> None:
    ours, theirs = results
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def noise(*sizes: int) -> np.ndarray:
    return np.random.default_rng(sum(sizes)).standard_normal(sizes, dtype=np.float32)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(geometries(pooling=False), st.sampled_from([(4, 6, 1), (4, 6, 2), (3, 3, 3), (2, 4, 2)]))
def test_convolution(geometry, channels):
    inputs, outputs, groups = channels
    attributes, sizes = geometry["attributes"], geometry["sizes"]
    kernel = attributes["kernel_shape"]
    weight = noise(outputs, inputs // groups, *kernel)
    arrays = [noise(2, inputs, *sizes), weight, noise(outputs)]
    assert_equal(run_both("Conv", {**attributes, "group": groups}, arrays))


@settings(max_examples=40, derandomize=True, deadline=None)
@given(geometries(pooling=False), st.sampled_from([(4, 6, 1), (4, 6, 2), (3, 3, 3)]))
def test_transposed_convolution(geometry, channels):
    inputs, outputs, groups = channels
    attributes, sizes = geometry["attributes"], geometry["sizes"]
    kernel = attributes["kernel_shape"]
    weight = noise(inputs, outputs // groups, *kernel)
    arrays = [noise(2, inputs, *sizes), weight, noise(outputs)]
    assert_equal(run_both("ConvTranspose", {**attributes, "group": groups}, arrays))


@settings(max_examples=60, derandomize=True, deadline=None)
@given(geometries(pooling=True), st.booleans())
def test_max_pool(geometry, ceil_mode):
    attributes = {**geometry["attributes"], "ceil_mode": int(ceil_mode)}
    assert_equal(run_both("MaxPool", attributes, [noise(2, 3, *geometry["sizes"])]))


@settings(max_examples=60, derandomize=True, deadline=None)
@given(geometries(pooling=True), st.booleans(), st.booleans())
def test_average_pool(geometry, ceil_mode, count_include_pad):
    attributes = {
        **geometry["attributes"],
        "ceil_mode": int(ceil_mode),
        "count_include_pad": int(count_include_pad),
    }
    assert_equal(run_both("AveragePool", attributes, [noise(2, 3, *geometry["sizes"])]))
