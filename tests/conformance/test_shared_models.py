"""The interpreter agrees with onnxruntime on the shared models and exports."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import version_converter

from onnx2snn_runtime.interpreter import OLDEST_OPSET, Interpreter

SHARED = Path(os.environ.get("ONNX2SNN_SHARED") or Path(__file__).parents[3] / "shared")
MODELS = sorted(
    path for folder in ("models", "exports") for path in SHARED.glob(f"{folder}/*.onnx")
)
TOLERANCE = 1e-4  # largest difference, relative to the largest magnitude of the output


def at_oldest_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model at opset 18 or newer."""
    opset = next(item.version for item in model.opset_import if not item.domain)
    return (
        model if opset >= OLDEST_OPSET else version_converter.convert_version(model, OLDEST_OPSET)
    )


def random_feeds(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Normal noise for every input, two images."""
    random = np.random.default_rng(0)
    feeds = {}
    weights = {item.name for item in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in weights:
            sizes = [size.dim_value or 2 for size in value.type.tensor_type.shape.dim]
            feeds[value.name] = random.standard_normal(sizes, dtype=np.float32)
    return feeds


@pytest.mark.skipif(not MODELS, reason=f"no models in {SHARED}: set ONNX2SNN_SHARED")
@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_agrees_with_onnxruntime(path):
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    model = onnx.load(path)
    feeds = random_feeds(model)
    names = [value.name for value in model.graph.output]

    results = Interpreter(at_oldest_opset(model))(feeds)

    assert list(results) == names
    for name, expected in zip(names, session.run(names, feeds), strict=True):
        assert results[name].dtype == expected.dtype
        error = np.abs(results[name] - expected).max() / np.abs(expected).max()
        assert error < TOLERANCE, f"{name}: relative error {error}"
