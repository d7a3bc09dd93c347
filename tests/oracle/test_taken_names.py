"""Tensors of a network may have any names, those that its parts would get among them."""

import networks
import numpy as np
import onnx
import pytest

import onnx2snn

PARTS = ("pooled", "input_pooled", "input_pooled.activated", "real", "rounded", "part.real", "part",
         "sum", "signal", "threshold", "spikes", "estimate", "relay")  # fmt: skip


def renamed(suffix):
    """A CNN with a pooling, in which a later tensor is called as a part of its first Relu."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N,3,8,8] input) => (float[N,4] output)
        {
            a = Conv<pads=[1,1,1,1]>(input, w)
            r = Relu(a)
            p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)
            other = Conv<pads=[1,1,1,1]>(p, v)
            s = Relu(other)
            m = GlobalAveragePool(s)
            output = Flatten(m)
        }""")
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [f"r.{suffix}" if name == "other" else name for name in names]
    random = np.random.default_rng(0)
    for name, shape in (("w", (4, 3, 3, 3)), ("v", (4, 4, 3, 3))):
        array = random.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


@pytest.mark.parametrize("recipe", ["fast", "refine"])
@pytest.mark.parametrize("suffix", PARTS)
def test_such_names_change_nothing(suffix, recipe):
    images = networks.images(48, seed=3)
    found = [
        onnx2snn.evaluate(
            onnx2snn.convert(renamed(name), calibration=images, recipe=recipe).network(),
            images, timesteps=[2, 4], typical=True,
        )
        for name in ("plain", suffix)
    ]  # fmt: skip
    for row, same in zip(found[0]["steps"], found[1]["steps"], strict=True):
        assert row == pytest.approx(same)
    assert found[0]["quantised_ann"] == found[1]["quantised_ann"]
    assert found[0]["typical"] == pytest.approx(found[1]["typical"])


@pytest.mark.parametrize("suffix", ["integer", "rounded", "steps", "step"])
def test_inputs_of_integer_networks(suffix):
    images = networks.images(48, seed=3)
    answers = []
    for name in ("plain", f"input.{suffix}"):
        model = renamed("other")
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = [name if x == "r.other" else x for x in names]
        spiking = onnx2snn.convert(model, calibration=images, precision="int8")
        answers.append(spiking.network().run(images, 3).logits)
    assert np.array_equal(*answers)
