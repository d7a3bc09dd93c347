"""Inputs of whole numbers keep their type: the file takes what its source takes."""

import networks
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

import onnx2snn
import onnx2snn_runtime
from onnx2snn.export.unroll import unroll_loop

pytestmark = pytest.mark.filterwarnings("ignore:the ANN itself")
PICTURES = np.random.default_rng(0).integers(0, 256, (40, 3, 8, 8), np.uint8)


def source(kind):
    """A network that casts and divides by itself."""
    b = networks.Builder(3)
    x = b.add("Cast", ["input"], to=TensorProto.FLOAT)
    x = b.add("Mul", [x, b.constant(1 / 255, np.float32)])
    x = b.add("Relu", [b.conv(x, 3, 6)])
    x = b.add("Relu", [b.conv(x, 6, 6)])
    x = b.add("Flatten", [b.add("GlobalAveragePool", [x])])
    model = b.model(b.add("Gemm", [x, b.weight(4, 6)], transB=1), [4])
    model.graph.input[0].type.tensor_type.elem_type = kind
    return model


@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.INT32])
@pytest.mark.parametrize("options", [{}, {"recipe": "refine"}, {"precision": "int8"}])
def test_the_file_takes_what_its_source_takes(kind, options, tmp_path):
    model = source(kind)
    onnx.save(model, tmp_path / "net.onnx")
    spiking = onnx2snn.convert(tmp_path / "net.onnx", calibration=PICTURES, **options)
    spiking.save(tmp_path / "net.snn.onnx")
    assert spiking.proto.graph.input[0].type.tensor_type.elem_type == kind
    images = PICTURES.astype(onnx.helper.tensor_dtype_to_np_dtype(kind))
    (expected,) = onnxruntime.InferenceSession(tmp_path / "net.onnx").run(None, {"input": images})

    network = onnx2snn_runtime.load(tmp_path / "net.snn.onnx")
    found = network.run(PICTURES, timesteps=16).logits
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()

    session = onnxruntime.InferenceSession(tmp_path / "net.snn.onnx")
    outputs = [value.name for value in session.get_outputs()]
    kinds = {"float": np.float32, "int32": np.int32, "int64": np.int64}
    feeds = {}
    for value in session.get_inputs():
        shape = [size if isinstance(size, int) else len(images) for size in value.shape]
        feeds[value.name] = np.zeros(shape, kinds.get(value.type[7:-1], np.float32))
    for _ in range(16):
        feeds["input"] = images
        results = dict(zip(outputs, session.run(outputs, feeds), strict=True))
        feeds.update({name: results[f"{name}.next"] for name in feeds if f"{name}.next" in results})
    assert np.abs(results[outputs[0]] - found).max() < 1e-3

    onnx.save(unroll_loop(spiking.proto), tmp_path / "loop.onnx")
    loop = onnxruntime.InferenceSession(tmp_path / "loop.onnx")
    whole = {"input": images, "timesteps": np.array(16, np.int64)}
    assert np.abs(loop.run(None, whole)[0] - found).max() < 1e-3
    result = onnx2snn.evaluate(network, PICTURES, timesteps=[16], against=tmp_path / "net.onnx")
    assert result["steps"][0]["agreement"] >= 95
