"""The executor of the backend ``cupy`` on a device that is made of NumPy.

The same classes run as on a GPU; only the device is another one. What is computed there must be
what the reference backend computes, however images and steps are cut.
"""

import warnings

import networks
import numpy as np
import pytest
from kernels import host
from spiking_layers import frames, one_layer, other_layers, spiking_layers, threshold
from strict_arrays import HostDevice, StrictDevice

import onnx2snn
from onnx2snn.recipes import RECIPES
from onnx2snn_runtime import backends
from onnx2snn_runtime.backends import backend_classes, open_backend
from onnx2snn_runtime.backends.cupy_backend import CupyBackend
from onnx2snn_runtime.data.preprocessing import Preprocessing
from onnx2snn_runtime.data.sources import open_data
from onnx2snn_runtime.early_exit import SPREAD, ExitRule, lead, run_batch, unit_of
from onnx2snn_runtime.errors import BackendError, UsageError
from onnx2snn_runtime.files.models import load_model
from onnx2snn_runtime.gpu import ColumnsEngine
from onnx2snn_runtime.network import Network
from onnx2snn_runtime.planning.schedule import DeviceSchedule, Footprint

SIZE = (3, 8, 8)
IMAGES = networks.images(6, shape=SIZE)
STEPS = [1, 2, 4]
CLOSE = 0.999  # share of neurons whose spikes may differ by two at most


def on_device(model, device=None, compute="fp32", **options):
    """A network on the backend ``cupy`` with a device of NumPy."""
    device = device or StrictDevice()
    backend = CupyBackend(None, compute, device, ColumnsEngine(device, compute))
    return Network(model, backend=backend, **options)


@pytest.fixture(scope="module", params=sorted(RECIPES))
def spiking(request):
    model = networks.small_cnn()
    calibration = networks.images(16, shape=SIZE)
    return onnx2snn.convert(model, calibration=calibration, recipe=request.param).proto


def assert_same(found, expected):
    """The same answers, and the same spikes but where a rounding has moved one."""
    for t, outputs in expected.by_step.items():
        for name, array in outputs.items():
            assert isinstance(found.by_step[t][name], np.ndarray)
            assert found.by_step[t][name].dtype == array.dtype
            np.testing.assert_allclose(found.by_step[t][name], array, rtol=1e-3, atol=1e-3)
    assert list(found.spikes) == list(expected.spikes)
    for name, spikes in expected.spikes.items():
        assert np.mean(np.abs(found.spikes[name] - spikes) <= 2) >= CLOSE, name


def test_networks(spiking):
    expected = Network(spiking, backend="numpy").run(IMAGES, STEPS, record=True)
    assert_same(on_device(spiking).run(IMAGES, STEPS, record=True), expected)


def assert_bits(found, expected):
    """The same answers and spikes to the last bit."""
    for t, outputs in expected.by_step.items():
        for name, array in outputs.items():
            np.testing.assert_array_equal(found.by_step[t][name], array, err_msg=f"{name} at {t}")
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[name], spikes, err_msg=name)


@pytest.mark.parametrize("source", ["small", "embedded"])
@pytest.mark.parametrize("recipe", ["fast", "if"])
def test_integer_networks_are_bit_equal(source, recipe, embedded, with_kernels):
    model, calibration = networks.small_cnn(), networks.images(16, shape=SIZE)
    if source == "embedded":
        model, calibration = embedded.model, embedded.calibration
    options = {"recipe": recipe, "precision": "int8", "calibration_samples": 32}
    preprocess = "unit" if source == "embedded" else None
    spiking = onnx2snn.convert(model, calibration=calibration, preprocess=preprocess, **options)
    reference = Network(spiking.proto, backend="numpy")
    ((_, shape),) = reference.input_shapes.items()
    images = networks.images(5, shape=shape[1:])
    expected = reference.run(images, STEPS, record=True)
    assert_bits(on_device(spiking.proto).run(images, STEPS, record=True), expected)
    assert_bits(on_device(spiking.proto, memory=1).run(images, STEPS, record=True), expected)
    before = with_kernels.launch.launches
    network = on_device(spiking.proto, with_kernels)
    assert_bits(network.run(images, STEPS, record=True), expected)
    assert with_kernels.launch.launches - before == len(network.plan.stateful)
    assert any(unit.bias is not None for unit in network.engine.plan.stateful)


