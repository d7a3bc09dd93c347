"""Files given by mistake or by malice, and writing that never leaves half a file."""

import contextlib
import errno
import io
import json
import os
import pickle
import resource
import signal
import stat
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from onnx2snn_runtime.errors import DataError, ModelError, Onnx2SnnError, StorageError, UsageError
from onnx2snn_runtime.files import models as files
from onnx2snn_runtime.files.disk import atomic_writer, keeping_files, shown
from onnx2snn_runtime.files.model_checks import (
    NEWEST_IR_VERSION,
    NEWEST_OPSET,
    check_model,
    check_with_onnx,
)
from onnx2snn_runtime.files.models import (
    check_writable,
    load_arrays,
    load_model,
    parse_model,
    save_model,
    write_bytes_atomic,
    write_text_atomic,
)
from onnx2snn_runtime.files.wiring import is_sorted

pytest.importorskip("attacks", reason="the folder attacks/ is not beside tests/")
from attacks import ATTACKS, external
from attacks.archives import DAMAGED, Canary, bomb, header
from attacks.base import network, npz, put


def small_model(weight: np.ndarray | None = None) -> onnx.ModelProto:
    """Conv and ReLU with one stored weight."""
    weight = np.ones((2, 1, 3, 3), np.float32) if weight is None else weight
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
            helper.make_node("Relu", ["c"], ["y"], name="relu"),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2, 6, 6])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def write(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def no_blocking() -> Iterator[None]:
    """Fail instead of waiting for ever."""

    def stop(signum: int, frame: object) -> None:
        raise TimeoutError("blocked")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(5)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


HOSTILE_MODELS = [
    name for name in ATTACKS if name.startswith(("no model:", "broken:", "external:"))
]
# What the error has to say beyond the words of the attack.
DETAILS = {
    "broken: IR version 99": [str(NEWEST_IR_VERSION)],
    "broken: opset 99": [str(NEWEST_OPSET), "upgrade"],
    "broken: two opsets": ["9, 18"],
    "broken: NaN weight": ["'conv1.w'", "2 NaN and 0 infinite of 27"],
    "broken: infinite weight": ["'conv1.w'", "0 NaN and 2 infinite of 27"],
    "broken: variance zero": ["'bn'", "variance + epsilon (0)", "3 of 3 channels"],
    "broken: raw data too short": ["'conv1.w'", "need 144 bytes"],
    "broken: unknown element type": ["type 77"],
    "broken: duplicate initializer": ["'conv1.w'"],
    "broken: duplicate output": ["'b'"],
    "broken: not UTF-8": ["not valid UTF-8", "node[0].name"],
    "broken: undefined tensor": ["undefined tensor", "node 'relu1' (Relu)"],
    "broken: two undefined tensors": ["'ghost'", "'spook'", "node 'a' (Relu)"],
    "broken: undefined tensor in a subgraph": ["'ghost'"],
    "broken: undefined output": ["nothing computes"],
    "external: place not UTF-8": ["not valid UTF-8"],
}


@pytest.mark.usefixtures("no_blocking")
@pytest.mark.parametrize("name", HOSTILE_MODELS)
def test_hostile_models_are_explained(tmp_path: Path, name: str) -> None:
    path = ATTACKS[name].build(tmp_path)[1]
    with pytest.raises(ModelError) as caught:
        load_model(path)
    text = str(caught.value)
    assert ATTACKS[name].words in text
    assert path.name in text or not name.startswith("no model:")
    for phrase in DETAILS.get(name, ()):
        assert phrase in text


def test_missing_file_and_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path / "resnet20.onnx", small_model())
    with pytest.raises(ModelError, match=r"did you mean resnet20\.onnx"):
        load_model(tmp_path / "resnet2O.onnx")
    with pytest.raises(ModelError, match="cannot open"):
        load_model(tmp_path / "resnet20.onnx" / "below.onnx")
    with pytest.raises(ModelError, match="not a valid file name"):
        load_model("a\0b.onnx")


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"\x08\x01")
    with pytest.raises(ModelError, match="--saved-model"):
        load_model(tmp_path / "saved")
    write(tmp_path / "m.onnx", small_model())
    with pytest.raises(ModelError, match=r"is a folder.*\n.*m\.onnx"):
        load_model(tmp_path)


