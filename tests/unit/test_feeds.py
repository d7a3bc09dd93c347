"""What Python users hand to a network: bytes, paths, numbers of steps."""

import networks
import numpy as np
import onnx
import pytest
from PIL import Image

import onnx2snn
import onnx2snn_runtime
from onnx2snn_runtime.errors import DataError, UsageError

BYTES = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 8), np.uint8)
MEAN = np.array([0.4, 0.5, 0.6], np.float32).reshape(3, 1, 1)
FLOATS = (BYTES / np.float32(255) - MEAN) / np.float32(0.25)


@pytest.fixture(scope="module")
def converted():
    return onnx2snn.convert(
        networks.small_cnn(), calibration=networks.images(40), preprocess="mean=.4,.5,.6,std=.25"
    )


@pytest.fixture(scope="module")
def network(converted):
    return converted.network()


def test_bytes_are_preprocessed_and_turned(network, tmp_path):
    expected = network.run(FLOATS.astype(np.float32), timesteps=4).logits
    np.savez(tmp_path / "bytes.npz", images=BYTES)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, image in enumerate(BYTES):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{index}.png")
    for form in (BYTES, BYTES.transpose(0, 2, 3, 1), {"input": BYTES}, tmp_path / "bytes.npz",
                 str(folder)):  # fmt: skip
        assert network.run(form, timesteps=4).logits == pytest.approx(expected, abs=1e-4)
        *_, last = network.stream(form, timesteps=4)
        assert next(iter(last.values())) == pytest.approx(expected, abs=1e-4)


def test_a_sequence_of_bytes(network):
    frames = np.stack([BYTES, BYTES[::-1], BYTES])
    expected = network.run(np.stack([FLOATS, FLOATS[::-1], FLOATS]), timesteps=3).logits
    wide = frames.transpose(0, 1, 3, 4, 2)
    assert network.run(frames, timesteps=3).logits == pytest.approx(expected, abs=1e-4)
    assert network.run(wide, timesteps=3).logits == pytest.approx(expected, abs=1e-4)
    assert network.run(frames).logits == pytest.approx(expected, abs=1e-4)  # all of them
    assert len(list(network.stream(frames))) == len(frames)


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (BYTES[:, :, :7], "the model expects"),
        (BYTES[:0], "holds no images"),
        (BYTES.astype(np.int32), r"astype\(np.uint8\)"),
        (BYTES[0, 0], "the model expects"),
    ],
)
def test_what_does_not_fit_is_refused(network, images, text):
    with pytest.raises(DataError, match=text):
        network.run(images, timesteps=2)


@pytest.mark.parametrize("timesteps", [1.5, 0, -1, True, "4", [], [2, 0], type(None)])
def test_steps_that_are_none(network, converted, timesteps):
    images = networks.images(2)
    calls = (
        lambda: network.run(images, timesteps=timesteps),
        lambda: list(network.stream(images, timesteps=timesteps)),
        lambda: onnx2snn.evaluate(converted, images, timesteps=timesteps),
    )
    for call in calls:
        with pytest.raises(UsageError, match="timesteps must"):
            call()


def test_evaluate_takes_what_convert_returned(converted, network, tmp_path):
    told = onnx2snn.evaluate(converted, BYTES, timesteps=4, preprocessing="unit")
    converted.save(tmp_path / "net.snn.onnx")
    expected = onnx2snn.evaluate(
        tmp_path / "net.snn.onnx", (BYTES / np.float32(255)).astype(np.float32), timesteps=[4]
    )
    assert told == expected
    assert told != onnx2snn.evaluate(network, BYTES, timesteps=4)


def test_a_spiking_model_is_shown_in_a_few_lines(converted):
    assert "layers: 6 spiking, 1 pooling" in repr(converted)
    assert len(repr(converted)) < 1000


def test_a_network_is_loaded_from_a_path_or_a_message(network, tmp_path):
    onnx.save(network.model, tmp_path / "net.snn.onnx")
    for source in (network.model, tmp_path / "net.snn.onnx", str(tmp_path / "net.snn.onnx")):
        assert "spiking layers" in repr(onnx2snn_runtime.load(source))
    with pytest.raises(UsageError, match="got bytes"):
        onnx2snn_runtime.load(b"bytes")
    with pytest.raises(UsageError, match="load"):
        onnx2snn_runtime.Network(str(tmp_path / "net.snn.onnx"))