@pytest.mark.parametrize("compute", ["tf32", "fp16"])
def test_whole_numbers_are_not_rounded(compute):
    calibration = networks.images(16, shape=SIZE)
    model = onnx2snn.convert(networks.small_cnn(), calibration=calibration, precision="int8").proto
    with pytest.raises(UsageError, match=f"integer networks need --compute fp32, not {compute}"):
        on_device(model, compute=compute)


@pytest.fixture(scope="module")
def with_kernels(tmp_path_factory):
    """A device of NumPy on which the kernels run, compiled for the CPU."""
    host.require()
    return HostDevice(host.Host(tmp_path_factory.mktemp("kernels")))


def test_networks_with_kernels(spiking, with_kernels):
    before = with_kernels.launch.launches
    expected = Network(spiking, backend="numpy").run(IMAGES, STEPS, record=True)
    network = on_device(spiking, with_kernels)
    assert_same(network.run(IMAGES, STEPS, record=True), expected)
    assert with_kernels.launch.launches - before >= len(network.plan.stateful)
    network.engine.schedule.row_limit = len(IMAGES)  # one step at a time: states are kept
    assert_same(network.run(IMAGES, STEPS, record=True), expected)


def test_views_are_not_written_over(with_kernels):
    """A Flatten hands on the memory of a tensor that a residual reads later."""
    b = networks.Builder()
    x = b.add("Relu", [b.conv("input", 3, 6)])
    flat = b.add("LeakyRelu", [b.add("Flatten", [x])], alpha=0.3)
    inner = b.add("Relu", [b.conv(b.add("Relu", [b.conv(x, 6, 6)]), 6, 6)])
    last = b.add("Relu", [b.conv(b.add("Add", [inner, x]), 6, 6)])
    pooled = b.add("Flatten", [b.add("GlobalAveragePool", [last])])
    parts = [b.add("Gemm", [part, b.weight(4, size), b.weight(4)], transB=1)
             for part, size in ((pooled, 6), (flat, 6 * 8 * 8))]  # fmt: skip
    model = onnx2snn.convert(
        b.model(b.add("Add", parts), [4]), calibration=networks.images(16, shape=SIZE)
    ).proto
    expected = Network(model, backend="numpy").run(IMAGES, 4, record=True)
    found = on_device(model, with_kernels).run(IMAGES, 4, record=True)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[name], spikes)


ONE_OF_EACH_FAMILY = {layer.family: layer for layer in [*spiking_layers(), *other_layers()]}


@pytest.mark.parametrize("layer", ONE_OF_EACH_FAMILY.values(), ids=str)
def test_laws_with_kernels(layer, with_kernels):
    """Kernels are bit-equal where the law needs no function of the C library."""
    model, feeds = one_layer(layer), frames(layer, 8)
    expected = Network(model, backend="numpy").run(feeds, timesteps=8, record=True)
    found = on_device(model, with_kernels).run(feeds, timesteps=8, record=True)
    scale = np.abs(expected.outputs["y"]).max()
    close = np.abs(found.outputs["y"] - expected.outputs["y"]) <= 1e-5 * scale
    assert close.mean() >= (1.0 if layer.is_exact else CLOSE)


@pytest.mark.parametrize("layer", [*spiking_layers(), *other_layers()], ids=str)
def test_laws_are_bit_equal(layer):
    """Nothing here is summed in another order."""
    model, feeds = one_layer(layer), frames(layer, 8)
    expected = Network(model, backend="numpy").run(feeds, timesteps=8, record=True)
    found = on_device(model).run(feeds, timesteps=8, record=True)
    np.testing.assert_array_equal(found.outputs["y"], expected.outputs["y"])
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[name], spikes)


