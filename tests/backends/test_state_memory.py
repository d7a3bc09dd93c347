"""States begin as they should whatever their memory held, and memory goes from batch to batch."""

from importlib.util import find_spec

import networks
import numpy as np
import pytest

import onnx2snn
from onnx2snn_runtime.network import Network
from onnx2snn_runtime.state_memory import StateMemory

BACKENDS = [
    "numpy",
    pytest.param(
        "onnxruntime",
        marks=pytest.mark.skipif(
            find_spec("onnxruntime") is None, reason="onnxruntime is not installed"
        ),
    ),
]
CONVERSIONS = [
    {"recipe": "fast"},
    {"recipe": "refine"},
    {"target_drop": 2.0},
    {"recipe": "fast", "precision": "int8"},
]
IMAGES = networks.images(6, seed=3)


@pytest.fixture(scope="module", params=CONVERSIONS, ids=str)
def model(request):
    return onnx2snn.convert(
        networks.small_cnn(), calibration=networks.images(64), **request.param
    ).proto


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_the_memory_held_does_not_matter(model, backend, monkeypatch):
    expected = Network(model, backend=backend).run(IMAGES, 3, batch_size=2)
    make = StateMemory.make

    def dirty(self, images, shape, dtype):
        array = make(self, images, shape, dtype)
        array[...] = np.nan if array.dtype.kind == "f" else np.iinfo(array.dtype).max
        return array

    monkeypatch.setattr(StateMemory, "make", dirty)
    found = Network(model, backend=backend).run(IMAGES, 3, batch_size=2)
    assert np.array_equal(found.logits, expected.logits)


@pytest.mark.parametrize("early_exit", [False, True])
def test_batches_of_one_run_share_their_memory(model, early_exit, monkeypatch):
    made = []
    make = StateMemory.make

    def count(self, *kind):
        made.append(kind)
        return make(self, *kind)

    monkeypatch.setattr(StateMemory, "make", count)
    network = Network(model, threads=1)
    network.run(IMAGES, batch_size=2, early_exit=early_exit)
    states = [name for unit in network.plan.stateful for name in unit.states]
    assert len(made) == len(states)
    assert network.engine.state_memory.spare == []  # and it is given back at the end
