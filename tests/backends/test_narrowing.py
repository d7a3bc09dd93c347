"""Signals in 16 bits: which they are, what is stored for them, and what they change."""

import networks
import numpy as np
import pytest
from fake_cudnn import fake_cudnn
from kernels import host
from onnx import TensorProto, numpy_helper
from strict_arrays import HostDevice, StrictDevice

import onnx2snn
from onnx2snn_runtime.backends.cupy_backend import CupyBackend
from onnx2snn_runtime.gpu import ColumnsEngine, CudnnEngine
from onnx2snn_runtime.kernels import handles
from onnx2snn_runtime.network import Network
from onnx2snn_runtime.planning.fusing import fuse
from onnx2snn_runtime.planning.narrowing import narrow, powers_of_two
from onnx2snn_runtime.planning.plan import Segment
from onnx2snn_runtime.planning.planner import make_plan

IMAGES = networks.images(4)


class Wide(CupyBackend):
    """Convolutions in 16 bits that copy signals of 32."""

    def narrows(self, operator):
        del operator
        return False


class Recording(ColumnsEngine):
    """Notes the types that convolutions are given and give."""

    def __init__(self, device, compute):
        super().__init__(device, compute)
        self.seen = []

    def convolution(self, weight, groups):
        run = super().convolution(weight, groups)

        def convolve(call, x, windows):
            y = run(call, x, windows)
            self.seen.append((x.dtype.name, weight.dtype.name, y.dtype.name))
            return y

        return convolve


@pytest.fixture(scope="module")
def launch(tmp_path_factory):
    host.require()
    return host.Host(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="module")
def device(launch):
    return HostDevice(launch)


def on_device(model, device, backend=CupyBackend, engine=ColumnsEngine, **options):
    made = backend(None, "fp16", device, engine(device, "fp16"))
    return Network(model, backend=made, **options)


def inception(b, x, channels):
    """Two convolutions side by side and their outputs together, as in SqueezeNet."""
    parts = [b.add("Relu", [b.conv(x, channels, 4, kernel)]) for kernel in (1, 3)]
    return b.add("Concat", parts, axis=1)


def network():
    """Convolutions, a residual, a Concat in front of a pooling, a pooling, another way to the end.

    Returns:
        The ANN, and the tensors by their part in it.
    """
    b = networks.Builder(seed=5)
    names = {}
    names["first"] = b.add("Relu", [b.conv("input", 3, 6)])
    inner = b.add("Relu", [b.conv(names["first"], 6, 6)])
    names["inner"] = inner
    names["joined"] = b.add("Relu", [b.add("Add", [b.conv(inner, 6, 6), names["first"]])])
    both = inception(b, names["joined"], 6)
    names["pooled"] = b.add("MaxPool", [both], kernel_shape=[2, 2], strides=[2, 2])
    names["mixed"] = b.add("Relu", [b.conv(names["pooled"], 8, 6)])
    mean = b.add("AveragePool", [names["mixed"]], kernel_shape=[2, 2])
    names["last"] = b.add("Relu", [b.conv(mean, 6, 6)])
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [names["last"]])])
    logits = b.add("Gemm", [flat, b.weight(4, 6), b.weight(4)], transB=1)
    return b.model(logits, [4]), names


@pytest.fixture(scope="module")
def spiking():
    return onnx2snn.convert(network()[0], calibration=networks.images(16)).proto


def narrowed(model):
    plan = fuse(make_plan(model), handles)
    return plan, narrow(plan, handles)


def test_which_signals_are_narrow(spiking):
    _, names = network()
    plan, found = narrowed(spiking)
    sent = {part: name in found.narrow for part, name in names.items()}
    assert sent == {
        "first": True, "inner": True, "joined": True, "pooled": True,
        "mixed": False,  # an average reads it
        "last": False,  # the answer
    }  # fmt: skip
    (concat,) = (
        node for unit in plan.units if isinstance(unit, Segment)
        for node in unit.model.graph.node if node.op_type == "Concat"
    )  # fmt: skip
    assert set(concat.input) <= found.narrow
    sums = {unit.inputs[0] for unit in found.stateful if unit.scale is not None}
    assert len(sums) == 6 and sums <= found.narrow  # all convolutions but the one in the head


def test_weights_are_stored_in_16_bits_and_by_powers_of_two(spiking):
    plan, found = narrowed(spiking)
    scales = {u.inputs[0]: u.scale for u in found.stateful if u.scale is not None}
    whole, half = ({
        node.output[0]: (node, {w.name: w for w in unit.model.graph.initializer}, unit)
        for unit in made.units if isinstance(unit, Segment)
        for node in unit.model.graph.node if node.op_type == "Conv"
    } for made in (plan, found))  # fmt: skip
    for name, scale in scales.items():
        node, weights, _ = whole[name]
        weight = numpy_helper.to_array(weights[node.input[1]])
        node, weights, unit = half[name]
        stored = numpy_helper.to_array(weights[node.input[1]])
        assert stored.dtype == np.float16
        assert node.input[1].endswith(".half_weight")  # and the float32 ones are gone:
        assert all(
            item.data_type != TensorProto.FLOAT or len(item.dims) < 4 for item in weights.values()
        )
        assert np.all(np.frexp(scale)[0] == 0.5)
        largest = np.abs(stored).max(axis=(1, 2, 3))
        assert np.all((largest >= 0.5) & (largest <= 1))
        np.testing.assert_allclose(stored * scale[:, None], weight, rtol=2**-10, atol=1e-6)
        types = {v.name: v.type.tensor_type.elem_type for v in unit.model.graph.output}
        assert types[name] == TensorProto.FLOAT16