def test_the_embedded_network(embedded):
    model = onnx2snn.convert(
        embedded.model, calibration=embedded.calibration, calibration_samples=32, preprocess="unit"
    ).proto
    expected = Network(model, backend="numpy")
    shape = expected.input_shapes["input"][1:]
    images, _ = next(open_data(embedded.test).batches(8, shape, Preprocessing.parse("unit")))
    assert_same(
        on_device(model).run(images, [2, 4], record=True),
        expected.run(images, [2, 4], record=True),
    )


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["models", "exports"])
def test_the_shared_networks(folder, shared):
    """Noise is enough for thresholds: both backends run the same file."""
    files = sorted((shared / folder).glob("*.onnx"))
    if not files:
        pytest.skip(f"no networks in {shared / folder}")
    for file in files:
        with warnings.catch_warnings(action="ignore"):  # of noise, and of the networks' habits
            model = onnx2snn.convert(load_model(file), recipe="fast").proto
        reference = Network(model, backend="numpy")
        random = np.random.default_rng(0)
        feeds = {
            name: random.normal(0, 1, (2, *shape[1:])).astype(np.float32)
            for name, shape in reference.input_shapes.items()
        }
        expected = reference.run(feeds, 4, record=True)
        found = on_device(model).run(feeds, 4, record=True)
        for name, spikes in expected.spikes.items():
            share = np.mean(np.abs(found.spikes[name] - spikes) <= 2)
            assert share >= CLOSE, (file.name, name, share)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["cifar10_resnet20_legacy", "cifar10_vgg_bn_dynamo", "keras_fashion_cnn_tf2onnx"]
)
def test_shared_integer_networks_are_bit_equal(name, shared):
    source = load_model(shared / "models" / f"{name}.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spiking = onnx2snn.convert(source, precision="int8").proto
    reference = Network(spiking, backend="numpy")
    ((_, shape),) = reference.input_shapes.items()
    images = networks.images(2, shape=shape[1:])
    assert_bits(
        on_device(spiking).run(images, [2, 4], record=True),
        reference.run(images, [2, 4], record=True),
    )


def test_streams_and_sequences(spiking):
    reference, ours = Network(spiking, backend="numpy"), on_device(spiking)
    for found, expected in zip(ours.stream(IMAGES, 3), reference.stream(IMAGES, 3), strict=True):
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, rtol=1e-3, atol=1e-3)
    frames_over_time = np.stack([IMAGES, IMAGES[::-1], IMAGES])
    assert_same(
        ours.run(frames_over_time, [1, 3], record=True),
        reference.run(frames_over_time, [1, 3], record=True),
    )


def test_early_exit_keeps_the_right_images(spiking):
    """A rule by which about half of the images leave at each check."""
    reference, ours = Network(spiking, backend="numpy"), on_device(spiking)
    steps = [8, 16, 32]  # one spike a step needs so many
    answers = reference.run(IMAGES, steps).by_step
    name = reference.decides
    logits = [answers[t][name] for t in steps]
    leads = [lead(x) / unit_of(SPREAD, x, None) for x in logits]
    thresholds = (*(float(np.median(x)) for x in leads[:-1]), 0.0)
    rule = ExitRule(SPREAD, tuple(steps), thresholds, 0.1, {})
    feeds, _ = reference.check_feeds(IMAGES)
    expected, used = run_batch(reference.engine, feeds, rule, name, steps[-1])
    found, ours_used = run_batch(ours.engine, feeds, rule, name, steps[-1])
    assert len(set(used)) > 1
    np.testing.assert_array_equal(ours_used, used)
    np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=1e-3)


# how images and steps are cut


@pytest.mark.parametrize(("memory", "batch_size"), [(1, None), (2**18, 4), (2**30, 1)])
def test_every_cut_gives_the_same(spiking, memory, batch_size):
    expected = on_device(spiking).run(IMAGES, STEPS, record=True)
    network = on_device(spiking, memory=memory)
    assert_same(network.run(IMAGES, STEPS, record=True, batch_size=batch_size), expected)


def test_a_device_is_fed_with_larger_batches(spiking):
    assert on_device(spiking).images_to_read == 256
    assert on_device(spiking, memory=1).images_to_read == 32
    assert Network(spiking, backend="numpy").images_to_read == 32


def test_the_schedule_of_a_device():
    """All steps if they fit, else the largest power of two, else fewer images."""
    size = Footprint(state_bytes=100, row_bytes=10, usual_bytes=10, usual_weights=0)
    plenty = DeviceSchedule(size, 10**6)
    assert plenty.chunk_steps(images=4, timesteps=24) == 24
    assert plenty.images_at_once(timesteps=8) == 256
    scarce = DeviceSchedule(size, 4 * 100 + 4 * 10 * 13)
    assert scarce.chunk_steps(images=4, timesteps=13) == 13
    assert scarce.chunk_steps(images=4, timesteps=14) == 8
    assert scarce.images_at_once(timesteps=2) == 920 // 120
    none = DeviceSchedule(size, 1)
    assert none.chunk_steps(images=4, timesteps=8) == none.images_at_once(8) == 1


