"""Weights beside the graph: large models, here with a limit that makes small ones large."""

import gc
import json
import os

import networks
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx2snn
import onnx2snn_runtime
from onnx2snn.cli import main
from onnx2snn_runtime.backends import large_models, open_backend
from onnx2snn_runtime.errors import ModelError
from onnx2snn_runtime.files import beside, models

IMAGES = networks.images(24, shape=(3, 8, 8))
LARGE, KEPT = 40_000, 4_000


def wide(norm=False, dtype=np.float32, opset=18):
    """A convolution and two matrices, which BatchNormalization may follow."""
    b = networks.Builder()
    x = b.add("Relu", [b.conv("input", 3, 8)])
    x = b.add("Flatten", [b.add("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])])
    x = b.add("Gemm", [x, b.weight(96, 128)], transB=1)
    if norm:
        scale, shift, mean = (b.weight(96, scale=0.2) for _ in range(3))
        x = b.add("BatchNormalization", [x, scale, shift, mean, b.ones(96)])
    x = b.add("Relu", [b.add("Gemm", [b.add("Relu", [x]), b.weight(64, 96)], transB=1)])
    b.add("Gemm", [x, b.weight(4, 64)], transB=1)
    b.nodes[-1].output[0] = "logits"
    model = b.model("logits", [4], opset=opset)
    for tensor in model.graph.initializer if dtype != np.float32 else ():
        array = numpy_helper.to_array(tensor).astype(dtype)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return model


def write(model, path):
    """With external data."""
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data",
              size_threshold=0)  # fmt: skip
    return path


@pytest.fixture
def is_large(monkeypatch):
    """Models from a few kilobytes on are large."""
    monkeypatch.setattr(beside, "LARGE_MODEL", LARGE)
    monkeypatch.setattr(beside, "KEPT", KEPT)


def held(model):
    return [tensor.name for tensor in model.graph.initializer if beside.is_beside(tensor)]


def test_small_models_are_left_alone():
    model = networks.small_cnn()
    assert large_models.split_weights(model) == (model, {})


def test_weights_leave_the_message_and_the_model_computes_the_same(is_large):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model = wide()
    before = model.SerializeToString(deterministic=True)
    graph, arrays = large_models.split_weights(model)
    assert model.SerializeToString(deterministic=True) == before
    assert arrays
    moved = sum(array.nbytes for array in arrays.values())
    assert len(graph.SerializeToString()) < len(before) - moved + 100 * len(arrays)
    for item in model.graph.initializer:
        if item.name in arrays:
            assert np.array_equal(arrays[item.name], numpy_helper.to_array(item))
    options = onnxruntime.SessionOptions()
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in arrays.values()]
    options.add_external_initializers(list(arrays), values)
    given = onnxruntime.InferenceSession(graph.SerializeToString(), options)
    large_models.make_inputs(graph, arrays)
    fed = onnxruntime.InferenceSession(graph.SerializeToString())
    feeds = {"input": IMAGES[:3]}
    backend, _ = open_backend("numpy")
    (expected,) = backend.compile(model)(feeds).values()
    assert np.allclose(given.run(None, feeds)[0], expected, atol=1e-5)
    assert np.allclose(fed.run(None, {**feeds, **arrays})[0], expected, atol=1e-5)


def test_external_data_is_mapped_and_never_copied(is_large, tmp_path):
    path = write(wide(), tmp_path / "net.onnx")
    loaded = models.load_model(path)
    names = held(loaded)
    assert names
    assert loaded.ByteSize() < KEPT + 10_000
    again = models.load_model(path)
    for tensor, same in zip(loaded.graph.initializer, again.graph.initializer, strict=True):
        expected = next(t for t in wide().graph.initializer if t.name == tensor.name)
        np.testing.assert_array_equal(beside.array_of(tensor), numpy_helper.to_array(expected))
        if tensor.name in names:
            assert np.shares_memory(beside.array_of(tensor), beside.array_of(same))
    result = onnx2snn.convert(path, calibration=IMAGES)
    kept = {t.name: t for t in result.proto.graph.initializer}
    original = {t.name: t for t in loaded.graph.initializer}
    assert set(names) & set(held(result.proto)) == set(names)
    for name in names:
        ours, theirs = beside.array_of(kept[name]), beside.array_of(original[name])
        assert np.shares_memory(ours, theirs)


@pytest.mark.parametrize("backend", ["onnxruntime", "numpy"])
@pytest.mark.parametrize(
    "case", [{}, {"norm": True}, {"dtype": np.float16}, {"opset": 17, "norm": True}]
)
def test_the_file_is_the_same_byte_for_byte(case, backend, tmp_path, monkeypatch):
    """Whether weights were beside the message on the way or in it."""
    if backend == "onnxruntime":
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    path = write(wide(**case), tmp_path / "net.onnx")
    monkeypatch.setattr(models, "MAX_SINGLE_FILE_BYTES", LARGE)
    written = []
    for limit in (10**9, LARGE):
        monkeypatch.setattr(beside, "LARGE_MODEL", limit)
        monkeypatch.setattr(beside, "KEPT", KEPT)
        result = onnx2snn.convert(path, calibration=IMAGES, backend=backend)
        gc.collect()  # what was folded lives as long as the result
        assert bool(held(result.proto)) == (limit == LARGE)
        folder = tmp_path / str(limit)
        folder.mkdir()
        result.save(folder / "net.snn.onnx")
        contents = {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
        assert len(contents) == 2
        written.append(contents)
    assert list(written[0]) == list(written[1])
    metadata = [onnx.load_model_from_string(c["net.snn.onnx"]).metadata_props for c in written]
    ours, theirs = (json.loads(item[0].value) for item in metadata)
    rounded(ours), rounded(theirs)
    assert ours == theirs
    assert len({c[name] for c in written for name in c if name.endswith(".data")}) == 1


def rounded(document):
    """Figures of the check to six digits: another matrix kernel rounds otherwise."""
    for layer in document["layers"]:
        layer["error"] = float(f"{layer['error']:.3g}") if layer["error"] else layer["error"]


def test_commands_take_a_large_network(is_large, tmp_path, monkeypatch, capsys):
    """Converted, evaluated with workers and a journal, compared, unrolled; by onnxruntime alone."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    monkeypatch.setattr(models, "MAX_SINGLE_FILE_BYTES", LARGE)
    path, spiking = write(wide(norm=True), tmp_path / "net.onnx"), tmp_path / "net.snn.onnx"
    np.savez(tmp_path / "data.npz", images=IMAGES, labels=np.arange(24) % 4)
    data = str(tmp_path / "data.npz")
    assert main([str(path), "--calibration", data, "-q"]) == 0
    assert len(list(tmp_path.glob("net.snn.onnx.*.data"))) == 1
    network = onnx2snn_runtime.load(spiking)
    assert held(network.model)
    options = {"timesteps": [1, 4], "batch_size": 8, "against": path, "resume": spiking}
    found = onnx2snn.evaluate(spiking, data, **options, typical=True)
    (ann,) = onnxruntime.InferenceSession(path).run(None, {"input": IMAGES})
    right = ann.argmax(axis=1) == np.arange(24) % 4
    assert found["ann"]["accuracy"] == pytest.approx(100 * right.mean())
    assert found["steps"][-1]["agreement"] > 80
    assert onnx2snn.evaluate(spiking, data, **options, workers=2, typical=True) == found
    assert main(["compare", str(path), str(spiking), data, "--json"]) == 0
    assert main(["inspect", str(spiking), "--plan", "--json"]) == 0
    assert main(["export", str(spiking), "--unroll", "loop"]) == 0
    capsys.readouterr()
    loop = onnxruntime.InferenceSession(tmp_path / "net.loop.onnx")
    (logits,) = loop.run(None, {"input": IMAGES, "timesteps": np.array(4, np.int64)})
    ran = network.run(IMAGES, timesteps=4).logits
    np.testing.assert_allclose(ran, logits, rtol=1e-4, atol=1e-4)


def test_a_model_in_memory_may_be_large(is_large, tmp_path):
    """Weights go aside on the way, and back where the result is small enough for one file."""
    result = onnx2snn.convert(wide(norm=True), calibration=IMAGES)
    assert held(result.proto)
    result.save(tmp_path / "net.snn.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["net.snn.onnx"]
    logits = result.network("numpy").run(IMAGES, timesteps=4).logits
    loaded = onnx2snn_runtime.load(tmp_path / "net.snn.onnx", backend="numpy")
    np.testing.assert_allclose(loaded.run(IMAGES, timesteps=4).logits, logits, atol=1e-5)


def test_weights_stay_while_a_conversion_needs_them(is_large):
    """Whenever Python happens to collect what is no longer reachable."""
    result = onnx2snn.convert(wide(norm=True), calibration=IMAGES, progress=lambda *_: gc.collect())
    assert held(result.proto)


def test_arrays_go_with_those_who_hold_them(is_large):
    gc.collect()
    before = len(beside._memory)
    result = onnx2snn.convert(wide(norm=True), calibration=IMAGES)
    gc.collect()
    assert len(beside._memory) > before
    model = result.proto
    del result
    gc.collect()
    assert len(beside._memory) == before
    with pytest.raises(ModelError, match="not in memory"):
        [beside.array_of(tensor) for tensor in model.graph.initializer]


def tampered(path, change):
    model = onnx.load(path, load_external_data=False)
    largest = max(model.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    change({entry.key: entry for entry in largest.external_data}, path.parent)
    path.write_bytes(model.SerializeToString())


def link(make):
    def change(entries, folder):
        make(folder / "net.onnx.data", folder / "linked")
        entries["location"].value = "linked"

    return change


def outside(location):
    def change(entries, folder):
        (folder.parent / "secret").write_bytes(bytes(10**6))
        entries["location"].value = location.format(folder.parent)

    return change


CHANGES = {
    "symbolic link": link(lambda source, target: target.symlink_to(source)),
    "hard link": link(os.link),
    "outside": outside("../secret"),
    "absolute": outside("{}/secret"),
    "missing": lambda entries, folder: setattr(entries["location"], "value", "none"),
    "behind the end": lambda entries, folder: setattr(entries["offset"], "value", str(10**5)),
    "far behind the end": lambda entries, folder: setattr(entries["offset"], "value", str(10**30)),
    "before the start": lambda entries, folder: setattr(entries["offset"], "value", "-4"),
    "no number": lambda entries, folder: setattr(entries["offset"], "value", "x"),
    "short": lambda entries, folder: setattr(entries["length"], "value", "4"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_mapped_data_passes_the_same_gate(is_large, change, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    path = write(wide(), folder / "net.onnx")
    tampered(path, CHANGES[change])
    with pytest.raises(ModelError):
        models.load_model(path)


def test_values_that_are_not_finite_are_found_where_they_lie(is_large, tmp_path):
    model = wide()
    largest = max(model.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    array = numpy_helper.to_array(largest).copy()
    array[3, 4] = np.nan
    largest.CopyFrom(numpy_helper.from_array(array, largest.name))
    with pytest.raises(ModelError, match="1 NaN"):
        models.load_model(write(model, tmp_path / "net.onnx"))


@pytest.mark.parametrize("place", ["file:1.2.3.4", "memory:0", "/etc/passwd", "beside"])
def test_a_model_cannot_name_a_place_by_itself(place):
    model = wide()
    beside.refer(model.graph.initializer[0], place, 0, 864)
    with pytest.raises(ModelError, match="another file"):
        onnx2snn.convert(model, calibration=IMAGES)


def test_a_place_is_no_longer_than_it_is():
    array = np.arange(6, dtype=np.float32)
    place, first = beside.put(array)
    assert beside.put(array[2:]) == (place, 8)
    tensor = TensorProto(name="x", data_type=TensorProto.FLOAT, dims=[4])
    beside.refer(tensor, place, first + 8, 16)
    np.testing.assert_array_equal(beside.array_of(tensor), array[2:])
    for start, length in ((12, 16), (-4, 16), (0, 12)):
        beside.refer(tensor, place, start, length)
        with pytest.raises(ModelError):
            beside.array_of(tensor)


def test_another_process_maps_the_same_file_or_none(tmp_path, monkeypatch):
    path = tmp_path / "weights"
    path.write_bytes(bytes(100))
    place, size = beside.map_file(path)
    assert (place, size) == (beside.map_file(path)[0], 100)
    known = {place: beside.mapped_files()[place]}
    monkeypatch.setattr(beside, "_files", {})
    beside.map_again(known)
    assert beside.mapped_files() == known
    monkeypatch.setattr(beside, "_files", {})
    tensor = TensorProto(name="x", data_type=TensorProto.FLOAT, dims=[4])
    beside.refer(tensor, place, 0, 16)
    path.write_bytes(bytes(101))
    beside.map_again(known)
    with pytest.raises(ModelError, match="not in memory"):
        beside.array_of(tensor)
    path.unlink()
    beside.map_again(known)
