"""On a CUDA device: what the tests without one cannot know. All are skipped where there is none."""

import networks
import numpy as np
import pytest
from convolution_cases import TOLERANCES, convolutions, convolve, written_out
from hypothesis import given
from spiking_layers import frames, one_layer, other_layers, spiking_layers

import onnx2snn
from onnx2snn.recipes import RECIPES
from onnx2snn_runtime import kernels
from onnx2snn_runtime.backends import open_backend
from onnx2snn_runtime.backends.cupy_backend import GRAPHS
from onnx2snn_runtime.gpu import ENGINES, CupyDevice, survey
from onnx2snn_runtime.network import Network

pytestmark = pytest.mark.gpu

IMAGES = networks.images(64)
STEPS = [1, 2, 4, 8]
ROUNDED = {"tf32": 2e-3}  # of inputs of 11 bits; the others as without a device


def agree(found, expected):
    """Decisions, and spikes within two, but for what a rounding has moved."""
    same = found.logits.argmax(axis=1) == expected.logits.argmax(axis=1)
    assert same.mean() >= 0.98
    for name, spikes in expected.spikes.items():
        assert np.mean(np.abs(found.spikes[name] - spikes) <= 2) >= 0.99, name


@pytest.fixture(scope="module", params=sorted(RECIPES))
def spiking(request):
    return onnx2snn.convert(
        networks.small_cnn(), calibration=networks.images(64, seed=2), recipe=request.param,
        backend="numpy",
    ).proto  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
@pytest.mark.parametrize("compute", sorted(TOLERANCES))
def test_engines(engine, compute):
    if engine.unavailable():
        pytest.skip(engine.unavailable())
    made = engine(CupyDevice(), compute)

    @given(convolutions())
    def check(case):
        found = convolve(made, *case)
        expected, magnitudes = written_out(*case)
        tolerance = ROUNDED.get(compute, TOLERANCES[compute])
        assert np.all(np.abs(found - expected) <= tolerance * magnitudes + 1e-5)

    check()


@pytest.mark.parametrize("seed", range(4))
def test_random_networks(seed):
    model = networks.small_cnn(seed=seed, depth=2 + seed, residual=seed % 2 == 0)
    spiking = onnx2snn.convert(
        model, calibration=networks.images(64, seed=2), backend="numpy"
    ).proto
    expected = Network(spiking, backend="numpy").run(IMAGES, STEPS, record=True)
    agree(Network(spiking, backend="cupy").run(IMAGES, STEPS, record=True), expected)


@pytest.mark.parametrize("compute", ["tf32", "fp16"])
def test_other_arithmetics(spiking, compute):
    expected = Network(spiking, backend="numpy").run(IMAGES, 8).logits.argmax(axis=1)
    found = Network(spiking, backend="cupy", compute=compute).run(IMAGES, 8).logits.argmax(axis=1)
    assert np.mean(found == expected) >= 0.95


def test_every_cut_gives_the_same(spiking):
    """Within rounding: libraries choose their kernels by the size of a batch."""
    expected = Network(spiking, backend="cupy").run(IMAGES, STEPS, record=True)
    for options in ({"batch_size": 1}, {"batch_size": 24}, {}):
        for memory in (1, 2**20, None):
            network = Network(spiking, backend="cupy", memory=memory)
            agree(network.run(IMAGES, STEPS, record=True, **options), expected)


@pytest.mark.parametrize("layer", [*spiking_layers(), *other_layers()], ids=str)
def test_laws(layer):
    """Kernels round as NumPy does; only functions of the C library may differ."""
    model, feeds = one_layer(layer), frames(layer, 8)
    expected = Network(model, backend="numpy").run(feeds, timesteps=8).outputs["y"]
    found = Network(model, backend="cupy").run(feeds, timesteps=8).outputs["y"]
    if layer.is_exact:
        np.testing.assert_array_equal(found, expected)
    assert np.mean(np.abs(found - expected) <= 1e-4 * np.abs(expected).max()) >= 0.999


def test_kernels_are_taken(spiking, monkeypatch):
    launched = []
    network = Network(spiking, backend="cupy")
    start = network.backend.device.launch
    network.backend.device.launch = lambda kernel, *rest: (
        launched.append(kernel.name), start(kernel, *rest),
    )  # fmt: skip
    network.run(IMAGES, 2)
    with_kernel = [u for u in network.plan.stateful if u.operator.family in kernels.KERNELS]
    assert len(launched) >= len(with_kernel) > 0


def test_out_of_memory_halves_what_runs_at_once(spiking):
    import cupy

    expected = Network(spiking, backend="cupy").run(IMAGES, STEPS, record=True)
    network = Network(spiking, backend="cupy")
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    pool.set_limit(size=pool.used_bytes() + 2**20)
    try:
        found = network.run(IMAGES, STEPS, record=True, batch_size=64)
    finally:
        pool.set_limit(size=0)
    assert network.engine.schedule.row_limit
    agree(found, expected)


@pytest.mark.parametrize("compute", ["fp32", "fp16"])
def test_cuda_graphs(spiking, monkeypatch, compute):
    """Captured at the second run and replayed at the third; what is refused says why."""
    expected = Network(spiking, backend="cupy", compute=compute)
    monkeypatch.setenv(GRAPHS, "1")
    network = Network(spiking, backend="cupy", compute=compute)
    for seed in range(4):
        images = networks.images(16, seed=seed)
        found = network.run(images, STEPS).by_step
        for t, outputs in expected.run(images, STEPS).by_step.items():
            for name, array in outputs.items():
                np.testing.assert_array_equal(found[t][name], array)
    if network.notes:
        pytest.skip("; ".join(network.notes))
    assert any(network.engine.replayer.captured.values())


@pytest.mark.parametrize("recipe", ["fast", "if"])
def test_integer_networks_are_bit_equal(recipe):
    spiking = onnx2snn.convert(
        networks.small_cnn(), calibration=networks.images(64, seed=2), recipe=recipe,
        backend="numpy", precision="int8",
    ).proto  # fmt: skip
    expected = Network(spiking, backend="numpy").run(IMAGES, STEPS, record=True)
    found = Network(spiking, backend="cupy").run(IMAGES, STEPS, record=True)
    np.testing.assert_array_equal(found.logits, expected.logits)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[name], spikes)


def test_evaluations_stage_their_batches(spiking, tmp_path):
    file = tmp_path / "images.npz"
    np.savez(file, images=networks.images(40), labels=np.arange(40) % 4)
    network = Network(spiking, backend="cupy")
    found = onnx2snn.evaluate(network, file, timesteps=(2,), batch_size=16)
    network.backend.stage = lambda images: None
    assert found == onnx2snn.evaluate(network, file, timesteps=(2,), batch_size=16)


def test_auto_takes_the_device():
    backend, reason = open_backend("auto")
    assert backend.name == "cupy"
    assert "convolutions by" in reason
    assert survey(ENGINES)["device"]["name"]
