"""Weights beside the graph: the same model, without the bytes in the message."""

import networks
import numpy as np
import pytest
from onnx import numpy_helper

from onnx2snn_runtime.backends import large_models, open_backend


def test_small_models_are_left_alone():
    model = networks.small_cnn()
    assert large_models.split_weights(model) == (model, {})


def test_weights_leave_the_message_and_the_model_computes_the_same(monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model = networks.small_cnn()
    before = model.SerializeToString(deterministic=True)
    monkeypatch.setattr(large_models, "LARGE_TENSOR", 256)
    graph, arrays = large_models.split_weights(model, limit=1000)
    assert model.SerializeToString(deterministic=True) == before
    assert arrays
    moved = sum(array.nbytes for array in arrays.values())
    assert len(graph.SerializeToString()) < len(before) - moved + 64 * len(arrays)
    for item in model.graph.initializer:
        if item.name in arrays:
            assert np.array_equal(arrays[item.name], numpy_helper.to_array(item))
    options = onnxruntime.SessionOptions()
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in arrays.values()]
    options.add_external_initializers(list(arrays), values)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options)
    feeds = {"input": networks.images(3)}
    backend, _ = open_backend("numpy")
    (expected,) = backend.compile(model)(feeds).values()
    assert np.allclose(session.run(None, feeds)[0], expected, atol=1e-5)
