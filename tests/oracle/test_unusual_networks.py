"""Networks that few export: nothing spikes, whole numbers come in, the batch is fixed."""

import networks
import numpy as np
import onnx
import pytest
from passes import helpers

import onnx2snn
import onnx2snn_runtime
from onnx2snn.export.unroll import unroll_loop
from onnx2snn_runtime.errors import UnsupportedError, UsageError


def linear_net():
    """Nothing in it spikes."""
    b = networks.Builder(2)
    pooled = b.add("MaxPool", [b.conv("input", 3, 4)], kernel_shape=[2, 2], strides=[2, 2])
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [b.conv(pooled, 4, 5)])])
    return b.model(b.add("Gemm", [flat, b.weight(3, 5)], transB=1), [3])


def test_a_network_in_which_nothing_spikes_is_the_ann(tmp_path):
    images = networks.images(40)
    model = onnx2snn.convert(linear_net(), calibration=images, allow_analog=True)
    path = tmp_path / "net.snn.onnx"
    model.save(path)
    expected = helpers.run(linear_net())({"input": images})
    for backend in ("numpy", "onnxruntime"):
        result = onnx2snn_runtime.load(path, backend).run(images, timesteps=3)
        for name, array in expected.items():
            assert result.outputs[name] == pytest.approx(array, abs=1e-5)
    assert onnx2snn.evaluate(path, images, timesteps=2)["steps"][0]["agreement"] == 100.0
    with pytest.raises(UsageError, match="nothing spikes"):
        unroll_loop(model.proto)
    with pytest.raises(UsageError, match="nothing spikes"):
        onnx2snn.evaluate(path, images, typical=True)


def cast_net(kind, *, reads_integers=False):
    """A network whose input is of whole numbers, scaled behind a Cast."""
    b = networks.Builder(4)
    x = b.add("Cast", ["input"], to=1)
    b.weights.append(onnx.numpy_helper.from_array(np.float32(1 / 255), "scale"))
    x = b.add("Relu", [b.conv(b.add("Mul", [x, "scale"]), 3, 4)])
    if reads_integers:
        other = b.add("Cast", [b.add("Add", ["input", "input"])], to=1)
        x = b.add("Concat", [x, other], axis=1)
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [x])])
    channels = 7 if reads_integers else 4
    b.nodes.append(onnx.helper.make_node("Gemm", [flat, b.weight(3, channels)], ["y"], transB=1))
    values = [("input", kind, ["N", 3, 8, 8]), ("y", 1, ["N", 3])]
    inputs, outputs = ([onnx.helper.make_tensor_value_info(*value)] for value in values)
    graph = onnx.helper.make_graph(b.nodes, "net", inputs, outputs, b.weights)
    opsets = [onnx.helper.make_opsetid("", 18)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.int64])
def test_an_input_of_whole_numbers_takes_pictures_as_they_are(kind):
    source = cast_net(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind)))
    pictures = np.random.default_rng(0).integers(0, 256, (40, 3, 8, 8), np.uint8)
    expected = helpers.run(source)({"input": pictures.astype(kind)})["y"]
    model = onnx2snn.convert(source, calibration=pictures, recipe="refine")
    network = model.network()
    assert network.run(pictures, timesteps=16).logits == pytest.approx(expected, rel=1e-3, abs=1e-3)
    told = onnx2snn.evaluate(network, pictures, timesteps=16, against=source)
    assert told["steps"][0]["output_error"] < 1e-3
    assert any("cast to float32 at once" in str(note) for note in model.notes)


def test_an_input_of_whole_numbers_that_stay_so_is_refused_by_name():
    with pytest.raises(UnsupportedError, match=r"input input is of whole numbers \(int32\)"):
        onnx2snn.convert(cast_net(6, reads_integers=True))


@pytest.mark.parametrize("backend", ["numpy", "onnxruntime"])
@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("batch", [1, 4])
def test_evaluation_against_an_ann_with_a_fixed_batch(batch, opset, backend):
    source = networks.small_cnn()
    del source.opset_import[:]
    source.opset_import.add(version=opset)
    for value in (*source.graph.input, *source.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    images = networks.images(40)
    model = onnx2snn.convert(source, calibration=images, backend=backend)
    found = onnx2snn.evaluate(model, images, timesteps=8, against=source, backend=backend)
    assert found["steps"][0]["output_error"] < 0.05
