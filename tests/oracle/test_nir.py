"""The NIR export, read back and run by sinabs; what NIR cannot carry is named."""

import graphlib
import subprocess
import sys

import networks
import numpy as np
import onnx
import pytest

from onnx2snn import convert
from onnx2snn.export.nir import nir_bytes, to_nir, without_groups
from onnx2snn_runtime.errors import UnsupportedError

nir = pytest.importorskip("nir", reason="needs the extra 'nir'")
IMAGES = networks.images(5, seed=9)


def strided():
    """Convolutions with stride, groups and average pooling; a fully connected layer at the end."""
    b = networks.Builder(5)
    x = b.add("Relu", [b.conv("input", 3, 6, strides=[2, 2])])
    x = b.add("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2])
    weight, bias = b.weight(6, 3, 1, 1), b.weight(6)
    x = b.add("Relu", [b.add("Conv", [x, weight, bias], group=2, kernel_shape=[1, 1])])
    x = b.add("Flatten", [x])
    x = b.add("Relu", [b.add("Gemm", [x, b.weight(10, 24), b.weight(10)], transB=1)])
    logits = b.add("Gemm", [x, b.weight(10, 4), b.weight(4)])
    return b.model(b.add("Softmax", [logits]), [4])


def residual():
    return networks.small_cnn(seed=3, pool=False)


SOURCES = {"residual": residual, "strided": strided}


def converted(source, **options):
    return convert(source, calibration=networks.images(64, seed=4), recipe="if", **options)


def read_back(model, folder, **options):
    graph, losses = to_nir(model, **options)
    (folder / "net.nir").write_bytes(nir_bytes(graph))
    return nir.read(folder / "net.nir"), losses


def run_by_sinabs(graph, images, steps):
    """Output of every step [T,N,*] of the graph as sinabs builds it.

    sinabs reads an IF of NIR as a neuron that may send several spikes a step and whose charge ends
    at -threshold; here it is set to what an IF is. nirtorch runs the nodes breadth first, which is
    wrong behind branches of unequal length; here they run in the order of the graph.
    """
    torch = pytest.importorskip("torch", reason="needs torch")
    pytest.importorskip("sinabs", reason="needs sinabs")
    import sinabs.nir

    with torch.no_grad():
        network = sinabs.nir.from_nir(graph, batch_size=len(images))
        for module in network.modules():
            if isinstance(module, sinabs.layers.IAFSqueeze):
                module.spike_fn, module.min_v_mem = sinabs.activation.SingleSpike, None
        before = {name: [a for a, b in graph.edges if b == name] for name in graph.nodes}
        order = list(graphlib.TopologicalSorter(before).static_order())
        network.execution_order.sort(key=lambda node: order.index(node.name))
        shown = torch.tensor(np.repeat(images[:, np.newaxis], steps, axis=1)).flatten(0, 1)
        found = network(shown)
        found = found[0] if isinstance(found, tuple) else found
        return found.reshape(len(images), steps, -1).swapaxes(0, 1).numpy()


@pytest.mark.filterwarnings("ignore")  # of sinabs and torch
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("name", SOURCES)
def test_sinabs_gives_the_answer_of_the_runtime(name, per_channel, tmp_path):
    snn = converted(SOURCES[name](), per_channel=per_channel)
    graph, losses = read_back(snn.proto, tmp_path)
    found = run_by_sinabs(graph, IMAGES, 12).mean(axis=0)
    if losses:
        assert losses == ["Softmax at the end is left out: apply it to the mean"]
        found = np.exp(found) / np.exp(found).sum(axis=1, keepdims=True)
    expected = snn.network().run(IMAGES, 12).logits
    # a rounding may move a spike from one step to the next
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.05 * np.abs(expected).max())


def test_what_is_lost_is_refused_neuron_by_neuron():
    snn = convert(residual(), calibration=networks.images(16), recipe="fast")
    with pytest.raises(UnsupportedError) as caught:
        to_nir(snn.proto)
    text = str(caught.value)
    spiking = [layer for layer in snn.layers if layer.role == "neuron"]
    for words in ("burst limit 15", "taking back spikes", "initial charge 0.5", "--recipe if"):
        assert text.count(words) >= len(spiking), words


