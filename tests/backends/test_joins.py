"""Neurons that write side by side give what a Concat behind them gives, bit for bit."""

import networks
import numpy as np
import pytest

import onnx2snn
from onnx2snn_runtime.backends.onnxruntime_backend import OnnxruntimeBackend
from onnx2snn_runtime.network import Network
from onnx2snn_runtime.planning.plan import Segment

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("numba", reason="numba is not installed")

SHAPE = (3, 10, 10)
IMAGES = networks.images(5, shape=SHAPE)
STEPS = [1, 2, 3, 7]


class WithConcats(OnnxruntimeBackend):
    """The same backend, but every Concat stays where it is in the file."""

    name = "with-concats"

    def writes_shares(self, operator):
        return False


def fire_modules(channels):
    """Concats into a Conv, a MaxPool and the tail; one whose input is read elsewhere too."""
    b = networks.Builder(0, size=10)
    wide = sum(channels)

    def expand(x, width):
        parts = [
            b.add("Relu", [b.conv(x, width, size, kernel=kernel)])
            for size, kernel in zip(channels, (1, 3, 1), strict=True)
        ]
        return b.add("Concat", parts, axis=1), parts[0]

    x, _ = expand(b.add("Relu", [b.conv("input", 3, 16)]), 16)
    x, shared = expand(b.add("Relu", [b.conv(x, wide, 16)]), 16)
    x = b.add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2])
    kept = b.add("MaxPool", [shared], kernel_shape=[3, 3], strides=[2, 2])
    x = b.add("Relu", [b.conv(b.add("Concat", [x, kept], axis=1), wide + channels[0], 16)])
    x, _ = expand(x, 16)
    x = b.add("Relu", [b.conv(x, wide, 16)])
    x, _ = expand(x, 16)
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [x])])
    return b.model(b.add("Gemm", [flat, b.weight(4, wide), b.weight(4)], transB=1), [4])


def concats(engine):
    """How many Concats its segments hold."""
    models = [unit.model for unit in engine.plan.units if isinstance(unit, Segment)]
    return sum(node.op_type == "Concat" for model in models for node in model.graph.node)


@pytest.mark.parametrize("channels", [(16, 32, 16), (12, 16, 4)], ids=["blocks", "no blocks"])
@pytest.mark.parametrize("options", [
    {"recipe": "fast"}, {"recipe": "refine"}, {"recipe": "fast", "precision": "int8"},
], ids=["fast", "refine", "int8"])  # fmt: skip
def test_joint_tensors_change_nothing(channels, options):
    model = onnx2snn.convert(
        fire_modules(channels), calibration=networks.images(32, shape=SHAPE), **options
    ).proto
    joined = Network(model, backend="onnxruntime", threads=1)
    apart = Network(model, backend=WithConcats(1))
    assert concats(apart.engine) >= 4
    assert concats(joined.engine) < concats(apart.engine)
    for batch_size in (None, 2):
        for memory in (None, 1):
            joined.engine.schedule.memory = memory or apart.engine.schedule.memory
            ours = joined.run(IMAGES, STEPS, record=True, batch_size=batch_size)
            expected = apart.run(IMAGES, STEPS, record=True)
            for t in STEPS:
                for name, answer in expected.by_step[t].items():
                    assert np.array_equal(ours.by_step[t][name], answer)
            for name, counts in expected.spikes.items():
                assert np.array_equal(ours.spikes[name], counts), name


def test_what_is_read_elsewhere_stays_apart():
    model = onnx2snn.convert(
        fire_modules((16, 32, 16)), calibration=networks.images(32, shape=SHAPE)
    ).proto
    shares = [unit.share for unit in Network(model, backend="onnxruntime").engine.plan.stateful]
    assert 0 < sum(share is not None for share in shares) < len(shares)
