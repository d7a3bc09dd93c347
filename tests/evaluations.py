"""A folder with what an evaluation reads: a spiking network and images with labels."""

import warnings

import networks
import numpy as np

from onnx2snn import convert


def write_evaluation(path, count):
    """``net.snn.onnx``, and ``count`` images in ``data.npz``; returns the folder."""
    images = networks.images(count)
    np.savez(path / "data.npz", images=images, labels=np.arange(count) % 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        convert(networks.small_cnn(), calibration=images[:64]).save(path / "net.snn.onnx")
    return path
