"""Lateral-inhibition pooling sums to the max pooling of the sums, for every geometry."""

import itertools

import networks
import numpy as np
import onnx
from hypothesis import assume, given
from hypothesis import strategies as st
from passes import helpers

from onnx2snn.passes.padding import ExplicitPadding
from onnx2snn_runtime.backends import open_backend
from onnx2snn_runtime.errors import BackendError
from onnx2snn_runtime.neurons import FAMILIES, Chunk, Signature


@st.composite
def geometries(draw):
    rank = draw(st.integers(1, 3))
    kernel = draw(st.lists(st.integers(1, 5 if rank < 3 else 3), min_size=rank, max_size=rank))
    numbers = {
        "strides": st.integers(1, 4),
        "dilations": st.integers(1, 3),
    }
    attributes = {"kernel_shape": kernel, "ceil_mode": draw(st.integers(0, 1))}
    for name, values in numbers.items():
        attributes[name] = draw(st.lists(values, min_size=rank, max_size=rank))
    attributes["pads"] = [draw(st.integers(0, kernel[i % rank] - 1)) for i in range(2 * rank)]
    least = [1 + d * (k - 1) for d, k in zip(attributes["dilations"], kernel, strict=True)]
    size = [draw(st.integers(max(low, 4), max(low, 4) + 5)) for low in least]
    return size, attributes


def max_pool(x, kernel_shape, strides, dilations, pads, ceil_mode):
    """The definition: the largest real element of every window, [N,C,*] to [N,C,*]."""
    rank, sizes = len(kernel_shape), x.shape[2:]
    counts = []
    for i in range(rank):
        reach = dilations[i] * (kernel_shape[i] - 1) + 1
        room = sizes[i] + pads[i] + pads[rank + i] - reach
        count = (-(-room // strides[i]) if ceil_mode else room // strides[i]) + 1
        if ceil_mode and (count - 1) * strides[i] >= sizes[i] + pads[i]:
            count -= 1  # a window that starts behind the image is left out
        counts.append(count)
    result = np.full((*x.shape[:2], *counts), -np.inf, np.float32)
    for place in itertools.product(*map(range, counts)):
        for offset in itertools.product(*map(range, kernel_shape)):
            at = [
                p * strides[i] - pads[i] + o * dilations[i]
                for i, (p, o) in enumerate(zip(place, offset, strict=True))
            ]
            if all(0 <= a < size for a, size in zip(at, sizes, strict=True)):
                where = (slice(None), slice(None), *place)
                result[where] = np.maximum(result[where], x[(slice(None), slice(None), *at)])
    return result


@given(geometries(), st.integers(0, 999))
def test_outputs_sum_to_the_pooling_of_the_sums(geometry, seed):
    size, attributes = geometry
    x = np.random.default_rng(seed).normal(0, 1, (5, 2, 2, *size)).astype(np.float32)
    expected = max_pool(x.sum(axis=0, dtype=np.float64), **attributes)
    assume(np.all(np.isfinite(expected)))  # every window holds a real element
    assert_sums(x, attributes, expected)


@given(geometries(), st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
def test_sums_are_those_of_onnxruntime(geometry, mode):
    """Through the pass that makes auto_pad explicit.

    onnx's reference evaluator is no oracle here: with asymmetric pads and with auto_pad its output
    has other sizes than the standard says.
    """
    size, attributes = geometry
    if mode != "NOTSET":
        del attributes["pads"]
        attributes |= {"auto_pad": mode, "ceil_mode": 0, "dilations": [1] * len(size)}
    shape = ",".join(map(str, size))
    source = helpers.model(f"agraph (float[N,2,{shape}] x) => (float[N,2,d] y) {{y = MaxPool(x)}}")
    source.graph.output[0].type.tensor_type.ClearField("shape")
    node = source.graph.node[0]
    node.attribute.extend(onnx.helper.make_attribute(*item) for item in attributes.items())
    x = np.random.default_rng(0).normal(0, 1, (5, 2, 2, *size)).astype(np.float32)
    try:
        expected = helpers.run(source)({"x": x.sum(axis=0)})["y"]
    except BackendError:
        assume(False)  # onnxruntime does not have this geometry
    assume(np.all(np.isfinite(expected)))
    proto, _ = helpers.apply(ExplicitPadding, onnx.shape_inference.infer_shapes(source))
    explicit = {a.name: onnx.helper.get_attribute_value(a) for a in proto.graph.node[0].attribute}
    assert "auto_pad" not in explicit
    assert_sums(x, explicit, expected)


def assert_sums(x, attributes, expected):
    """What a pooling layer sends over all steps adds up to ``expected``."""
    backend, _ = open_backend("numpy")
    operator = FAMILIES["LIPool"](Signature("MaxPool"), attributes)
    runner = backend.compile(operator.base_model(18))

    def evaluate(arrays):
        (result,) = runner({"x": arrays[0].reshape(-1, *arrays[0].shape[2:])}).values()
        return result.reshape(*arrays[0].shape[:2], *result.shape[1:])

    states = [np.zeros(x.shape[1:], np.float32), np.zeros(expected.shape, np.float32)]
    sent = backend.scan(operator, Chunk([x], None, states, 1, evaluate))
    assert sent.shape[1:] == expected.shape
    assert np.allclose(sent.sum(axis=0), expected, atol=1e-5)


def test_pooling_layer_of_a_network_is_lateral_inhibition():
    import onnx2snn

    model = onnx2snn.convert(networks.small_cnn(), calibration=networks.images(16))
    kinds = [node.op_type for node in model.proto.graph.node if node.domain]
    assert "LIPool" in kinds
    assert "Tick" in kinds
    assert "Readout" in kinds
