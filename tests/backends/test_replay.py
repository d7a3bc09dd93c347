"""Chunks that are captured once and replayed, on a device of NumPy that notes what is launched.

A replay there runs no Python of the executor: the noted functions and kernels run again on the
memory that they were noted with.
"""

import networks
import numpy as np
import pytest
from kernels import host
from strict_arrays import StrictDevice

import onnx2snn
from onnx2snn_runtime.backends.cupy_backend import GRAPHS, CupyBackend
from onnx2snn_runtime.engine import Engine
from onnx2snn_runtime.gpu import ColumnsEngine
from onnx2snn_runtime.network import Network
from onnx2snn_runtime.replay import MOST

STEPS = [1, 3, 4]


@pytest.fixture(scope="module")
def launch(tmp_path_factory):
    host.require()
    return host.Host(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="module", params=["fast", "refine"])
def spiking(request):
    calibration = networks.images(16)
    return onnx2snn.convert(
        networks.small_cnn(), calibration=calibration, recipe=request.param
    ).proto


@pytest.fixture
def graphs(monkeypatch):
    monkeypatch.setenv(GRAPHS, "1")


@pytest.fixture
def chunks(monkeypatch):
    """How often the layers were run by Python."""
    calls = []
    run_units = Engine.run_units
    monkeypatch.setattr(
        Engine, "run_units", lambda *given, **more: calls.append(1) or run_units(*given, **more)
    )
    return calls


def on_device(model, launch, compute="fp32", **options):
    device = StrictDevice(launch=launch)
    backend = CupyBackend(None, compute, device, ColumnsEngine(device, compute))
    return Network(model, backend=backend, **options)


def plain(model, launch, monkeypatch, **options):
    """The same without captures."""
    with monkeypatch.context() as patch:
        patch.delenv(GRAPHS, raising=False)
        network = on_device(model, launch, **options)
    assert network.engine.replayer is None
    return network


def assert_same(found, expected):
    for t, outputs in expected.by_step.items():
        for name, array in outputs.items():
            np.testing.assert_array_equal(found.by_step[t][name], array)


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize("compute", ["fp32", "fp16"])
def test_a_replay_launches_the_same_on_the_same_memory(
    spiking, launch, compute, chunks, monkeypatch
):
    expected = plain(spiking, launch, monkeypatch, compute=compute)
    network = on_device(spiking, launch, compute=compute)
    launched, ran = network.backend.device.launched, []
    kernels = []
    for seed in range(4):  # launch by launch, captured, replayed, replayed
        images = networks.images(3, seed=seed)
        before, started = len(chunks), len(launched)
        found = network.run(images, STEPS)
        ran.append(len(chunks) - before)
        kernels.append(launched[started:])
        assert_same(found, expected.run(images, STEPS))
    assert ran == [1, 1, 0, 0]
    assert network.engine.replayer.refused == {}
    assert len(kernels[2]) == len(kernels[0]) >= len(network.plan.stateful)
    assert kernels[2] == kernels[3] == kernels[1][len(kernels[0]) :]
    assert [name for name, *_ in kernels[2]] == [name for name, *_ in kernels[0]]


@pytest.mark.usefixtures("graphs")
def test_inputs_are_copied_in(spiking, launch):
    """Whatever lies in the memory of the caller, and wherever."""
    network = on_device(spiking, launch)
    images = [networks.images(2, seed=seed) for seed in range(3)]
    first = [network.run(x, 4).logits for x in images]
    again = [network.run(x.copy(), 4).logits for x in images]
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[1], first[2])


@pytest.mark.usefixtures("graphs")
def test_every_kind_of_chunk_is_captured(spiking, launch, chunks, monkeypatch):
    """Another number of images, or of steps, is another capture; old ones go."""
    expected = plain(spiking, launch, monkeypatch)
    network = on_device(spiking, launch)
    replayer = network.engine.replayer
    for count, t in ((2, 3), (3, 3), (2, 4)):
        images = networks.images(count, seed=t)
        for _ in range(2):
            network.run(images, t)
        before = len(chunks)
        assert_same(network.run(images, t), expected.run(images, t))
        assert len(chunks) == before + 1  # of ``expected``
    assert len(replayer.captured) == 3
    for count in range(4, 4 + MOST):
        for _ in range(2):
            network.run(networks.images(count), 2)
    assert sum(held is not None for held in replayer.captured.values()) == MOST
    assert_same(network.run(images, 4), expected.run(images, 4))


