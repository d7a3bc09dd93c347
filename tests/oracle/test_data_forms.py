"""The same pictures and labels in every form give the same networks and the same measurements."""

import io

import networks
import numpy as np
import pytest
from PIL import Image

import onnx2snn
from onnx2snn_runtime.cli import main as run_main

pytestmark = pytest.mark.filterwarnings("ignore:the ANN itself")  # labels are random

COUNT, SHAPE = 12, (3, 8, 10)
IMAGES = np.random.default_rng(3).integers(0, 256, (COUNT, *SHAPE), np.uint8)  # [N,C,H,W]
LABELS = np.arange(COUNT) // 3  # sorted, as the classes of a folder are
CLASSES = ("ape", "bee", "cat", "dog")
PREPROCESS = "mean=0.5,0.4,0.3,std=0.2,0.3,0.25"


def network(channels_last):
    """A small CNN for pictures, with the input that PyTorch or that Keras gives it."""
    b = networks.Builder(2)
    b.shape = (*SHAPE[1:], 3) if channels_last else SHAPE
    x = b.add("Transpose", ["input"], perm=[0, 3, 1, 2]) if channels_last else "input"
    x = b.add("Relu", [b.conv(x, 3, 6)])
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [b.add("Relu", [b.conv(x, 6, 6)])])])
    return b.model(b.add("Gemm", [flat, b.weight(4, 6), b.weight(4)], transB=1), [4])


def png(image):
    stream = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(stream, "PNG")
    return stream.getvalue()


def stored(folder, **arrays):
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


def compressed(folder, **arrays):
    np.savez_compressed(folder / "data.npz", **arrays)
    return folder / "data.npz"


def pictures(folder, name):
    for number, image in enumerate(IMAGES):
        path = folder / name.format(name=CLASSES[LABELS[number]], label=LABELS[number], i=number)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png(image))
    return folder


def packed(folder, **labels):
    files = [png(image) for image in IMAGES]
    offsets = np.cumsum([0, *map(len, files)])
    return stored(folder, jpeg=np.frombuffer(b"".join(files), np.uint8), offsets=offsets, **labels)


LAST = IMAGES.transpose(0, 2, 3, 1)
FORMS = {
    "images and labels": lambda folder: stored(folder, images=IMAGES, labels=LABELS),
    "x and y": lambda folder: compressed(folder, x=IMAGES, y=LABELS.astype(np.uint8)),
    "channels last": lambda folder: stored(folder, images=LAST, y=LABELS[:, None]),
    "one-hot": lambda folder: stored(folder, x=LAST, labels=np.eye(4, dtype=np.float32)[LABELS]),
    "packed": lambda folder: packed(folder, labels=LABELS),
    "class folders": lambda folder: pictures(folder, "{name}/{i:03}.png"),
    "class in the names": lambda folder: pictures(folder, "{name}_{i:03}.png"),
    "number in the names": lambda folder: pictures(folder, "{label}_{name}_{i:03}.png"),
    "arrays": lambda folder: (IMAGES, LABELS),
    "mapping": lambda folder: {"x": LAST, "y": LABELS},
}


@pytest.fixture(scope="module", params=[False, True], ids=["NCHW", "NHWC"])
def expected(request):
    """The network, its file and its measurements, from floats that are taken as they are."""
    source = network(request.param)
    mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in ((0.5, 0.4, 0.3),
                                                                    (0.2, 0.3, 0.25)))  # fmt: skip
    floats = ((IMAGES * np.float32(1 / 255)) - mean) / std
    if request.param:
        floats = floats.transpose(0, 2, 3, 1)
    spiking = onnx2snn.convert(source, calibration=floats)
    return source, spiking, onnx2snn.evaluate(spiking.network(), (floats, LABELS), timesteps=[1, 4])


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_data(form, expected, tmp_path):
    source, usual, document = expected
    data = FORMS[form](tmp_path)
    spiking = onnx2snn.convert(source, calibration=data, preprocess=PREPROCESS)
    for layer, other in zip(spiking.layers, usual.layers, strict=True):
        assert layer.threshold == pytest.approx(other.threshold, rel=1e-5)
    found = onnx2snn.evaluate(spiking.network(), data, timesteps=[1, 4])
    assert found["samples"] == COUNT
    for step, other in zip(found["steps"], document["steps"], strict=True):
        assert step["accuracy"] == other["accuracy"]
        assert step["agreement"] == other["agreement"]
        assert step["spikes_per_image"] == pytest.approx(other["spikes_per_image"], rel=0.01)


def test_one_picture_and_arrays_without_labels(expected, tmp_path):
    _, spiking, _ = expected
    spiking.save(tmp_path / "net.snn.onnx")
    (tmp_path / "one.png").write_bytes(png(IMAGES[4]))
    np.save(tmp_path / "all.npy", IMAGES)
    answers = {}
    for name in ("one.png", "all.npy"):
        command = [tmp_path / "net.snn.onnx", tmp_path / name, "-T", "4", "-o", tmp_path / "o.npz",
                   "--preprocess", PREPROCESS]  # fmt: skip
        assert run_main(list(map(str, command))) == 0
        with np.load(tmp_path / "o.npz") as written:
            (answers[name],) = (written[key] for key in written.files)
    np.testing.assert_array_equal(answers["one.png"], answers["all.npy"][4:5])