def test_a_loss_is_accepted_and_written_down(tmp_path):
    snn = convert(residual(), calibration=networks.images(16), recipe="paper")
    graph, losses = read_back(snn.proto, tmp_path, lossy=True)
    assert losses and all("burst limit 5" in loss for loss in losses)
    assert "burst limit 5" in str(graph.metadata["onnx2snn"])


@pytest.mark.parametrize(
    ("source", "recipe", "words"),
    [(networks.small_cnn, "if", "LIPool"), (residual, "refine", "Refine")],
)
def test_what_nir_has_no_form_for(source, recipe, words):
    snn = convert(source(), calibration=networks.images(16), recipe=recipe)
    with pytest.raises(UnsupportedError, match=words):
        to_nir(snn.proto, lossy=True)


def signals():
    """A network for signals: convolutions along one axis, with stride, dilation and groups."""
    b = networks.Builder(6)
    x = "input"
    for sizes, attributes in (
        ((6, 3, 5), {"strides": [2], "pads": [2, 2]}),
        ((4, 3, 3), {"group": 2, "dilations": [2]}),
    ):
        x = b.add("Conv", [x, b.weight(*sizes), b.weight(sizes[0])], **attributes)
        x = b.add("Relu", [x])
    x = b.add("Gemm", [b.add("Flatten", [x]), b.weight(3, 4 * 12), b.weight(3)], transB=1)
    b.shape = (3, 32)
    return b.model(x, [3])


def test_signals_along_one_axis(tmp_path):
    """Numbers of one axis, groups written out, thresholds in the weights behind them."""
    images = networks.images(64, seed=4, shape=(3, 32))
    snn = convert(signals(), calibration=images, recipe="if")
    graph, losses = read_back(snn.proto, tmp_path)
    assert not losses
    found = [node for node in graph.nodes.values() if isinstance(node, nir.Conv1d)]
    assert [(node.stride, node.padding, node.dilation) for node in found] == [(2, 2, 1), (1, 0, 2)]
    assert [tuple(node.weight.shape) for node in found] == [(6, 3, 5), (4, 6, 3)]
    assert [node.input_shape for node in found] == [32, 16]
    first, second = found
    assert second.output_type["output"].tolist() == [4, 12]
    source = {item.name: onnx.numpy_helper.to_array(item) for item in snn.ann.graph.initializer}
    weights = [array for array in source.values() if array.ndim == 3]
    assert np.allclose(first.weight, weights[0])
    threshold = snn.layers[0].threshold[0]
    assert np.allclose(second.weight, without_groups(weights[1], 2) * threshold, rtol=1e-5)


def test_groups_are_written_out():
    onnxruntime = pytest.importorskip("onnxruntime", reason="the oracle is onnxruntime")
    generator = np.random.default_rng(0)
    weight = generator.normal(size=(6, 2, 3, 3)).astype(np.float32)
    image = generator.normal(size=(1, 4, 5, 5)).astype(np.float32)

    def run(array, group):
        make, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
        node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], group=group)
        graph = onnx.helper.make_graph([node], "g", [make("x", kind, [1, 4, 5, 5])],
                                       [make("y", kind, None)],
                                       [onnx.numpy_helper.from_array(array, "w")])  # fmt: skip
        opsets = [onnx.helper.make_opsetid("", 18)]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        return session.run(None, {"x": image})[0]

    dense = without_groups(weight, 2)
    np.testing.assert_allclose(run(dense, 1), run(weight, 2), rtol=1e-5, atol=1e-6)


def test_command_line(tmp_path):
    converted(residual()).save(tmp_path / "net.snn.onnx")

    def call(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "onnx2snn", "export", *map(str, arguments)],
            capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
        )  # fmt: skip

    done = call("net.snn.onnx", "--nir", "out.nir")
    assert done.returncode == 0, done.stderr
    assert "input" in nir.read(tmp_path / "out.nir").nodes
    convert(networks.small_cnn(), calibration=IMAGES).save(tmp_path / "pool.snn.onnx")
    done = call("pool.snn.onnx", "--nir", "pool.nir")
    assert done.returncode == 4 and not (tmp_path / "pool.nir").exists()
    assert "LIPool" in done.stderr and "burst limit" in done.stderr
    assert call("net.snn.onnx").returncode == 2
