"""``compare`` against a loop of plain onnxruntime with NumPy's own statistics."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import networks
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx2snn import compare, convert
from onnx2snn_runtime.errors import UsageError

onnxruntime = pytest.importorskip("onnxruntime", reason="the oracle is onnxruntime")
STEPS = 6
IMAGES = networks.images(10, seed=5)
NASTY = "<script>alert('$x^2$')</script>&\"'"


@pytest.fixture(scope="module")
def ann():
    return networks.small_cnn(seed=3)


@pytest.fixture(scope="module")
def snn(ann):
    return convert(ann, calibration=networks.images(64, seed=4), recipe="fast")


def run_ann(model, tensors, images):
    """Every tensor of the source model, by plain onnxruntime."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    have = {output.name for output in shown.graph.output}
    shown.graph.output.extend(onnx.ValueInfoProto(name=t) for t in tensors if t not in have)
    session = onnxruntime.InferenceSession(shown.SerializeToString())
    return dict(zip(tensors, session.run(tensors, {"input": images}), strict=True))


def run_snn(model, steps, images):
    """Outputs of every node of our domain per step, name to [T,N,*]: the ten-line protocol."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    nodes = {n.name: n.output[0] for n in shown.graph.node if n.domain and len(n.input) > 1}
    have = {output.name for output in shown.graph.output}
    shown.graph.output.extend(onnx.ValueInfoProto(name=t) for t in nodes.values() if t not in have)
    session = onnxruntime.InferenceSession(shown.SerializeToString())
    kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}
    feeds = {
        i.name: np.zeros([len(images) if isinstance(d, str) else d for d in i.shape], kinds[i.type])
        for i in session.get_inputs()
    }
    feeds["input"] = images
    names = [output.name for output in session.get_outputs()]
    history = {name: [] for name in nodes}
    for _ in range(steps):
        values = dict(zip(names, session.run(names, feeds), strict=True))
        feeds.update({n.removesuffix(".next"): v for n, v in values.items() if n.endswith(".next")})
        for name, tensor in nodes.items():
            history[name].append(values[tensor])
    return {name: np.stack(parts) for name, parts in history.items()}


def thresholds(model):
    """Threshold of every spiking node."""
    arrays = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    return {
        node.name: next(arrays[name] for name in node.input if name in arrays)
        for node in model.graph.node
        if node.op_type.startswith("BurstIF")
    }


def test_figures_are_those_of_a_plain_loop(ann, snn):
    found = compare(ann, snn.network(), IMAGES, timesteps=STEPS)
    assert found["samples"] == len(IMAGES)
    expected = run_ann(ann, [layer["tensor"] for layer in found["layers"]], IMAGES)
    history, theta = run_snn(snn.proto, STEPS, IMAGES), thresholds(snn.proto)
    assert [layer["role"] for layer in found["layers"]].count("pool") == 1
    for layer in found["layers"]:
        x, sent = expected[layer["tensor"]], history[layer["name"]]
        mean = sent.mean(axis=0, dtype=np.float64)
        spread = np.linalg.norm(x - x.mean(dtype=np.float64))
        assert layer["error"] == pytest.approx(np.linalg.norm(mean - x) / spread, rel=1e-4)
        early = sent[: STEPS // 2].mean(axis=0, dtype=np.float64)
        assert layer["early_error"] == pytest.approx(np.linalg.norm(early - x) / spread, rel=1e-4)
        r = np.corrcoef(x.reshape(-1), mean.reshape(-1))[0, 1]
        assert layer["correlation"] == pytest.approx(r, abs=1e-4)
        if layer["role"] != "neuron":
            assert layer["rate"] is None and layer["silent"] is None
            continue
        counts = np.abs(np.rint(sent / theta[layer["name"]]))
        assert layer["rate"] == pytest.approx(counts.mean(), rel=1e-3)
        assert layer["spikes_per_image"] == pytest.approx(counts.sum() / len(IMAGES), rel=1e-3)
        silent = (counts.sum(axis=(0, 1)) == 0).mean()
        assert layer["silent"] == pytest.approx(silent, abs=1e-9)


def test_refining_code_compares_the_estimate(ann):
    snn = convert(ann, calibration=networks.images(64, seed=4), recipe="refine")
    found = compare(ann, snn.network(), IMAGES, timesteps=12)
    history = run_snn(snn.proto, 12, IMAGES)
    for layer in found["layers"]:
        x = run_ann(ann, [layer["tensor"]], IMAGES)[layer["tensor"]]
        spread = np.linalg.norm(x - x.mean())
        last = np.linalg.norm(history[layer["name"]][-1] - x) / spread
        assert layer["error"] == pytest.approx(last, rel=1e-3, abs=1e-6)


def test_batches_do_not_change_the_figures(ann, snn):
    whole = compare(ann, snn.network(), IMAGES, timesteps=STEPS)
    parts = compare(ann, snn.network(), IMAGES, timesteps=STEPS, batch_size=3)
    for a, b in zip(whole["layers"], parts["layers"], strict=True):
        assert a["error"] == pytest.approx(b["error"], rel=1e-5)
        assert a["silent"] == b["silent"]


def lowered(model, name, factor):
    """The SNN with one threshold multiplied."""
    broken = onnx.ModelProto()
    broken.CopyFrom(model)
    (node,) = [n for n in broken.graph.node if n.name == name]
    (item,) = [i for i in broken.graph.initializer if i.name in node.input]
    item.CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(item) * np.float32(factor), item.name)
    )
    return broken


@pytest.mark.parametrize("position", [0, 2])
def test_a_saturated_layer_is_named_with_its_cause(ann, snn, position, tmp_path):
    names = [n.name for n in snn.proto.graph.node if n.op_type == "BurstIF"]
    onnx.save(lowered(snn.proto, names[position], 0.05), tmp_path / "low.snn.onnx")
    found = compare(ann, tmp_path / "low.snn.onnx", IMAGES, timesteps=16)
    assert found["first_departing"] == names[position]
    assert "saturates" in found["cause"]


def test_another_network_is_refused(snn):
    with pytest.raises(UsageError, match="another network"):
        compare(networks.small_cnn(seed=3, depth=3), snn.network(), IMAGES)


def call(*arguments):
    """A command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "onnx2snn", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_command_line_with_hostile_names(ann, tmp_path):
    pytest.importorskip("matplotlib", reason="the picture needs the extra 'report'")
    nasty = onnx.ModelProto()
    nasty.CopyFrom(ann)
    for index, node in enumerate(nasty.graph.node):
        node.name = f"{index}{NASTY}"
    onnx.save(nasty, tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", images=networks.images(16))
    files = tmp_path / "net.onnx", tmp_path / "net.snn.onnx", tmp_path / "data.npz"
    assert call(files[0], "--calibration", files[2]).returncode == 0
    plot = tmp_path / "out.svg"
    done = call("compare", *files, "--worst-first", "--top", 2, "--plot", plot)
    assert done.returncode == 0, done.stderr
    assert "ANN against SNN: 16 images" in done.stdout
    root = ElementTree.fromstring(plot.read_text())
    assert not [e for e in root.iter() if e.tag.endswith("script")]
    done = call("compare", *files, "--json", "--limit", 4, "-T", 3)
    document = json.loads(done.stdout)
    assert document["samples"] == 4 and document["timesteps"] == 3
    assert any(NASTY in layer["name"] for layer in document["layers"])


def test_where_no_spike_is_sent_nothing_is_not_a_number():
    """A layer that is constant has no correlation, and the document stays valid JSON."""
    ann = networks.small_cnn(seed=3)
    for item in ann.graph.initializer:
        if item.name == "weight_1":  # the first bias: everything below zero
            array = numpy_helper.to_array(item)
            item.CopyFrom(numpy_helper.from_array(np.full_like(array, -1e3), item.name))
    snn = convert(ann, calibration=networks.images(8), allow_analog=True)
    found = compare(ann, snn.network(), IMAGES, timesteps=2)
    first = found["layers"][0]
    assert first["correlation"] is None and first["silent"] == 1.0 and first["error"] == 0.0
    json.dumps(found, allow_nan=False)
