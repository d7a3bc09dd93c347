"""Lateral-inhibition pooling sums to the max pooling of the sums, for every geometry."""

import itertools

import networks
import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

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
