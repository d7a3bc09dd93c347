"""Files of every format version can be read, and answer as they did when they were written."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from golden.write import KINDS, STEPS, images

import onnx2snn_runtime
from onnx2snn_runtime.format import FORMAT_VERSION, read_metadata
from onnx2snn_runtime.neurons import FAMILIES

FOLDER = Path(__file__).resolve().parents[1] / "golden"
FILES = sorted(FOLDER.glob("*.snn.onnx"))


@pytest.mark.parametrize("backend", ["numpy", "onnxruntime"])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.partition(".")[0])
def test_answers_are_those_of_then(file, backend):
    if backend != "numpy":
        pytest.importorskip(backend)
    expected = np.load(FOLDER / f"{file.name.removesuffix('.snn.onnx')}.npy")
    network = onnx2snn_runtime.load(file, backend=backend)
    found = network.run(images(4), list(range(1, STEPS + 1))).by_step
    for step, answer in enumerate(expected, start=1):
        np.testing.assert_allclose(found[step]["scores"], answer, rtol=1e-3, atol=1e-4)


def test_there_is_a_file_of_every_kind_and_version():
    names = {file.name.removesuffix(".snn.onnx") for file in FILES}
    versions = range(1, FORMAT_VERSION + 1)
    assert names == {f"v{version}_{kind}" for version in versions for kind in KINDS}
    assert {
        read_metadata(onnx.load(FOLDER / f"v{FORMAT_VERSION}_{kind}.snn.onnx"))["format_version"]
        for kind in KINDS
    } == {FORMAT_VERSION}


def test_every_law_is_among_them():
    """So that a law cannot change while the version stays."""
    families = {
        attribute.s.decode()
        for file in FILES
        for node in onnx.load(file).graph.node
        for attribute in node.attribute
        if node.domain == "ai.onnx2snn" and attribute.name == "family"
    }
    assert families == set(FAMILIES)
