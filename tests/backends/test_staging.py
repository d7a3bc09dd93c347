"""Images that are copied to the device while the batch before them is computed."""

import networks
import numpy as np
import pytest
from strict_arrays import StrictDevice

import onnx2snn
from onnx2snn.evaluation.prefetch import prefetched
from onnx2snn_runtime.backends.cupy_backend import CupyBackend
from onnx2snn_runtime.backends.numpy_backend import NumpyBackend
from onnx2snn_runtime.data.dataset import Part
from onnx2snn_runtime.data.inputs import Piece
from onnx2snn_runtime.errors import DataError
from onnx2snn_runtime.gpu import ColumnsEngine
from onnx2snn_runtime.gpu.staging import Staging
from onnx2snn_runtime.network import Network


def batch(seed, count=3):
    return networks.images(count, seed=seed)


def open_backend(device=None):
    device = device or StrictDevice()
    return CupyBackend(None, "fp32", device, ColumnsEngine(device, "fp32"))


def test_two_buffers_take_turns():
    """The host fills a buffer only when its last copy is done; the device waits for its own."""
    device = StrictDevice()
    staging, batches = Staging(device), [batch(seed) for seed in range(4)]
    staging.put(batches[0])
    for k in range(4):
        if k < 3:
            staging.put(batches[k + 1])
        np.testing.assert_array_equal(staging.find(batches[k]).get(), batches[k])
    assert device.events == [
        "copy 0 begins",
        "copy 1 begins", "the device waits for copy 0",
        "the host waits for copy 0", "copy 2 begins", "the device waits for copy 1",
        "the host waits for copy 1", "copy 3 begins", "the device waits for copy 2",
        "the device waits for copy 3",
    ]  # fmt: skip


def test_memory_is_used_again():
    device = StrictDevice()
    staging = Staging(device)
    addresses = []
    for seed, count in enumerate((3, 3, 2, 3, 5, 3)):  # the last but one is larger
        staging.put(batch(seed, count))
        addresses.append(staging.buffers[-1].pinned.ctypes.data)
    assert addresses[2] == addresses[0] and addresses[3] == addresses[1]
    assert addresses[4] != addresses[2] and addresses[5] == addresses[3]
    staging.clear()
    assert staging.buffers == []


def test_parts_are_found_and_strangers_are_not():
    staging, images = Staging(StrictDevice()), batch(0, 5)
    staging.put(images)
    for part in (slice(0, 5), slice(1, 3), slice(4, 5)):
        np.testing.assert_array_equal(staging.find(images[part]).get(), images[part])
    for stranger in (images.copy(), images[:, :, ::2], images[::2], images[:2].astype(np.float64)):
        assert staging.find(stranger) is None


def test_a_run_takes_what_was_staged():
    model = onnx2snn.convert(networks.small_cnn(), calibration=networks.images(16)).proto
    network = Network(model, backend=open_backend())
    images = batch(0, 5)
    expected = network.run(images, 3, batch_size=2).logits
    network.backend.stage(images)
    device = network.backend.device
    np.testing.assert_array_equal(network.run(images, 3, batch_size=2).logits, expected)
    assert device.events == ["copy 0 begins", *["the device waits for copy 0"] * 3]


def test_out_of_memory_leaves_nothing_behind():
    backend = open_backend(StrictDevice(limit=1000))
    images = batch(0)
    backend.stage(images)
    assert backend.staging.buffers == []


def pieces(stored, prepare=lambda stored: stored):
    return (Piece(3 * k, {"x": Part(images, prepare)}, None) for k, images in enumerate(stored))


def test_batches_are_ready_one_ahead():
    """While a batch is computed, the next one is being copied, and one more is decoded."""
    backend, stored = open_backend(), [batch(seed) for seed in range(4)]
    events = backend.device.events
    for k, piece in enumerate(prefetched(pieces(stored, lambda images: images + 1), backend)):
        events.append(f"batch {k} computes")
        assert piece.first == 3 * k
        (images,) = piece.feeds().values()
        np.testing.assert_array_equal(images, stored[k] + 1)
        np.testing.assert_array_equal(backend.to_device(images).get(), images)
    order = [event for event in events if "host" not in event]
    assert order == [
        "copy 0 begins", "copy 1 begins", "batch 0 computes", "the device waits for copy 0",
        "copy 2 begins", "batch 1 computes", "the device waits for copy 1",
        "copy 3 begins", "batch 2 computes", "the device waits for copy 2",
        "batch 3 computes", "the device waits for copy 3",
    ]  # fmt: skip


def test_a_damaged_batch_raises_in_its_turn():
    def prepare(stored):
        if stored[0, 0, 0, 0] == 7:
            raise DataError("a damaged picture")
        return stored

    stored = [batch(seed) for seed in range(3)]
    stored[1][0, 0, 0, 0] = 7
    walk = prefetched(pieces(stored, prepare), open_backend())
    assert len(next(walk).feeds()["x"]) == 3
    damaged = next(walk)
    with pytest.raises(DataError, match="a damaged picture"):
        damaged.feeds()
    assert len(next(walk).feeds()["x"]) == 3


def test_other_backends_take_pieces_as_they_are():
    given = list(pieces([batch(0), batch(1)]))
    assert list(prefetched(iter(given), NumpyBackend())) == given
    assert list(prefetched(iter(()), open_backend())) == []


def test_an_evaluation_stages_its_batches(tmp_path):
    """The same document as without, and each batch is copied once for all that runs on it."""
    model = onnx2snn.convert(networks.small_cnn(), calibration=networks.images(16)).proto
    file = tmp_path / "images.npz"
    np.savez(file, images=networks.images(10), labels=np.arange(10) % 4)
    backend = open_backend()
    options = {"timesteps": (1, 3), "batch_size": 4}
    found = onnx2snn.evaluate(Network(model, backend=backend), file, **options)
    assert [event for event in backend.device.events if event.endswith("begins")] == [
        "copy 0 begins", "copy 1 begins", "copy 2 begins",
    ]  # fmt: skip
    plain = open_backend()
    plain.stage = lambda images: None
    expected = onnx2snn.evaluate(Network(model, backend=plain), file, **options)
    assert plain.device.events == []
    assert found == expected
