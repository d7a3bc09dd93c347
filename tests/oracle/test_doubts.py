"""A conversion says when the calibration images look unlike what the network was trained on."""

import warnings

import networks
import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

import onnx2snn

IMAGES = networks.images(48, seed=2)


def labelled(tmp_path, images, shift):
    """A file of images with labels that are so many classes off from what the network answers."""
    (answers,) = ReferenceEvaluator(networks.small_cnn()).run(None, {"input": IMAGES})
    path = tmp_path / "images.npz"
    np.savez(path, images=images, labels=(answers.argmax(axis=1) + shift) % answers.shape[1])
    return path


def test_labels_that_the_network_does_not_know(tmp_path):
    path = labelled(tmp_path, IMAGES, shift=1)
    with pytest.warns(UserWarning, match=r"only 0 % of 48 labelled .* --preprocess"):
        onnx2snn.convert(networks.small_cnn(), calibration=path)


def test_labels_that_the_network_knows(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        onnx2snn.convert(networks.small_cnn(), calibration=labelled(tmp_path, IMAGES, shift=0))


def test_labels_of_other_classes_tell_nothing(tmp_path):
    path = tmp_path / "images.npz"
    np.savez(path, images=IMAGES, labels=np.full(len(IMAGES), 10_000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        onnx2snn.convert(networks.small_cnn(), calibration=path)


def test_pictures_without_preprocessing():
    pictures = np.random.default_rng(0).integers(0, 256, IMAGES.shape, np.uint8)
    with pytest.warns(UserWarning, match="divided by 255"):
        onnx2snn.convert(networks.small_cnn(), calibration=pictures)


def test_fewer_images_than_labels(tmp_path):
    path = labelled(tmp_path, IMAGES, shift=1)
    with pytest.warns(UserWarning, match=r"only 0 % of 40 labelled"):
        onnx2snn.convert(networks.small_cnn(), calibration=path, calibration_samples=40)
