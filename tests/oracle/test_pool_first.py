"""Pooling in front of activations: the same function, and where it is left alone."""

import networks
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

import onnx2snn
from onnx2snn.rewriting.pool_first import pool_first, pool_last

POOL = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}


def with_shapes(model):
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def pooled_net(act="Relu", branches=1, readers=1, slope=None, seed=0, **pool):
    """Conv, activation, perhaps Concat, MaxPool, Conv."""
    b = networks.Builder(seed)
    parts = []
    for _ in range(branches):
        x = b.conv("input", 3, 4)
        extra = [b.weight(4, 1, 1)] if act == "PRelu" else []
        if slope is not None:
            b.weights[-1].CopyFrom(
                numpy_helper.from_array(np.full((4, 1, 1), slope, np.float32), extra[0])
            )
        parts.append(b.add(act, [x, *extra]))
    x = parts[0] if branches == 1 else b.add("Concat", parts, axis=1)
    channels = 4 * branches
    y = b.add("MaxPool", [x], **{**POOL, **pool})
    y = b.conv(y, channels, 2, kernel=1)
    if readers > 1:
        y = b.add("Add", [y, b.conv(x, channels, 2, strides=[2, 2])])
    size = shape_of(b, y)
    return with_shapes(b.model(y, size))


def shape_of(builder, output):
    """Shape of an output without batch, as onnx's evaluator makes it."""
    graph = onnx.helper.make_graph(
        builder.nodes, "shape",
        [onnx.helper.make_tensor_value_info("input", 1, [1, *builder.shape])],
        [onnx.helper.make_tensor_value_info(output, 1, None)], builder.weights,
    )  # fmt: skip
    whole = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    image = np.zeros((1, *builder.shape), np.float32)
    return ReferenceEvaluator(whole).run(None, {"input": image})[0].shape[1:]


def run(model):
    return ReferenceEvaluator(model).run(None, {"input": networks.images(3)})[0]


@settings(deadline=None, max_examples=25)
@given(
    act=st.sampled_from(["Relu", "LeakyRelu", "Sigmoid", "Tanh"]),
    branches=st.integers(1, 3),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_moving_pooling_changes_nothing(act, branches, kernel, stride, seed):
    pads = [kernel // 2] * 4
    geometry = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": pads}
    model = pooled_net(act, branches, seed=seed, **geometry)
    moved, count = pool_first(model)
    onnx.checker.check_model(moved, full_check=True)
    assert count >= 1
    operators = [node.op_type for node in moved.graph.node]
    assert operators.index("MaxPool") < operators.index(act)
    assert np.array_equal(run(moved), run(model))
    names = {node.name for node in moved.graph.node if node.op_type == act}
    back = pool_last(moved, names)
    onnx.checker.check_model(back, full_check=True)
    operators = [node.op_type for node in back.graph.node]
    assert operators.index(act) < operators.index("MaxPool")
    assert np.array_equal(run(back), run(model))


@pytest.mark.parametrize(
    "options",
    [
        {"readers": 2},  # the whole map is read as well
        {"act": "PRelu", "slope": -0.1},  # not monotone
        {"act": "Abs"},
    ],
    ids=lambda options: "-".join(map(str, options)),
)
def test_pooling_stays_where_it_would_matter(options):
    model = pooled_net(**options)
    moved, count = pool_first(model)
    assert count == 0
    assert [n.op_type for n in moved.graph.node] == [n.op_type for n in model.graph.node]


def test_the_refining_network_has_no_neuron_that_pooling_drops():
    source = networks.small_cnn(pool=True)
    images = networks.images(6)
    full = onnx2snn.convert(source, calibration=images, recipe="fast")
    moved = onnx2snn.convert(source, calibration=images, recipe="refine")
    neurons = [sum(la.neurons for la in m.layers if la.role == "neuron") for m in (full, moved)]
    assert neurons[1] < neurons[0]
    expected = ReferenceEvaluator(source).run(None, {"input": images})[0]
    found = moved.network().run(images, timesteps=16).logits
    assert np.allclose(found, expected, atol=1e-3 * np.abs(expected).max())


def test_pooling_twice_comes_back_twice():
    b = networks.Builder(6)
    x = b.add("Relu", [b.conv("input", 3, 4)])
    for _ in range(2):
        x = b.add("MaxPool", [x], kernel_shape=[2, 2], strides=[1, 1])
    y = b.conv(x, 4, 2, kernel=1)
    model = with_shapes(b.model(y, shape_of(b, y)))
    moved, count = pool_first(model)
    assert count == 2
    back = pool_last(moved, {n.name for n in moved.graph.node if n.op_type == "Relu"})
    assert [n.op_type for n in back.graph.node] == [n.op_type for n in model.graph.node]
    assert np.array_equal(run(back), run(model))


@pytest.mark.parametrize("recipe", ["refine", "fast"])
def test_pooling_behind_an_activation_of_what_a_group_normalisation_left(recipe):
    """Its gain and offset are a BatchNormalization that no weights can take up."""
    b = networks.Builder(9)
    x = b.conv("input", 3, 4)
    x = b.add("GroupNormalization", [x, b.ones(4), b.weight(4)], num_groups=2)
    x = b.add("MaxPool", [b.add("Relu", [x])], kernel_shape=[2, 2], strides=[2, 2])
    x = b.add("Relu", [b.conv(x, 4, 5)])
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [x])])
    source = b.model(b.add("Gemm", [flat, b.weight(5, 3)]), [3], opset=21)
    images = networks.images(8)
    model = onnx2snn.convert(source, calibration=images, recipe=recipe)
    assert model.check.passed
    steps = 16 if recipe == "refine" else 128
    assert onnx2snn.evaluate(model, images, timesteps=steps)["steps"][0]["output_error"] < 0.02
