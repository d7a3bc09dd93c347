"""A conversion says when the calibration images look unlike what the network was trained on."""

import warnings

import networks
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

import onnx2snn
from onnx2snn.cli import main
from onnx2snn_runtime.errors import DataError

IMAGES = networks.images(48, seed=2)


def labelled(tmp_path, images, shift):
    """A file of images with labels that are so many classes off from what the network answers."""
    (answers,) = ReferenceEvaluator(networks.small_cnn()).run(None, {"input": IMAGES})
    path = tmp_path / "images.npz"
    np.savez(path, images=images, labels=(answers.argmax(axis=1) + shift) % answers.shape[1])
    return path


@pytest.mark.parametrize(
    ("scale", "backend", "is_told"),
    [(0.002, "auto", True), (0.05, "auto", False), (0.002, "numpy", False)],
)
def test_quantisers_that_cut_off_what_the_network_sends(scale, backend, is_told):
    """A range of a sum between layers is dropped; where it clips, the ANN is not the file.

    NumPy cannot run the file, of an older operator set, and says nothing.
    """
    source = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N,3,8,8] input) => (float[N,4] output)
        {
            r = Relu(input)
            c = Conv<pads=[1,1,1,1]>(r, w)
            q = QuantizeLinear(c, s, z)
            d = DequantizeLinear(q, s, z)
            e = Conv<pads=[1,1,1,1]>(d, v)
            t = Relu(e)
            m = GlobalAveragePool(t)
            output = Flatten(m)
        }""")
    random = np.random.default_rng(0)
    arrays = {
        "w": random.standard_normal((4, 3, 3, 3)).astype(np.float32) / 5,
        "v": random.standard_normal((4, 4, 3, 3)).astype(np.float32) / 5,
        "s": np.float32(scale), "z": np.int8(0),
    }  # fmt: skip
    source.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        onnx2snn.convert(source, calibration=IMAGES, backend=backend)
    assert any("quantisers change" in str(entry.message) for entry in caught) == is_told


def test_labels_that_the_network_does_not_know(tmp_path):
    path = labelled(tmp_path, IMAGES, shift=1)
    with pytest.warns(UserWarning, match=r"only 0 % of 48 labelled .* --preprocess"):
        onnx2snn.convert(networks.small_cnn(), calibration=path)


def test_labels_that_the_network_knows(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        onnx2snn.convert(networks.small_cnn(), calibration=labelled(tmp_path, IMAGES, shift=0))


@pytest.mark.parametrize("shift", [0, 1])
def test_an_evaluation_says_so_too(tmp_path, capsys, shift):
    model = tmp_path / "model.snn.onnx"
    onnx2snn.convert(networks.small_cnn(), calibration=IMAGES).save(model)
    assert main(["eval", str(model), str(labelled(tmp_path, IMAGES, shift)), "-T", "1"]) == 0
    assert ("answers only 0 % of 48 images" in capsys.readouterr().err) == bool(shift)


def test_pictures_without_preprocessing(tmp_path, capsys):
    """It is told, as division by 255 is seldom what a network was trained on."""
    pictures = np.random.default_rng(0).integers(0, 256, IMAGES.shape, np.uint8)
    model, data = tmp_path / "net.onnx", tmp_path / "images.npz"
    onnx.save(networks.small_cnn(), model)
    np.savez(data, images=pictures)
    assert main([str(model), "--calibration", str(data)]) == 0
    assert "note: uint8 images without a known preprocessing: divided by 255" in (
        capsys.readouterr().err
    )
    assert main([str(model), "--calibration", str(data), "--preprocess", "unit"]) == 0
    assert "note:" not in capsys.readouterr().err


def test_fewer_images_than_labels(tmp_path):
    path = labelled(tmp_path, IMAGES, shift=1)
    with pytest.warns(UserWarning, match=r"only 0 % of 40 labelled"):
        onnx2snn.convert(networks.small_cnn(), calibration=path, calibration_samples=40)


def test_few_images(tmp_path):
    with pytest.warns(UserWarning, match="^only 31 calibration images"):
        onnx2snn.convert(networks.small_cnn(), calibration=IMAGES[:31])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        onnx2snn.convert(networks.small_cnn(), calibration=IMAGES[:32])


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_constant_images(value):
    with pytest.raises(DataError, match=f"constant: every value of the first 32 is {value:g}"):
        onnx2snn.convert(networks.small_cnn(), calibration=np.full_like(IMAGES, value))


def test_options_without_effect_are_told():
    images = networks.images(48)
    with pytest.warns(UserWarning, match="--v0 changes nothing here"):
        onnx2snn.convert(networks.small_cnn(), calibration=images, recipe="refine", v0=0.3)
    with pytest.warns(UserWarning, match="--max-timesteps limits what --target-drop may choose"):
        onnx2snn.convert(networks.small_cnn(), calibration=images, max_timesteps=4)
    with pytest.warns(UserWarning, match="--scale, --threshold changes nothing as --target-drop"):
        onnx2snn.convert(
            networks.small_cnn(), calibration=images, recipe="refine", target_drop=1.0, scale=0.3,
            threshold="max",
        )  # fmt: skip


def test_labels_beyond_the_classes_are_told():
    images = networks.images(48)
    with pytest.warns(UserWarning, match="label 9, and the network tells 4 classes"):
        onnx2snn.convert(networks.small_cnn(), calibration=(images, np.full(48, 9)))
