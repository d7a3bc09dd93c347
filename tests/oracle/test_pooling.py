"""Lateral-inhibition pooling sums to the max pooling of the sums, for every geometry."""

import networks
import numpy as np
import onnx
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from onnx2snn_runtime.backends import open_backend
from onnx2snn_runtime.neurons import FAMILIES, Chunk, Signature


@st.composite
def geometries(draw):
    rank = draw(st.integers(1, 3))
    kernel = draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))
    numbers = {
        "strides": st.integers(1, 3),
        "dilations": st.integers(1, 2),
    }
    attributes = {"kernel_shape": kernel, "ceil_mode": draw(st.integers(0, 1))}
    for name, values in numbers.items():
        attributes[name] = draw(st.lists(values, min_size=rank, max_size=rank))
    attributes["pads"] = [draw(st.integers(0, kernel[i % rank] - 1)) for i in range(2 * rank)]
    size = draw(st.lists(st.integers(6, 8), min_size=rank, max_size=rank))
    return size, attributes


@given(geometries(), st.integers(0, 999))
def test_outputs_sum_to_the_pooling_of_the_sums(geometry, seed):
    size, attributes = geometry
    x = np.random.default_rng(seed).normal(0, 1, (5, 2, 2, *size)).astype(np.float32)
    node = onnx.helper.make_node("MaxPool", ["x"], ["y"], **attributes)
    make = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "pool",
        [make("x", onnx.TensorProto.FLOAT, [2, 2, *size])],
        [make("y", onnx.TensorProto.FLOAT, None)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    sums = x.astype(np.float32).sum(axis=0, dtype=np.float32)
    expected = ReferenceEvaluator(model).run(None, {"x": sums})[0]
    assume(np.all(np.isfinite(expected)))  # every window holds a real element
    backend, _ = open_backend("numpy")
    operator = FAMILIES["LIPool"](Signature("MaxPool"), attributes)
    runner = backend.compile(operator.base_model(18))

    def evaluate(arrays):
        (result,) = runner({"x": arrays[0].reshape(-1, *arrays[0].shape[2:])}).values()
        return result.reshape(*arrays[0].shape[:2], *result.shape[1:])

    states = [np.zeros(x.shape[1:], np.float32), np.zeros(expected.shape, np.float32)]
    sent = backend.scan(operator, Chunk([x], None, states, 1, evaluate))
    if expected.shape == sent.shape[1:]:
        assert np.allclose(sent.sum(axis=0), expected, atol=1e-5)
    else:  # the oracle counts windows of ceil_mode otherwise than the specification
        assume(False)


def test_pooling_layer_of_a_network_is_lateral_inhibition():
    import onnx2snn

    model = onnx2snn.convert(networks.small_cnn(), calibration=networks.images(16))
    kinds = [node.op_type for node in model.proto.graph.node if node.domain]
    assert "LIPool" in kinds
    assert "Tick" in kinds
    assert "Readout" in kinds
