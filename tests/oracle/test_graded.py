"""Operators of several inputs and reductions between spiking layers: exact for the mean input."""

import networks
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from passes import helpers

import onnx2snn
from onnx2snn.cli import main
from onnx2snn_runtime.errors import UnsupportedError

C = 6


def const(b, array):
    name = f"constant_{len(b.weights)}"
    b.weights.append(numpy_helper.from_array(np.asarray(array), name))
    return name


def ints(b, *numbers):
    return const(b, np.array(numbers, np.int64))


def floats(b, value, *shape):
    return const(b, np.full(shape, value, np.float32))


def squeeze_excite(b, x, y):
    gate = b.add("Relu", [b.conv(b.add("GlobalAveragePool", [x]), C, 3, kernel=1)])
    return b.add("Mul", [x, b.add("Sigmoid", [b.conv(gate, 3, C, kernel=1)])])


def layer_norm(b, x, y):
    last = b.add("Transpose", [x], perm=[0, 2, 3, 1])
    normed = b.add("LayerNormalization", [last, b.weight(C, scale=1), b.weight(C)], axis=-1)
    return b.add("Transpose", [normed], perm=[0, 3, 1, 2])


def layer_norm_spelled(b, x, y):
    axes = ints(b, 1)
    centred = b.add("Sub", [x, b.add("ReduceMean", [x, axes])])
    variance = b.add("ReduceMean", [b.add("Pow", [centred, floats(b, 2.0)]), axes])
    deviation = b.add("Sqrt", [b.add("Add", [variance, floats(b, 1e-5)])])
    return b.add("Div", [centred, deviation])


def attention(b, x, y):
    tokens = [b.add("Reshape", [z, ints(b, 0, C, 64)]) for z in (x, y)]
    keys = b.add("Transpose", [tokens[1]], perm=[0, 2, 1])
    scores = b.add("Softmax", [b.add("MatMul", [tokens[0], keys])], axis=-1)
    return b.add("Reshape", [b.add("MatMul", [scores, tokens[0]]), ints(b, 0, C, 8, 8)])


def group_norm(b, x, y):
    parts = b.add("Reshape", [x, ints(b, 0, 2, -1)])
    ones, zeros = floats(b, 1.0, 2), floats(b, 0.0, 2)
    normed = b.add("InstanceNormalization", [parts, ones, zeros])
    return b.add("Reshape", [normed, ints(b, 0, C, 8, 8)])


def assign(b, x, y):
    """x[:, [1, 3]] = y[:, [0, 2]], as exporters write an assignment to a slice, channels first."""
    first = b.add("Transpose", [x], perm=[1, 0, 2, 3])
    other = b.add("Gather", [b.add("Transpose", [y], perm=[1, 0, 2, 3]), ints(b, 0, 2)], axis=0)
    indices = const(b, np.array([[1], [3]], np.int64))
    changed = b.add("ScatterND", [first, indices, other])
    return b.add("Transpose", [changed], perm=[1, 0, 2, 3])


def gather_diagonal(b, x, y):
    """x[:, :, [0..7], [7..0]], as exporters write indices along several axes."""
    first = b.add("Transpose", [x], perm=[2, 3, 0, 1])
    indices = const(b, np.array([[k, 7 - k] for k in range(8)], np.int64))
    picked = b.add("Transpose", [b.add("GatherND", [first, indices])], perm=[1, 2, 0])
    return b.add("Reshape", [picked, ints(b, 0, C, 4, 2)])


