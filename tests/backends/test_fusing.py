"""Biases and additions that neurons take over: which they are, and that no bit changes."""

import warnings
from collections import Counter

import networks
import numpy as np
import pytest
from kernels import host
from strict_arrays import HostDevice

import onnx2snn
from onnx2snn_runtime.backends.cupy_backend import CupyBackend
from onnx2snn_runtime.files.models import load_model
from onnx2snn_runtime.gpu import ColumnsEngine
from onnx2snn_runtime.network import Network
from onnx2snn_runtime.planning.fusing import fuse
from onnx2snn_runtime.planning.plan import Segment
from onnx2snn_runtime.planning.planner import make_plan

IMAGES = networks.images(3)
STEPS = [1, 3, 4]


class Unfused(CupyBackend):
    """The same arithmetic, with passes of their own for biases and additions."""

    def fuses(self, operator):
        del operator
        return False


@pytest.fixture(scope="module")
def with_kernels(tmp_path_factory):
    """A device of NumPy on which the kernels run, compiled for the CPU."""
    host.require()
    return HostDevice(host.Host(tmp_path_factory.mktemp("kernels")))


def blocks():
    """Additions of every kind in front of a ReLU, by name of the ReLU's input."""
    b = networks.Builder(seed=3)
    names = {}

    def relu_of_sum(kind, *summands):
        names[kind] = b.add("Add", list(summands))
        return b.add("Relu", [names[kind]])

    def conv(x, kernel=3):
        return b.conv(x, 6, 6, kernel)

    x = b.add("Relu", [b.conv("input", 3, 6)])
    x = relu_of_sum("identity", x, conv(b.add("Relu", [conv(x)])))
    x = relu_of_sum("two convolutions", conv(x), conv(x, 1))
    y = relu_of_sum("read twice", conv(x), x)
    x = b.add("Relu", [b.add("Add", [names["read twice"], conv(y)])])
    x = relu_of_sum("broadcast", conv(x), b.add("GlobalAveragePool", [x]))
    shared = conv(x)
    left = relu_of_sum("shared, left", conv(x), shared)
    right = relu_of_sum("shared, right", shared, conv(x))
    x = relu_of_sum("two neurons", left, right)
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [x])])
    logits = b.add("Gemm", [flat, b.weight(4, 6), b.weight(4)], transB=1)
    return b.model(logits, [4]), names


def converted(model, **options):
    return onnx2snn.convert(model, calibration=networks.images(16), **options).proto


def on_device(model, device, backend=CupyBackend, **options):
    engine = ColumnsEngine(device, "fp32")
    return Network(model, backend=backend(None, "fp32", device, engine), **options)


def assert_no_bit_changes(model, device, feeds=IMAGES, steps=STEPS, memories=(None, 1)):
    """With all steps at once, and one by one."""
    for memory in memories:
        plain = on_device(model, device, Unfused, memory=memory)
        expected = plain.run(feeds, steps, record=True)
        found = on_device(model, device, memory=memory).run(feeds, steps, record=True)
        for t, outputs in expected.by_step.items():
            for name, array in outputs.items():
                np.testing.assert_array_equal(found.by_step[t][name], array)
        for name, spikes in expected.spikes.items():
            np.testing.assert_array_equal(found.spikes[name], spikes)


def operators(plan):
    """Operators of the segments between neurons, and the number of their inputs."""
    nodes = (n for u in plan.units if isinstance(u, Segment) for n in u.model.graph.node)
    return Counter((node.op_type, len(node.input)) for node in nodes)


@pytest.mark.parametrize(
    "options",
    [{"recipe": "fast"}, {"recipe": "refine"}, {"recipe": "refine", "target_drop": 5.0}],
    ids=str,
)
def test_no_bit_changes(with_kernels, options):
    model = converted(blocks()[0], **options)
    families = {unit.operator.family for unit in make_plan(model).stateful}
    assert ("RefineFrom" in families) == ("target_drop" in options)
    assert_no_bit_changes(model, with_kernels)


