"""Where onnxruntime runs what: whole networks on CUDA where it is offered, segments on the CPU."""

import pytest
from onnx import TensorProto, helper

from onnx2snn_runtime.backends import onnxruntime_backend, open_backend
from onnx2snn_runtime.errors import BackendError

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def relu():
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [result])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(
    ("offered", "loads", "expected"),
    [(True, True, "CUDA"), (True, False, "CPU"), (False, True, "CPU")],
)
def test_providers(monkeypatch, offered, loads, expected):
    asked = []
    monkeypatch.setattr(onnxruntime_backend, "_cuda_loads", lambda: loads)

    def session(content, options, providers):
        asked.append([item if isinstance(item, str) else item[0] for item in providers])
        raise RuntimeError("nothing is run here")

    names = ["CUDAExecutionProvider"] * offered + ["CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    backend, _ = open_backend("onnxruntime")
    for threads in (None, 1):
        with pytest.raises(BackendError, match="nothing is run here"):
            backend.compile(relu(), threads=threads)
    alone, segment = asked
    assert alone[0] == f"{expected}ExecutionProvider" and alone[-1] == "CPUExecutionProvider"
    assert segment == ["CPUExecutionProvider"]
