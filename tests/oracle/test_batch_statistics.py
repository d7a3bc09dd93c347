"""Thresholds without images are those of the images that BatchNormalization has seen."""

import networks
import numpy as np
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import onnx2snn

GAIN, SHIFT = np.array([1.0, -0.5, 0.25, 2.0]), np.array([0.5, 1.0, 2.0, -1.0])
IMAGES = 7.0 * networks.images(128, seed=9, shape=(3, 12, 12))  # normal, but unlike unit noise


def evaluate_tensor(builder, name):
    graph = helper.make_graph(
        builder.nodes, "part",
        [helper.make_tensor_value_info("input", 1, ["N", *builder.shape])],
        [helper.make_tensor_value_info(name, 1, None)], builder.weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    return ReferenceEvaluator(model).run(None, {"input": IMAGES})[0]


def normalised(b):
    """Conv without a border to mix and BatchNormalization with the statistics of the images."""
    x = b.conv("input", 3, 4, kernel=1)
    values = evaluate_tensor(b, x)
    names = []
    for array in (GAIN, SHIFT, values.mean((0, 2, 3)), values.var((0, 2, 3))):
        names.append(b.weight(4))
        b.weights[-1].CopyFrom(numpy_helper.from_array(array.astype(np.float32), names[-1]))
    return b.add("BatchNormalization", [x, *names])


def network(kind):
    b = networks.Builder(3, size=12)
    x = normalised(b)
    if kind == "add":
        x = b.add("Add", [x, normalised(b)])
    if kind == "concat":
        x = b.add("Concat", [x, normalised(b)], axis=1)
    if kind == "silu":
        x = b.add("Mul", [x, b.add("Sigmoid", [x])])
    elif kind == "clip":
        x = b.add("Clip", [x, *(constant(b, value) for value in (0.0, 1.5))])
    else:
        x = b.add("Relu", [x])
    x = b.conv(x, 8 if kind == "concat" else 4, 4)
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [x])])
    return b.model(b.add("Gemm", [flat, b.weight(4, 4), b.weight(4)], transB=1), [4])


def constant(b, value):
    name = b.weight(1)
    b.weights[-1].CopyFrom(numpy_helper.from_array(np.float32(value), name))
    return name


def thresholds(source, **options):
    spiking = onnx2snn.convert(source, recipe="fast", scale=1.0, percentile=99.0, **options)
    return next(iter(spiking.calibration.values())).threshold.reshape(-1)


@pytest.mark.parametrize("kind", ["relu", "clip", "silu", "concat", "add"])
def test_thresholds_are_those_of_the_images(kind):
    source = network(kind)
    with pytest.warns(UserWarning, match="1 layers are estimated from the statistics"):
        found = thresholds(source)
    expected = thresholds(source, calibration=IMAGES)
    # branches over the same images are not independent, as the sum takes them to be
    assert found == pytest.approx(expected, rel=0.5 if kind == "add" else 0.05)


def test_what_no_normalisation_leads_to_is_noise_and_said_to_be():
    b = networks.Builder(4, size=12)
    x = b.add("Relu", [normalised(b)])
    x = b.add("Relu", [b.conv(x, 4, 4)])
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [b.conv(x, 4, 4)])])
    with pytest.warns(UserWarning, match="of the other 1 from random noise"):
        onnx2snn.convert(b.model(flat, [4]))


def test_images_count_for_more():
    source = network("relu")
    half = thresholds(source, calibration=IMAGES / 100)
    assert (half < 0.9 * thresholds(source, calibration=IMAGES)).any()


def test_the_check_runs_on_noise_with_thresholds_for_noise():
    with pytest.warns(UserWarning, match="statistics of BatchNormalization"):
        model = onnx2snn.convert(network("relu"))  # its statistics are those of other images
    assert model.check.passed, model.check.text