def test_the_reference_computes_the_same_bits(with_kernels):
    """Nothing here is summed in another order than by the backend ``numpy``."""
    model = converted(networks.small_cnn(pool=False))
    expected = Network(model, backend="numpy").run(IMAGES, STEPS, record=True)
    found = on_device(model, with_kernels).run(IMAGES, STEPS, record=True)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[name], spikes)


def test_which_are_taken():
    model, names = blocks()
    plan = make_plan(converted(model))
    fused = fuse(plan, lambda operator: True)
    by_sum = {u.inputs[0]: u.name for u in plan.stateful}
    taken = {unit.name: unit for unit in fused.stateful}
    joins = {kind: taken[by_sum[name]].residual != "" for kind, name in names.items()}
    assert joins == {
        "identity": True, "two convolutions": True, "read twice": False, "broadcast": False,
        "shared, left": True, "shared, right": True, "two neurons": True,
    }  # fmt: skip
    biased = {kind: taken[by_sum[name]].bias is not None for kind, name in names.items()}
    assert biased == {
        "identity": True, "two convolutions": True, "read twice": False, "broadcast": False,
        "shared, left": True, "shared, right": True, "two neurons": False,
    }  # fmt: skip
    before, after = operators(plan), operators(fused)
    assert (before["Add", 2], after["Add", 2]) == (8, 2)
    # six of ten are handed over; left are those in front of what stays, and the other summands
    assert before["Conv", 3] == 10 and after["Conv", 3] == 4 and after["Conv", 2] == 6
    assert all(np.shape(unit.bias) == (6, 1, 1) for unit in fused.stateful if unit.bias is not None)


def test_nothing_is_taken_where_the_backend_does_not_say_so():
    plan = make_plan(converted(blocks()[0]))
    assert operators(fuse(plan, lambda operator: False)) == operators(plan)
    engine = Network(converted(blocks()[0]), backend="numpy").engine
    assert all(unit.bias is None and not unit.residual for unit in engine.plan.stateful)


def test_memory_follows():
    """A residual lives until its neuron has run; an addition needs no third tensor."""
    b = networks.Builder()
    x = b.add("Relu", [b.conv("input", 3, 6)])
    y = b.add("Relu", [b.add("Add", [b.conv(x, 6, 6), b.conv(x, 6, 6, 1)])])
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [y])])
    plan = make_plan(converted(b.model(flat, [6])))
    fused = fuse(plan, lambda operator: True)
    (neuron,) = (unit for unit in fused.stateful if unit.residual)
    index = fused.units.index(neuron)
    assert fused.last_use[neuron.residual] == fused.last_use[neuron.inputs[0]] == index
    row = 4 * 6 * 8 * 8
    assert fused.footprint.row_bytes == 4 * row  # current, residual, output, spike counts
    assert plan.footprint.row_bytes == 3 * row


def test_what_a_kernel_declines_is_added_in_passes(with_kernels, monkeypatch):
    model = converted(blocks()[0])
    expected = on_device(model, with_kernels, Unfused).run(IMAGES, STEPS, record=True)
    monkeypatch.setattr("onnx2snn_runtime.kernels.neurons.LARGEST", 1)
    network = on_device(model, with_kernels)
    assert any(unit.residual for unit in network.engine.plan.stateful)
    found = network.run(IMAGES, STEPS, record=True)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[name], spikes)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["models/cifar10_resnet20_legacy", "exports/mobilenetv2_small", "exports/resnet18_small",
     "exports/densenet_small"],
)  # fmt: skip
def test_shared_networks(name, shared, with_kernels):
    with warnings.catch_warnings(action="ignore"):  # of noise, and of the networks' habits
        model = onnx2snn.convert(load_model(shared / f"{name}.onnx"), recipe="fast").proto
    ((_, shape),) = make_plan(model).inputs.items()
    feeds = networks.images(1, shape=shape[1:])
    assert_no_bit_changes(model, with_kernels, feeds, [3], [None])