@pytest.mark.usefixtures("no_blocking")
def test_pipes_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ModelError, match="named pipe"):
        load_model(tmp_path / "pipe.onnx")
    with pytest.raises(DataError, match="named pipe"):
        load_arrays(tmp_path / "pipe.onnx")
    for device in ("/dev/null", "/dev/zero"):
        with pytest.raises(ModelError, match="device"):
            load_model(device)


def test_size_limit(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", small_model())
    with pytest.raises(ModelError, match="the limit is 10"):
        load_model(path, max_bytes=10)


def test_unreadable_disk_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "m.onnx", small_model())

    def refuse(*args: object, **named: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError, match="Permission denied"):
        load_model(path)


def with_weight(dtype: type, value: float) -> onnx.ModelProto:
    weight = np.ones((2, 1, 3, 3), dtype)
    weight[0, 0, 1, :2] = value
    return small_model(weight)


def with_nodes(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    model = small_model()
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


node = helper.make_node


def test_all_bad_tensors_are_listed(tmp_path: Path) -> None:
    model = small_model(np.full((2, 1, 3, 3), np.nan, np.float32))
    model.graph.initializer.append(numpy_helper.from_array(np.float64([np.inf, 1]), "other"))
    model.graph.node.append(
        node("Constant", [], ["k"], "konst", value=numpy_helper.from_array(np.float32([np.nan])))
    )
    with pytest.raises(ModelError) as caught:
        load_model(write(tmp_path / "m.onnx", model))
    assert [finding.tensor for finding in caught.value.findings] == ["w", "other", "k"]


def test_infinity_as_a_bound_is_no_fault() -> None:
    model = with_nodes(
        node("Constant", [], ["low"], value=numpy_helper.from_array(np.float32(-np.inf))),
        node("Clip", ["x", "low", "high"], ["y"]),
    )
    model.graph.initializer.append(numpy_helper.from_array(np.float32(np.inf), "high"))
    check_model(model)


def test_unsorted_nodes_are_accepted_as_they_are(tmp_path: Path) -> None:
    model = with_nodes(node("Relu", ["c"], ["y"]), node("Conv", ["x", "w"], ["c"]))
    loaded = load_model(write(tmp_path / "m.onnx", model))
    assert loaded == model
    assert not is_sorted(loaded)
    assert is_sorted(small_model())


def test_long_chains_need_no_recursion() -> None:
    names = [f"t{i}" for i in range(20_000)]
    nodes = [node("Relu", [a], [b]) for a, b in zip(["x", *names], [*names, "y"], strict=True)]
    check_model(with_nodes(*reversed(nodes)))


def test_hostile_names_stay_harmless(tmp_path: Path) -> None:
    model = with_nodes(node("Relu", ["\x1b[31mghost\n" + "x" * 100_000], ["y"], "<script>"))
    with pytest.raises(ModelError) as caught:
        load_model(write(tmp_path / "m.onnx", model))
    text = str(caught.value)
    assert "\x1b" not in text
    assert len(text) < 2000
    assert "<script>" in text
    assert shown("Größe/層") == "Größe/層"


def test_onnx_checker_speaks_our_errors() -> None:
    check_with_onnx(small_model())
    model = with_nodes(node("Conv", ["x"], ["y"], "conv"))
    with pytest.raises(ModelError, match="onnx does not accept"):
        check_with_onnx(model)
    clash = small_model()
    clash.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7
    with pytest.raises(ModelError, match="onnx does not accept"):
        check_with_onnx(clash)


# External data


def test_external_data_is_read_and_counted(tmp_path: Path) -> None:
    path = external.write(tmp_path, external.model("w.bin"))[1]
    tensor = load_model(path).graph.initializer[0]
    assert tensor.raw_data == network().graph.initializer[0].raw_data
    assert tensor.data_location == onnx.TensorProto.DEFAULT
    with pytest.raises(ModelError, match="108 bytes of external data"):
        load_model(path, max_bytes=path.stat().st_size + 107)


# Fuzzing


@given(data=st.data())
def test_mutated_models_raise_only_our_errors(data: st.DataObject) -> None:
    content = bytearray(small_model().SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        model = parse_model(bytes(content))
        check_model(model)
        check_with_onnx(model)
    except ModelError:
        pass


@given(st.binary(max_size=64))
def test_junk_raises_only_our_errors(junk: bytes) -> None:
    with contextlib.suppress(ModelError):
        check_model(parse_model(junk))


# Writing


def test_save_is_deterministic_and_round_trips(tmp_path: Path) -> None:
    model = small_model()
    save_model(model, tmp_path / "a.onnx")
    save_model(model, tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert load_model(tmp_path / "a.onnx") == model
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.onnx"]


def test_a_missing_file_of_weights_is_named_once(tmp_path: Path) -> None:
    tensors = [onnx.numpy_helper.from_array(np.ones(64, np.float32), name) for name in "vw"]
    for tensor in tensors:
        onnx.external_data_helper.set_external_data(tensor, "net.onnx.data", 0, 256)
        tensor.ClearField("raw_data")
    node = onnx.helper.make_node("Add", ["v", "w"], ["y"])
    output = onnx.helper.make_tensor_value_info("y", 1, [64])
    graph = onnx.helper.make_graph([node], "net", [], [output], tensors)
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    with pytest.raises(ModelError, match="cannot be read") as raised:
        load_model(path)
    (finding,) = raised.value.findings
    assert finding.why == (
        "there is no net.onnx.data beside the model, which holds 2 of its tensors"
    )


def test_large_models_get_external_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_SINGLE_FILE_BYTES", 1000)
    monkeypatch.setattr(files, "_EXTERNAL_FROM_BYTES", 80)
    model = small_model(np.arange(18 * 20, dtype=np.float32).reshape(40, 1, 3, 3))
    model.graph.initializer.append(numpy_helper.from_array(np.float32([1, 2]), "tiny"))
    typed = model.graph.initializer.add(name="typed", data_type=TensorProto.FLOAT, dims=[30])
    typed.float_data.extend(range(30))
    before = model.SerializeToString()
    save_model(model, tmp_path / "a.onnx")
    save_model(model, tmp_path / "b.onnx")
    assert model.SerializeToString() == before
    (data,) = tmp_path.glob("a.onnx.*.data")
    assert data.stat().st_size == 1440 + 32 + 120  # the second tensor starts at a multiple of 64
    loaded = load_model(tmp_path / "a.onnx")
    for ours, theirs in zip(loaded.graph.initializer, model.graph.initializer, strict=True):
        assert ours.name == theirs.name
        np.testing.assert_array_equal(numpy_helper.to_array(ours), numpy_helper.to_array(theirs))
    assert loaded.graph.node == model.graph.node
    onnx.checker.check_model(str(tmp_path / "a.onnx"))
    save_model(loaded, tmp_path / "a.onnx")
    assert len(list(tmp_path.glob("a.onnx.*.data"))) == 1


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    write_text_atomic(path, "old")
    for failure in (KeyboardInterrupt, SystemExit, ValueError):
        with pytest.raises(failure), atomic_writer(path) as stream:
            stream.write(b"half")
            raise failure
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    write_bytes_atomic(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StorageError, match="unchanged"):
            write_bytes_atomic(path, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_failing_rename_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.bin"
    write_bytes_atomic(path, b"old")

    def fail(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(StorageError, match="No space left"):
        write_bytes_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_killed_writers_leave_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    script = (
        "import sys; from onnx2snn_runtime.files.disk import write_bytes_atomic as write\n"
        "write(sys.argv[1], b'a' * 3_000_000)\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    for letter in b'abc':\n"
        "        write(sys.argv[1], bytes([letter]) * 3_000_000)\n"
    )
    delays = np.random.default_rng(0).uniform(0.01, 0.1, 4)
    for delay in delays:
        with subprocess.Popen(
            [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(delay)
            child.kill()
        content = path.read_bytes()
        assert len(content) == 3_000_000
        assert len(set(content)) == 1


def test_permissions_follow_the_umask_or_the_old_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_bytes_atomic(tmp_path / "new", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    (tmp_path / "new").chmod(0o600)
    write_bytes_atomic(tmp_path / "new", b"y")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


def test_links_are_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_bytes_atomic(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_stale_temporaries_of_ours_are_swept(tmp_path: Path) -> None:
    names = [".out.onnx.abc.tmp", ".out.onnx.young.tmp", ".other.onnx.abc.tmp"]
    for name in names:
        (tmp_path / name).write_bytes(b"half")
    long_ago = time.time() - 2 * 24 * 3600
    for name in (names[0], names[2]):
        os.utime(tmp_path / name, (long_ago, long_ago))
    write_bytes_atomic(tmp_path / "out.onnx", b"x")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*names[1:], "out.onnx"])


def test_writable_is_known_before_the_work(tmp_path: Path) -> None:
    model = write(tmp_path / "m.onnx", small_model())
    check_writable(tmp_path / "out.onnx", [model])
    assert list(tmp_path.iterdir()) == [model]
    (tmp_path / "link.onnx").symlink_to(model)
    for same in (model, tmp_path / "link.onnx", tmp_path / "." / "m.onnx"):
        with pytest.raises(UsageError, match="same file as the input"):
            check_writable(same, [model])
    os.mkfifo(tmp_path / "pipe")
    for path, phrase in (
        (tmp_path / "gone" / "out.onnx", "mkdir -p"),
        (model / "out.onnx", "Not a directory"),
        (tmp_path, "it is a folder"),
        (tmp_path / "pipe", "named pipe"),
        (Path("/dev/null"), "device"),
    ):
        with pytest.raises(StorageError, match=phrase):
            check_writable(path)
        with pytest.raises(StorageError):
            write_bytes_atomic(path, b"x")


def test_files_are_kept_if_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"old")
    (tmp_path / "link").symlink_to(old)
    with keeping_files(True):
        for path in (old, tmp_path / "link"):
            with pytest.raises(StorageError, match="--no-clobber"):
                check_writable(path)
            with pytest.raises(StorageError, match="--no-clobber"):
                write_bytes_atomic(path, b"new")
        check_writable(new)
        with pytest.raises(UsageError, match="same file as the input"):  # says more
            check_writable(old, [old])
        with pytest.raises(StorageError, match="--no-clobber"), atomic_writer(new) as stream:
            stream.write(b"late")
            new.write_bytes(b"early")  # somebody else was faster
        assert new.read_bytes() == b"early"
        new.unlink()
        write_bytes_atomic(new, b"first")
        new.unlink()
        monkeypatch.setattr(os, "link", refuse_links)
        write_bytes_atomic(new, b"without links")
        with pytest.raises(StorageError, match="--no-clobber"):
            write_bytes_atomic(new, b"second")
    assert new.read_bytes() == b"without links"
    write_bytes_atomic(new, b"second")
    assert new.read_bytes() == b"second" and old.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "new", "old"]


def refuse_links(*args: object) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


def test_large_models_are_written_beside_data_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of the data follows from the data: it may be left over from a model that is gone."""
    monkeypatch.setattr(files, "MAX_SINGLE_FILE_BYTES", 1)
    monkeypatch.setattr(files, "_EXTERNAL_FROM_BYTES", 1)
    with keeping_files(True):
        save_model(small_model(), tmp_path / "a.onnx")
        with pytest.raises(StorageError, match="--no-clobber"):
            save_model(small_model(), tmp_path / "a.onnx")
        (tmp_path / "a.onnx").unlink()
        save_model(small_model(), tmp_path / "a.onnx")
    assert load_model(tmp_path / "a.onnx").graph.node == small_model().graph.node


def test_unwritable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **named: object) -> None:
        raise PermissionError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(StorageError, match="Read-only"):
        check_writable(tmp_path / "out.onnx")


# Arrays


GOOD = npz(images=np.random.default_rng(0).integers(0, 256, (9, 40), dtype=np.uint8))


@pytest.mark.parametrize(("content", "phrase"), DAMAGED.values(), ids=DAMAGED.keys())
def test_bad_arrays_are_explained(tmp_path: Path, content: bytes, phrase: str) -> None:
    path = put(tmp_path / "data.npz", content)
    with pytest.raises(DataError) as caught:
        load_arrays(path)
    assert phrase in str(caught.value)
    assert "allow_pickle" not in str(caught.value)


def test_python_objects_are_never_loaded(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    objects = np.array([Canary(canary)], dtype=object)
    np.savez(tmp_path / "a.npz", images=objects, labels=np.array([1]), more=objects)
    np.save(tmp_path / "a.npy", objects)
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Canary(canary)))
    (tmp_path / "b.onnx").write_bytes(pickle.dumps(Canary(canary)))
    for name in ("a.npz", "a.npy", "b.npz"):
        with pytest.raises(DataError) as caught:
            load_arrays(tmp_path / name)
        assert "allow_pickle" not in str(caught.value)
        if name == "a.npz":
            assert [finding.tensor for finding in caught.value.findings] == ["images", "more"]
            assert "Python objects" in str(caught.value)
    with pytest.raises(ModelError):
        load_model(tmp_path / "b.onnx")
    assert not canary.exists()


def test_compression_bombs_and_size_limits(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(bomb())
    assert path.stat().st_size < 300_000
    with pytest.raises(DataError, match="compression bomb"):
        load_arrays(path)
    path.write_bytes(GOOD)
    with pytest.raises(DataError, match="the limit is 400"):
        load_arrays(path, max_bytes=400)
    np.save(tmp_path / "a.npy", np.zeros(1000))
    with pytest.raises(DataError, match="the limit is 400"):
        load_arrays(tmp_path / "a.npy", max_bytes=400)


def test_a_member_cannot_exceed_what_it_stated(tmp_path: Path) -> None:
    content = header("(1000000,)") + bytes(1_000_000)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", content)
    lie = header("(1000,)")
    stated = struct.pack("<I", len(content))
    forged = stream.getvalue().replace(stated, struct.pack("<I", len(lie) + 1000))
    path = tmp_path / "data.npz"
    path.write_bytes(forged)
    with pytest.raises(DataError, match="damaged"):
        load_arrays(path)


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    arrays = {
        "images": generator.integers(0, 256, (5, 3, 4, 4), dtype=np.uint8),
        "fortran": np.asfortranarray(generator.random((4, 5, 6))),
        "foreign": generator.random(7).astype(">f4"),
        "scalar": np.float64(3.5),
        "names": np.array(["cat", "dög"]),
        "nothing": np.zeros((0, 3)),
    }
    np.savez(tmp_path / "a.npz", **arrays)
    np.savez_compressed(tmp_path / "b.npz", **arrays)
    for name in ("a.npz", "b.npz"):
        loaded = load_arrays(tmp_path / name)
        assert list(loaded) == list(arrays)
        for key, array in arrays.items():
            np.testing.assert_array_equal(loaded[key], array)
            assert loaded[key].dtype.isnative
    np.save(tmp_path / "c.npy", arrays["images"])
    np.testing.assert_array_equal(load_arrays(tmp_path / "c.npy")["x"], arrays["images"])


@given(data=st.data())
def test_mutated_archives_raise_only_our_errors(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "mutated.npz"
    path.write_bytes(content)
    try:
        load_arrays(path)
    except Onnx2SnnError as problem:
        assert isinstance(problem, DataError)


def test_shared_models_pass(shared: Path) -> None:
    paths = sorted((shared / "models").glob("*.onnx")) + sorted((shared / "exports").glob("*.onnx"))
    assert paths
    for path in paths:
        check_with_onnx(load_model(path), path.name)


def test_errors_are_json_ready(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(write(tmp_path / "m.onnx", with_weight(np.float32, np.nan)))
    (finding,) = caught.value.findings
    assert json.loads(json.dumps(finding.as_dict()))["tensor"] == "w"