@pytest.mark.usefixtures("graphs")
def test_states_go_from_chunk_to_chunk(spiking, launch, monkeypatch):
    """With little memory a run has several chunks, each of which is a capture of its own."""
    expected = plain(spiking, launch, monkeypatch)
    network = on_device(spiking, launch)
    network.engine.schedule.row_limit = expected.engine.schedule.row_limit = 4
    for seed in range(4):
        images = networks.images(2, seed=seed)
        assert_same(network.run(images, [1, 5, 6]), expected.run(images, [1, 5, 6]))
    kinds = list(network.engine.replayer.captured)
    assert [(first, length) for first, length, *_ in kinds] == [(1, 2), (3, 2), (5, 2)]


@pytest.mark.usefixtures("graphs")
def test_runs_that_take_turns(spiking, launch, monkeypatch):
    """A replay overwrites what another run has been given: nothing of that may be read again."""
    expected = plain(spiking, launch, monkeypatch)
    network = on_device(spiking, launch)
    one, two = networks.images(2, seed=1), networks.images(2, seed=2)
    for x in (one, two):
        network.run(x, 4), list(network.stream(x, 4))
    network.engine.schedule.row_limit = expected.engine.schedule.row_limit = 4
    for _ in range(3):
        pairs = zip(network.stream(one, 4), network.stream(two, 4), strict=True)
        wanted = zip(expected.stream(one, 4), expected.stream(two, 4), strict=True)
        for found, reference in zip(pairs, wanted, strict=True):
            for ours, theirs in zip(found, reference, strict=True):
                np.testing.assert_array_equal(*(next(iter(x.values())) for x in (ours, theirs)))


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize("problem", [MemoryError("cannot allocate 7 bytes"), RuntimeError("")])
def test_what_is_refused_runs_launch_by_launch(spiking, launch, monkeypatch, problem):
    expected = plain(spiking, launch, monkeypatch)
    network = on_device(spiking, launch)
    asked = []

    def capture(work):
        asked.append(work)
        raise problem

    network.backend.device.capture = capture
    for seed in range(3):
        images = networks.images(2, seed=seed)
        assert_same(network.run(images, STEPS), expected.run(images, STEPS))
    assert len(asked) == 1  # not again and again
    assert list(network.engine.replayer.refused.values()) == [str(problem) or "RuntimeError"]
    assert network.notes == [f"not captured as a CUDA graph: {str(problem) or 'RuntimeError'}"]


@pytest.mark.usefixtures("graphs")
def test_a_network_that_reads_numbers_on_the_host(launch, monkeypatch):
    """The bounds of a Slice are such numbers."""
    b = networks.Builder()
    x = b.add("Relu", [b.conv("input", 3, 6)])
    bounds = []
    for name, value in (("starts", 0), ("ends", 6), ("axes", 2)):
        b.weights.append(networks.numpy_helper.from_array(np.array([value]), name))
        bounds.append(name)
    x = b.add("Relu", [b.conv(b.add("Slice", [x, *bounds]), 6, 6)])
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [x])])
    model = onnx2snn.convert(b.model(flat, [6]), calibration=networks.images(16)).proto
    expected, network = plain(model, launch, monkeypatch), on_device(model, launch)
    for seed in range(3):
        images = networks.images(2, seed=seed)
        assert_same(network.run(images, STEPS), expected.run(images, STEPS))
    (why,) = network.engine.replayer.refused.values()
    assert "not permitted when stream is capturing" in why


@pytest.mark.usefixtures("graphs")
def test_observers_see_every_chunk(spiking, launch):
    """They copy to the host, which a capture may not."""
    network = on_device(spiking, launch)
    for _ in range(3):
        assert network.run(networks.images(2), 3, record=True).spikes
    assert network.engine.replayer.captured == {}


@pytest.mark.usefixtures("graphs")
def test_memory_that_runs_out_forgets_captures(spiking, launch):
    network = on_device(spiking, launch)
    for _ in range(2):
        network.run(networks.images(2), 3)
    assert network.engine.replayer.captured
    network.engine.release()
    assert network.engine.replayer.captured == {}


def test_it_is_off_unless_asked_for(spiking, launch, monkeypatch):
    assert "CUDA graphs" not in plain(spiking, launch, monkeypatch).backend.description
    assert Network(spiking, backend="numpy").engine.replayer is None
    monkeypatch.setenv(GRAPHS, "1")
    assert "CUDA graphs" in on_device(spiking, launch).backend.description
