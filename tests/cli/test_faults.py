"""Faults around a command: full disks, closed pipes, narrow locales, hostile names."""

import io
import os
import resource
import subprocess
import sys
import warnings
import zipfile

import networks
import numpy as np
import onnx
import pytest

from onnx2snn import convert
from onnx2snn.cli import main
from onnx2snn_runtime.errors import DataError, ModelError
from onnx2snn_runtime.files.limits import Limits, limited
from onnx2snn_runtime.files.models import load_arrays, load_model
from onnx2snn_runtime.run_command import archive


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("faults")
    onnx.save(networks.small_cnn(), path / "net.onnx")
    np.savez(path / "data.npz", images=networks.images(8), labels=np.arange(8) % 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        convert(path / "net.onnx", calibration=path / "data.npz").save(path / "net.snn.onnx")
    return path


def call(*arguments, **options):
    environment = {**os.environ, **options.pop("environment", {})}
    return subprocess.run(
        [sys.executable, "-m", "onnx2snn", *map(str, arguments)],
        capture_output=True, timeout=100, check=False, env=environment, **options,
    )  # fmt: skip


def small_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))


def test_a_full_disk_keeps_the_old_file(folder):
    output = folder / "old.snn.onnx"
    output.write_bytes(b"old")
    before = {path.name for path in folder.iterdir()}
    done = call("convert", folder / "net.onnx", "--calibration", folder / "data.npz", "-o", output,
                preexec_fn=small_files)  # fmt: skip
    assert done.returncode == 5, done.stderr
    assert b"what was there before is unchanged" in done.stderr
    assert output.read_bytes() == b"old"
    assert {path.name for path in folder.iterdir()} == before


def test_a_journal_on_a_full_disk_says_how_to_go_on(folder):
    done = call("eval", folder / "net.snn.onnx", folder / "data.npz", "--resume", "--timesteps",
                ",".join(map(str, range(1, 65))), preexec_fn=small_files)  # fmt: skip
    assert done.returncode == 5, done.stderr
    assert b"--resume" in done.stderr
    (journal,) = folder.glob("*.journal")
    journal.unlink()


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
        {"TERM": "dumb", "COLUMNS": "40"},
        {"NO_COLOR": "1", "LANG": "de_DE.ISO-8859-1", "PYTHONUTF8": "0"},
    ],
)
def test_narrow_locales_and_terminals(folder, environment):
    done = call("eval", folder / "net.snn.onnx", folder / "data.npz", "--timesteps", "1",
                environment=environment)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"\x1b" not in done.stdout + done.stderr


def test_a_closed_pipe_is_no_error():
    with subprocess.Popen(
        [sys.executable, "-m", "onnx2snn", "ops"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        stderr = process.stderr.read()
    assert b"Traceback" not in stderr
    assert b"internal error" not in stderr


HOSTILE = "\x1b[31m<script>alert(1)</script>\n../../x" + "a" * 5000


def test_hostile_names_reach_no_terminal(folder, tmp_path, capsys):
    """A network whose names are all hostile converts, runs and is shown without control codes."""
    model = networks.small_cnn()
    for node in model.graph.node:
        node.name = HOSTILE + node.name
    model.graph.node[-1].output[0] = HOSTILE
    model.graph.output[0].name = HOSTILE
    onnx.save(model, tmp_path / "m.onnx")
    data, spiking = folder / "data.npz", tmp_path / "m.snn.onnx"
    for arguments in (
        ["convert", tmp_path / "m.onnx", "--calibration", data, "-v"],
        ["inspect", spiking],
        ["inspect", tmp_path / "m.onnx"],
        ["run", spiking, data, "-T", "2", "-o", tmp_path / "out.npz"],
        ["eval", spiking, data, "--timesteps", "1"],
    ):
        assert main([str(argument) for argument in arguments]) == 0
        stdout, stderr = capsys.readouterr()
        assert "\x1b" not in stdout + stderr
    (name,) = load_arrays(tmp_path / "out.npz")
    assert "/" not in name


def test_answers_of_any_name_are_kept_apart():
    outputs = {"file": np.ones(1), "a/b": np.ones(2), "a_b": np.ones(3), "../a": np.ones(4)}
    content = archive(outputs)
    with zipfile.ZipFile(io.BytesIO(content)) as found:
        assert all("/" not in name for name in found.namelist())
    with np.load(io.BytesIO(content)) as arrays:
        assert sorted(arrays[name].size for name in arrays.files) == [1, 2, 3, 4]


def test_limits_hold(folder):
    with limited(Limits(model_bytes=100, data_bytes=100)):
        with pytest.raises(ModelError, match="the limit is 100"):
            load_model(folder / "net.onnx")
        with pytest.raises(DataError, match="the limit is 100"):
            load_arrays(folder / "data.npz")
    load_model(folder / "net.onnx")


def test_limits_are_options(folder, capsys):
    net, spiking, data = (str(folder / n) for n in ("net.onnx", "net.snn.onnx", "data.npz"))
    for arguments, code in (
        (["convert", net, "--dry-run", "--max-model-bytes", "100"], 3),
        (["convert", net, "--dry-run", "--calibration", data, "--max-data-bytes", "100"], 6),
        (["run", spiking, data, "--max-model-bytes", "100"], 3),
        (["eval", spiking, data, "--max-data-bytes", "100"], 6),
        (["inspect", net, "--max-model-bytes", "100"], 3),
    ):
        assert main(arguments) == code
        assert "the limit is 100" in capsys.readouterr().err