def test_powers_of_two_of_unusual_weights():
    weight = np.array([0.0, 1.0, 3e38, 1e-44, -0.3], np.float32).reshape(5, 1, 1)
    np.testing.assert_array_equal(
        powers_of_two(weight).reshape(-1), np.float32([1, 2, 2.0**127, 2.0**-126, 0.5])
    )


def test_convolutions_read_and_write_16_bits(spiking, device):
    net = on_device(spiking, device, engine=Recording)
    net.run(IMAGES, 2, batch_size=4)
    head, *others = net.backend.engine.seen
    assert head == ("float32", "float32", "float32")
    half = ("float16", "float16", "float16")
    assert others.count(half) == len(others) - 1 == 5
    assert ("float32", "float16", "float16") in others  # behind the average


class Watched(CudnnEngine):
    """Notes which convolutions had to copy what they read."""

    def __init__(self, device, compute):
        super().__init__(device, compute, fake_cudnn())
        self.copied = []

    def lay(self, array):
        laid = super().lay(array)
        self.copied.append(laid.data.ptr != array.data.ptr)
        return laid


def test_signals_stay_channels_last(spiking, launch):
    """cuDNN reads what neurons and poolings have written, where they have written it."""
    device = StrictDevice(launch=launch)
    net = on_device(spiking, device, engine=Watched)
    net.run(IMAGES, 2, batch_size=4)
    net.backend.engine.copied.clear()  # weights
    found = net.run(IMAGES, [1, 3], batch_size=4)
    # the image is copied, and what an average has made in float32
    assert net.backend.engine.copied == [True, False, False, False, False, False, True]
    plain = on_device(spiking, device, engine=Plain)
    for t, outputs in plain.run(IMAGES, [1, 3], batch_size=4).by_step.items():
        for name, array in outputs.items():
            np.testing.assert_allclose(found.by_step[t][name], array, rtol=1e-5, atol=1e-5)


class Plain(CudnnEngine):
    """The same arithmetic with results that lie channels first."""

    def __init__(self, device, compute):
        super().__init__(device, compute, fake_cudnn())

    def execute(self, plan, x, weight, sizes, finish):
        return self.xp.ascontiguousarray(super().execute(plan, x, weight, sizes, finish))


def test_only_roundings_differ(spiking, device):
    """One convolution on the same input is bit-equal; of whole networks decisions agree."""
    images = networks.images(64)
    expected = on_device(spiking, device, Wide).run(images, 8).logits
    found = on_device(spiking, device).run(images, 8).logits
    exact = Network(spiking, backend="numpy").run(images, 8).logits
    scale = np.abs(exact).max()
    assert np.abs(found - exact).mean() <= 2 * np.abs(expected - exact).mean() + 1e-3 * scale
    assert np.mean(found.argmax(axis=1) == exact.argmax(axis=1)) >= 0.95


def test_every_cut_gives_the_same(spiking, device):
    expected = on_device(spiking, device).run(IMAGES, [1, 3], record=True)
    found = on_device(spiking, device, memory=1).run(IMAGES, [1, 3], record=True)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[name], spikes)


@pytest.mark.parametrize("recipe", ["refine", "paper"])
def test_other_recipes(recipe, device):
    model = onnx2snn.convert(network()[0], calibration=networks.images(16), recipe=recipe).proto
    exact = Network(model, backend="numpy").run(IMAGES, 8).logits
    found = on_device(model, device).run(IMAGES, 8).logits
    assert np.abs(found - exact).max() <= 0.1 * np.abs(exact).max()


def test_what_a_kernel_declines_is_widened(spiking, device, monkeypatch):
    """The laws as written compute in float32, whatever they are given."""
    expected = on_device(spiking, device).run(IMAGES, 4).logits
    for module in ("neurons", "pool"):
        monkeypatch.setattr(f"onnx2snn_runtime.kernels.{module}.LARGEST", 1)
    found = on_device(spiking, device).run(IMAGES, 4).logits
    assert np.abs(found - expected).max() <= 0.1 * np.abs(expected).max()


def test_memory_follows(spiking):
    plan, found = narrowed(spiking)
    name = network()[1]["inner"]
    assert plan.bytes_of(name) == 4 * 6 * 8 * 8
    assert found.bytes_of(name) == 2 * 6 * 8 * 8
    assert found.footprint.row_bytes < plan.footprint.row_bytes
    assert found.footprint.state_bytes == plan.footprint.state_bytes


def test_nothing_is_narrow_elsewhere(spiking, device):
    plan = make_plan(spiking)
    assert narrow(plan, lambda operator: False).narrow == frozenset()
    exact = CupyBackend(None, "fp32", device, ColumnsEngine(device, "fp32"))
    engine = Network(spiking, backend=exact).engine
    assert not engine.plan.narrow
    assert all("sends" not in fields for fields in engine.fused.values())
