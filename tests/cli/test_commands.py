"""The command line through real subprocesses."""

import json
import subprocess
import sys

import networks
import numpy as np
import onnx
import pytest
from command_line import call, call_here


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a network, calibration data and test data."""
    path = tmp_path_factory.mktemp("cli")
    onnx.save(networks.small_cnn(), path / "net.onnx")
    np.savez(path / "calibration.npz", images=networks.images(64, seed=2))
    np.savez(path / "test.npz", x=networks.images(20), y=np.arange(20) % 4)
    return path


@pytest.fixture(scope="module")
def converted(folder):
    """The network converted by the bare command."""
    done = call(folder / "net.onnx", "--calibration", folder / "calibration.npz")
    assert done.returncode == 0, done.stderr
    return folder / "net.snn.onnx"


def test_bare_form_converts(converted):
    assert converted.exists()
    onnx.checker.check_model(onnx.load(converted), full_check=True)


def test_convert_json(folder):
    done = call("convert", folder / "net.onnx", "--calibration", folder / "calibration.npz",
                "--recipe", "refine", "--dry-run", "--json")  # fmt: skip
    document = json.loads(done.stdout)
    assert document["recipe"]["name"] == "refine"
    assert document["verified"] is True
    assert document["output"] is None
    assert [layer["role"] for layer in document["layers"]].count("pool") == 1


def test_without_data_it_warns(folder, tmp_path):
    done = call(folder / "net.onnx", "-o", tmp_path / "x.snn.onnx")
    assert done.returncode == 0
    assert "warning: no calibration images" in done.stderr


def test_eval_json_has_the_promised_keys(folder, converted):
    done = call("eval", converted, folder / "test.npz", "--against", folder / "net.onnx",
                "--timesteps", "1,2,64", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert set(document) == {
        "samples", "ann", "ann_skip_zeros", "quantised_ann", "typical", "steps", "recipe",
        "recommended_t",
    }  # fmt: skip
    assert set(document["ann"]) == {"accuracy", "macs_per_image", "energy_uj"}
    assert set(document["quantised_ann"]) == {"bits", "accuracy", "agreement", "energy_int_uj"}
    assert [step["t"] for step in document["steps"]] == [1, 2, 64]
    assert set(document["steps"][0]) == {
        "t", "accuracy", "top5", "agreement", "lost", "gained", "output_error",
        "spikes_per_image", "synops_per_image", "energy_uj", "energy_int_uj", "neuron_uj",
    }  # fmt: skip
    assert document["samples"] == 20
    assert document["steps"][-1]["agreement"] >= 90
    last = document["steps"][-1]
    assert last["accuracy"] == pytest.approx(
        document["ann"]["accuracy"] - 100 * (last["lost"] - last["gained"]) / 20
    )


def test_inspect_shows_thresholds_as_the_conversion_does(converted):
    shown = call("inspect", converted).stdout
    rows = [line for line in shown.splitlines() if "BurstIF" in line]
    assert rows
    assert all("…" in row and "(" not in row for row in rows)  # per channel: a range


def test_max_drop_sets_the_exit_code(folder, converted):
    done = call("eval", converted, folder / "test.npz", "--timesteps", "1", "--max-drop", "-200")
    assert done.returncode == 1


def test_max_drop_without_labels_is_refused_before_the_work(folder, converted, tmp_path):
    with np.load(folder / "test.npz") as data:
        np.save(tmp_path / "images.npy", data["x"])
    done = call("eval", converted, tmp_path / "images.npy", "--max-drop", "1")
    assert done.returncode == 2
    assert "needs data with labels" in done.stderr
    assert not done.stdout


def test_run_writes_answers(folder, converted, tmp_path):
    done = call(converted, folder / "test.npz", "-T", "4", "-o", tmp_path / "out.npz", "--json",
                module="onnx2snn_runtime.cli")  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["samples"] == 20
    with np.load(tmp_path / "out.npz") as answers:
        (logits,) = (answers[name] for name in answers.files)
    assert logits.argmax(1).tolist() == document["classes"]


def test_runtime_never_imports_the_converter(folder, converted):
    code = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        assert name.split('.')[0] != 'onnx2snn', name\n"
        "sys.meta_path.insert(0, Block())\n"
        "from onnx2snn_runtime.cli import main\n"
        f"sys.exit(main([{str(converted)!r}, {str(folder / 'test.npz')!r}, '-T', '2']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["inspect", "ops", "doctor"])
def test_inspect_and_ops(folder, converted, command):
    arguments = [converted] if command == "inspect" else []
    assert call(command, *arguments).returncode == 0
    assert json.loads(call(command, *arguments, "--json").stdout)


@pytest.mark.parametrize("program", ["onnx2snn", "onnx2snn_runtime"])
def test_help_loads_nothing_heavy(program):
    code = (
        "import atexit, sys\n"
        f"from {program}.cli import main\n"
        "heavy = {'numpy', 'onnx', 'onnxruntime', 'numba', 'rich', 'PIL'}\n"
        "atexit.register(lambda: print('loaded:', sorted(heavy & set(sys.modules))))\n"
        "main(['--help'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "loaded: []", done.stderr


def test_help_and_version():
    assert "examples:" in call("--help").stdout
    assert call("--version").stdout.startswith("onnx2snn ")


def bad_files(folder):
    """Name of a case to (arguments, exit code, words of the message)."""
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "text.onnx").write_text("hello")
    (folder / "short.onnx").write_bytes((folder / "net.onnx").read_bytes()[:-500])
    (folder / "zip.onnx").write_bytes(b"PK\x03\x04" + bytes(50))
    (folder / "weights.pt").write_bytes(b"\x80\x02}q\x00.")
    np.savez(folder / "wrong_shape.npz", images=np.zeros((4, 3, 9, 9), np.float32))
    np.savez(folder / "empty.npz", images=np.zeros((0, 3, 8, 8), np.float32))
    np.savez(folder / "nan.npz", images=np.full((4, 3, 8, 8), np.nan, np.float32))
    np.savez(folder / "int64.npz", images=np.zeros((4, 3, 8, 8), np.int64))
    b = networks.Builder()
    onnx.save(b.model(b.conv("input", 3, 4), [4, 8, 8]), folder / "linear.onnx")
    net, calibration = folder / "net.onnx", folder / "calibration.npz"
    spiking = folder / "net.snn.onnx"
    return {
        "missing model": ([folder / "none.onnx"], 3, "no file"),
        "mistyped command": (["cnvert", net], 3, "did you mean convert?"),
        "no command": (["frobnicate"], 3, "onnx2snn --help"),
        "unknown option": ([net, "--bogus"], 2, "onnx2snn convert: error: unrecognized"),
        "empty model": ([folder / "empty.onnx"], 3, "empty"),
        "text": ([folder / "text.onnx"], 3, ""),
        "truncated": ([folder / "short.onnx"], 3, ""),
        "zip": ([folder / "zip.onnx"], 3, "zip"),
        "torch": ([folder / "weights.pt"], 3, "torch.onnx.export"),
        "nothing spikes": ([folder / "linear.onnx"], 4, "--allow-analog"),
        "missing data": ([net, "--calibration", folder / "none.npz"], 6, ""),
        "wrong shape": ([net, "--calibration", folder / "wrong_shape.npz"], 6, "9"),
        "no image": ([net, "--calibration", folder / "empty.npz"], 6, ""),
        "NaN": ([net, "--calibration", folder / "nan.npz"], 6, "NaN"),
        "int64": ([net, "--calibration", folder / "int64.npz"], 6, "int64"),
        "burst 0": ([net, "--burst", "0"], 2, "--burst"),
        "percentile": ([net, "--percentile", "101"], 2, "--percentile"),
        "rule": ([net, "--threshold", "guess"], 2, "percentile, mse"),
        "v0": ([net, "--v0", "-1"], 2, "--v0"),
        "recipe": ([net, "--recipe", "slow"], 2, "refine"),
        "preprocess": ([net, "--preprocess", "mean=a"], 2, ""),
        "backend": ([net, "--backend", "abacus"], 2, "numpy"),
        "output folder": ([net, "-o", folder / "none" / "x.onnx"], 5, ""),
        "spiking already": ([spiking], 3, "already"),
        "T 0": (["run", spiking, calibration, "-T", "0"], 2, "at least 1"),
        "timesteps": (["eval", spiking, calibration, "--timesteps", "1,x"], 2, "--timesteps"),
        "run an ANN": (["run", net, calibration], 3, "not a spiking network"),
        "run wrong shape": (["run", spiking, folder / "wrong_shape.npz"], 6, "9"),
        "limit": (["eval", spiking, calibration, "--limit", "0"], 2, "--limit"),
    }


def test_bad_input(folder, converted):
    """One clear error, its exit code, no traceback, nothing written."""
    for name, (arguments, code, words) in bad_files(folder).items():
        before = {path.name for path in folder.iterdir()}
        done = call_here(*arguments)
        assert done.returncode == code, (name, done.returncode, done.stderr)
        assert "error:" in done.stderr, (name, done.stderr)
        assert "Traceback" not in done.stderr, name
        assert words in done.stderr, (name, done.stderr)
        assert {path.name for path in folder.iterdir()} == before, name


@pytest.mark.parametrize("front", [["-q"], ["-v", "--debug"], ["--quiet"]])
def test_global_options_may_stand_in_front(folder, converted, front):
    assert call_here(*front, "inspect", converted).returncode == 0
    out = folder / "front.snn.onnx"
    done = call_here(*front, folder / "net.onnx", "--dry-run", "-o", out)
    assert done.returncode == 0
    assert call_here(*front, "eval", "--version").returncode == 0


def test_the_runtime_says_its_version_and_its_backend(folder, converted):
    assert call("--version", module="onnx2snn_runtime.cli").stdout.startswith("onnx2snn-run 0.")
    done = call(converted, folder / "test.npz", "-v", "--backend", "numpy",
                module="onnx2snn_runtime.cli")  # fmt: skip
    assert "backend numpy: " in done.stderr


def test_eval_tells_what_is_strange_about_the_data(folder, converted, tmp_path):
    data = tmp_path / "bytes.npz"
    np.savez(data, images=np.arange(20 * 3 * 64, dtype=np.uint8).reshape(20, 3, 8, 8))
    assert "note: uint8 images without" in call_here("eval", converted, data, "-T", 1).stderr
    assert "note:" not in call_here("-q", "eval", converted, data, "-T", 1).stderr


def test_export_prints_json(folder, converted, tmp_path):
    out = tmp_path / "loop.onnx"
    done = call_here("export", converted, "--unroll", "loop", "-o", out, "--json")
    assert json.loads(done.stdout) == {"form": "loop", "output": str(out), "losses": []}
    assert out.exists()


def test_inspect_tells_what_a_chip_must_hold(folder, converted):
    layers = json.loads(call_here("inspect", converted, "--json").stdout)["layers"]
    for layer in layers:
        if layer["burst_limit"]:
            assert layer["peak_spikes"] == layer["neurons"] * layer["burst_limit"]
            assert layer["fan_in"] >= layer["macs"] / layer["neurons"]  # the largest, not the mean
    known = [layer for layer in layers if layer["synapses"] is not None]
    assert all(0 < layer["fan_out"] <= layer["synapses"] for layer in known)
    assert len(known) >= 3


def test_a_limit_that_is_no_number(folder, converted):
    done = call_here("eval", converted, folder / "test.npz", "--max-drop", "nan")
    assert done.returncode == 2
    assert "--max-drop must be a number" in done.stderr


def test_eval_writes_the_answers_after_the_last_step(folder, converted, tmp_path):
    arguments = [converted, folder / "test.npz", "-T"]
    done = call_here("eval", *arguments, "1,3", "--limit", 7, "-o", tmp_path / "eval.npz")
    assert done.returncode == 0, done.stderr
    assert call_here("run", *arguments, "3", "-o", tmp_path / "run.npz").returncode == 0
    (found,), (expected,) = (
        list(np.load(tmp_path / name).values()) for name in ("eval.npz", "run.npz")
    )
    np.testing.assert_array_equal(found, expected[:7])


def test_run_tells_when_an_image_left(folder, converted):
    done = call_here("run", converted, folder / "test.npz", "--early-exit")
    assert done.returncode == 0, done.stderr
    assert all("T = " in line for line in done.stdout.splitlines())
