"""Harmless files that attacks are made from."""

import io
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TUNED = "tuned"  # no recipe: settings as the tuner chooses them
SHAPE = (1, 8, 8)
CLASSES = 4


def _layer(
    generator: np.random.Generator, name: str, *shape: int
) -> tuple[onnx.TensorProto, onnx.TensorProto]:
    weight = generator.normal(0, 0.5, shape).astype(np.float32)
    bias = generator.normal(0, 0.1, shape[:1]).astype(np.float32)
    return numpy_helper.from_array(weight, f"{name}.w"), numpy_helper.from_array(bias, f"{name}.b")


def network(opset: int = 18, ir_version: int = 10) -> onnx.ModelProto:
    """Two convolutions with ReLU, a pooling between them, and a classifier."""
    generator = np.random.default_rng(0)
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "conv1.w", "conv1.b"], ["a"], "conv1", pads=[1, 1, 1, 1]),
        node("Relu", ["a"], ["b"], "relu1"),
        node("MaxPool", ["b"], ["c"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["c", "conv2.w", "conv2.b"], ["d"], "conv2", pads=[1, 1, 1, 1]),
        node("Relu", ["d"], ["e"], "relu2"),
        node("GlobalAveragePool", ["e"], ["f"], "gap"),
        node("Flatten", ["f"], ["g"], "flatten"),
        node("Gemm", ["g", "fc.w", "fc.b"], ["y"], "fc", transB=1),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "network",
        [value("x", TensorProto.FLOAT, ["N", *SHAPE])],
        [value("y", TensorProto.FLOAT, ["N", CLASSES])],
        [
            *_layer(generator, "conv1", 3, 1, 3, 3),
            *_layer(generator, "conv2", 3, 3, 3, 3),
            *_layer(generator, "fc", CLASSES, 3),
        ],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)


@cache
def _spiking(recipe: str, precision: str) -> bytes:
    from onnx2snn import convert
    from onnx2snn.recipes import find_recipe

    settings = replace(find_recipe("refine"), precision=1 / 32) if recipe == TUNED else recipe
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = convert(network(), calibration=images(), recipe=settings, precision=precision)
        return found.proto.SerializeToString()


def spiking(recipe: str = "fast", precision: str = "float") -> onnx.ModelProto:
    """The converted network, a new copy."""
    return onnx.load_model_from_string(_spiking(recipe, precision))


def images(count: int = 8) -> np.ndarray[Any, Any]:
    """Images that fit the network."""
    shape = (count, *SHAPE)
    return np.random.default_rng(1).normal(0, 1, shape).astype(np.float32)


def npz(**arrays: Any) -> bytes:
    """The bytes of an archive of arrays."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def put(path: Path, content: bytes | onnx.ModelProto) -> Path:
    """Write a file."""
    is_bytes = isinstance(content, bytes)
    path.write_bytes(content if is_bytes else content.SerializeToString())
    return path


def good_model(folder: Path) -> Path:
    """A network without fault."""
    return put(folder / "good.onnx", network())


def good_spiking(folder: Path) -> Path:
    """A spiking network without fault."""
    return put(folder / "good.snn.onnx", spiking())


def good_data(folder: Path) -> Path:
    """Images and labels without fault."""
    labels = np.arange(8) % CLASSES
    return put(folder / "good.npz", npz(images=images(), labels=labels))