def test_a_schedule_that_shrinks():
    schedule = DeviceSchedule(Footprint(0, 1, 1, 0), 10**6)
    assert schedule.chunk_steps(6, 8) == 8
    halved = []
    while schedule.shrink(6, 8):
        halved.append(schedule.chunk_steps(6, 8))
    assert halved == [4, 2, 1]
    assert schedule.images_at_once(8) == 3


# when the memory runs out


def test_out_of_memory_halves_the_chunk_then_the_batch(spiking):
    expected = on_device(spiking).run(IMAGES, STEPS, record=True)
    chunks, batches = [], []
    for limit in (10**9, 200_000, 90_000, 30_000):
        device = StrictDevice(limit)
        network = on_device(spiking, device)
        found = network.run(IMAGES, STEPS, record=True, batch_size=6)
        assert_same(found, expected)
        rows = network.engine.schedule.row_limit or 6 * 4
        chunks.append(max(1, rows // 6))
        batches.append(min(6, rows))
        assert device.released == (device.xp.failures if limit < 10**9 else 0)
    assert chunks == sorted(chunks, reverse=True) and chunks[0] == 4 and chunks[-1] == 1
    assert batches == sorted(batches, reverse=True) and batches[0] == 6 and batches[-1] < 6


def test_what_did_not_fit_once_is_not_tried_again(spiking):
    device = StrictDevice(90_000)
    network = on_device(spiking, device)
    network.run(IMAGES, STEPS, batch_size=6)
    failures = device.xp.failures
    assert failures
    network.run(IMAGES, STEPS)
    assert device.xp.failures == failures


def test_one_step_of_one_image_that_does_not_fit(spiking):
    network = on_device(spiking, StrictDevice(5_000))
    with pytest.raises(BackendError, match="not enough memory for one step of one image"):
        network.run(IMAGES, STEPS)
    with pytest.raises(BackendError, match="not enough memory"):
        list(network.stream(IMAGES, 2))


def test_weights_that_do_not_fit(spiking):
    with pytest.raises(BackendError, match="weights do not fit"):
        on_device(spiking, StrictDevice(600))


# arithmetic


@pytest.mark.parametrize("compute", ["tf32", "fp16"])
def test_other_arithmetics(embedded, compute):
    """TF32 is the device's business; fp16 rounds, so spikes move, but decisions hardly do."""
    model = onnx2snn.convert(
        embedded.model, calibration=embedded.calibration, calibration_samples=32, preprocess="unit"
    ).proto
    expected = Network(model, backend="numpy")
    shape = expected.input_shapes["input"][1:]
    images, _ = next(open_data(embedded.test).batches(60, shape, Preprocessing.parse("unit")))
    found = on_device(model, compute=compute).run(images, 4).logits.argmax(axis=1)
    assert np.mean(found == expected.run(images, 4).logits.argmax(axis=1)) >= 0.95


@pytest.mark.parametrize("name", sorted(set(backend_classes()) - {"cupy"}))
def test_others_refuse_it(name):
    reason = backend_classes()[name].unavailable()
    if reason:
        pytest.skip(reason)
    with pytest.raises(UsageError, match=r"computes in fp32, not in 'tf32'") as caught:
        open_backend(name, compute="tf32")
    assert "--backend cupy" in caught.value.advice


def test_auto_takes_the_device_only_if_there_is_one(monkeypatch):
    if not backend_classes()["cupy"].unavailable():
        pytest.skip("there is a device here")
    chosen, reason = open_backend("auto")
    assert chosen.name != "cupy"
    assert "cupy: CuPy" in reason
    monkeypatch.setattr(CupyBackend, "unavailable", classmethod(lambda cls: ""))
    assert backends._choose("auto")[0] is CupyBackend


def test_thresholds_lie_on_the_device():
    model = one_layer(next(iter(spiking_layers())))
    engine = on_device(model).engine
    assert [t.get().shape for t in engine.thresholds.values()] == [threshold().shape]
