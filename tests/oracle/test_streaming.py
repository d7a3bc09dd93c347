"""Calibration and evaluation of large sets never hold more than a batch."""

import io
import tracemalloc

import networks
import numpy as np
import pytest
from PIL import Image

import onnx2snn

pytestmark = pytest.mark.filterwarnings("ignore:the ANN itself")  # labels are random

FEW, MANY = 150, 1200
SHAPE = (3, 16, 16)
IMAGE_BYTES = int(np.prod(SHAPE))
ALLOWED = 100 * IMAGE_BYTES * 4  # a batch of 64 as uint8 and float32, and the labels


def picture(values):
    stream = io.BytesIO()
    Image.fromarray(values.transpose(1, 2, 0)).save(stream, "PNG")
    return stream.getvalue()


def write(form, folder):
    """``MANY`` pictures with labels in one of the forms that data can have; returns the path."""
    images = np.zeros((MANY, *SHAPE), np.uint8)
    images[:] = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    images[:, 0, 0, 0] = np.arange(MANY) % 256
    labels = np.arange(MANY) % 4
    path = folder / f"{form}.npz"
    if form == "stored":
        np.savez(path, images=images, labels=labels)
    elif form == "compressed":
        np.savez_compressed(path, x=images, y=np.eye(4)[labels])
    elif form == "floats":
        np.savez(path, x=images / np.float32(255), y=labels)
    elif form == "npy":
        path = folder / "images.npy"
        np.save(path, images.transpose(0, 2, 3, 1))
    elif form == "packed":
        pictures = [picture(image) for image in images]
        offsets = np.cumsum([0, *map(len, pictures)])
        np.savez(path, jpeg=np.frombuffer(b"".join(pictures), np.uint8), offsets=offsets)
    else:
        path = folder / form
        for name in "abcd":
            (path / name).mkdir(parents=True)
        for number, image in enumerate(images):
            (path / "abcd"[number % 4] / f"{number:05}.png").write_bytes(picture(image))
    return path


def peak(work):
    """Bytes that Python and NumPy held at most during the work."""
    tracemalloc.start()
    work()
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return held


@pytest.fixture(scope="module")
def source():
    b = networks.Builder(0, size=16)
    x = b.add("Relu", [b.conv("input", 3, 2)])
    x = b.add("Relu", [b.conv(x, 2, 2)])
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [x])])
    return b.model(b.add("Gemm", [flat, b.weight(4, 2), b.weight(4)], transB=1), [4])


@pytest.mark.parametrize(
    "form", ["stored", "compressed", "floats", "npy", "packed", "class folders"]
)
def test_memory_does_not_grow_with_the_set(form, source, tmp_path):
    path = write(form, tmp_path)

    def convert(count):
        return onnx2snn.convert(
            source, calibration=path, calibration_samples=count, preprocess="unit"
        )

    # one thread, or chance decides how much is alive at once; the first call imports and compiles
    network = convert(10).network(threads=1)

    def evaluate(count):
        onnx2snn.evaluate(network, path, timesteps=[1], limit=count, batch_size=50)

    evaluate(10)
    for work in (convert, evaluate):
        few, many = peak(lambda: work(FEW)), peak(lambda: work(MANY))  # noqa: B023
        assert many - few < ALLOWED, f"{work.__name__}: from {few:,} to {many:,} bytes"
    assert MANY * IMAGE_BYTES > 2 * ALLOWED  # what holding all the images would cost