GRADED = {
    "product": lambda b, x, y: b.add("Mul", [x, y]),
    "square": lambda b, x, y: b.add("Mul", [x, x]),
    "quotient": lambda b, x, y: b.add("Div", [x, b.add("Add", [y, floats(b, 0.5)])]),
    "constant over activation": lambda b, x, y: b.add(
        "Div", [floats(b, 1.0), b.add("Add", [y, floats(b, 0.5)])]
    ),
    "squeeze and excite": squeeze_excite,
    "layer norm": layer_norm,
    "layer norm, spelled out": layer_norm_spelled,
    "group norm": group_norm,
    "attention": attention,
    "instance norm": lambda b, x, y: b.add(
        "InstanceNormalization", [x, b.weight(C, scale=1), b.weight(C)]
    ),
    "softmax": lambda b, x, y: b.add("Softmax", [x], axis=1),
    "power": lambda b, x, y: b.add("Pow", [x, floats(b, 1.5)]),
    "root": lambda b, x, y: b.add("Sqrt", [x]),
    "norm": lambda b, x, y: b.add("Div", [x, b.add("Max", [b.add("ReduceL2", [x, ints(b, 1)]),
                                                        floats(b, 1e-12)])]),
    "local response": lambda b, x, y: b.add("LRN", [x], size=3, alpha=0.1),
    "minimum": lambda b, x, y: b.add("Min", [x, y]),
    "p-pooling": lambda b, x, y: b.add("LpPool", [x], kernel_shape=[3, 3], p=2, pads=[1] * 4),
    "mean variance": lambda b, x, y: b.add("MeanVarianceNormalization", [x], axes=[2, 3]),
}  # fmt: skip
POOLS = {
    "maximum over channels": lambda b, x, y: b.add("Mul", [
        floats(b, 1.0, 1, C, 1, 1), b.add("ReduceMax", [x, ints(b, 1)])
    ]),
    "global maximum": lambda b, x, y: b.add("GlobalMaxPool", [x]),
    "maximum of three": lambda b, x, y: b.add("Max", [x, y, b.add("Neg", [y])]),
}  # fmt: skip


LINEAR = {
    "choice": lambda b, x, y: b.add("Where", [const(b, np.arange(8) % 2 == 0), x, y]),
    "assignment": assign,
    "gathering": gather_diagonal,
}  # fmt: skip


def network(make):
    """Two branches of Relu, the operator, Relu, a dense layer."""
    b = networks.Builder(11)
    x = b.add("Relu", [b.conv("input", 3, C)])
    y = b.add("Relu", [b.conv("input", 3, C)])
    x = b.add("Relu", [b.conv(make(b, x, y), C, C)])
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [x])])
    logits = b.add("Gemm", [flat, b.weight(4, C), b.weight(4)], transB=1)
    return b.model(logits, [4])


@pytest.mark.parametrize("name", [*GRADED, *POOLS, *LINEAR])
def test_the_mean_is_exact(name):
    source = network({**GRADED, **POOLS, **LINEAR}[name])
    calibration, images = networks.images(32, 3), networks.images(4)
    expected = helpers.run(source)({"input": images})[source.graph.output[0].name]
    rate = onnx2snn.convert(source, calibration=calibration, per_channel=False, scale=2 / 15,
                            threshold="max")  # fmt: skip
    roles = {layer.role for layer in rate.layers}
    assert ("graded" in roles) == (name in GRADED)
    assert ("pool" in roles) == (name in POOLS)
    refine = onnx2snn.convert(source, calibration=calibration, recipe="refine")
    for model, timesteps, limit in ((rate, 256, 0.02), (refine, 16, 2e-3)):
        onnx.checker.check_model(model.proto, full_check=True)
        for backend in ("numpy", "auto"):
            found = model.network(backend).run(images, timesteps=timesteps).logits
            assert np.linalg.norm(found - expected) <= limit * np.linalg.norm(expected)


@pytest.mark.parametrize("name", ["squeeze and excite", "attention"])
def test_strict_refuses_graded_operators_by_name(name, tmp_path, capsys):
    source = network(GRADED[name])
    with pytest.raises(UnsupportedError) as told:
        onnx2snn.convert(source, calibration=networks.images(4), strict=True)
    found = {finding.op for finding in told.value.findings}
    assert found == ({"Mul"} if name == "squeeze and excite" else {"MatMul", "Softmax"})
    onnx.save(source, tmp_path / "net.onnx")
    assert main([str(tmp_path / "net.onnx"), "--strict"]) == 4
    assert "graded" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
