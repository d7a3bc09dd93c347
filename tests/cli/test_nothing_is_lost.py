"""What people have is kept: their files, results of long work, what exit codes mean."""

import json
import os
import shlex
import subprocess
import sys

import networks
import numpy as np
import onnx
import pytest
from command_line import call, call_here
from PIL import Image

import onnx2snn
import onnx2snn_runtime
from onnx2snn.commands import eval as eval_command
from onnx2snn_runtime.data.inputs import open_inputs
from onnx2snn_runtime.errors import DataError, UsageError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network, its spiking form, and data."""
    path = tmp_path_factory.mktemp("kept")
    onnx.save(networks.small_cnn(), path / "net.onnx")
    images = networks.images(64, seed=2)
    np.savez(path / "test.npz", x=images[:12], y=np.arange(12) % 4)
    onnx2snn.convert(path / "net.onnx", calibration=images).save(path / "net.snn.onnx")
    return path


def shell(command, folder):
    """A command line with redirections."""
    program = f"{shlex.quote(sys.executable)} -m onnx2snn"
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command.replace('onnx2snn', program)}"],
        capture_output=True, text=True, cwd=folder, check=False, timeout=120,
        env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip


@pytest.mark.parametrize("option", ["-o", "--report"])
def test_the_ann_of_against_is_not_overwritten(folder, option):
    before = (folder / "net.onnx").read_bytes()
    done = call_here("eval", folder / "net.snn.onnx", folder / "test.npz",
                     "--against", folder / "net.onnx", option, folder / "net.onnx")  # fmt: skip
    assert done.returncode == 2
    assert "same file" in done.stderr
    assert (folder / "net.onnx").read_bytes() == before


def test_pictures_of_the_data_are_not_overwritten(folder):
    pictures = folder / "pictures" / "0"
    pictures.mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(pictures / "a.png")
    before = (pictures / "a.png").read_bytes()
    done = call_here("run", folder / "net.snn.onnx", folder / "pictures", "-o", pictures / "a.png")
    assert done.returncode == 2
    assert (pictures / "a.png").read_bytes() == before


def test_a_result_is_told_even_if_files_beside_it_cannot_be_written(folder, monkeypatch):
    there = folder / "gone"
    there.mkdir()
    write = eval_command.write_answers
    monkeypatch.setattr(eval_command, "write_answers", lambda *_: there.rmdir() or write(*_))
    done = call_here("eval", folder / "net.snn.onnx", folder / "test.npz", "-T", "1",
                     "--json", "-o", there / "out.npz")  # fmt: skip
    assert done.returncode == 5
    assert json.loads(done.stdout)["samples"] == 12


def test_labels_are_checked_before_the_work(folder):
    images = networks.images(20)
    labels = np.array([0, 1, 2, 3] * 5)
    labels[17] = 4
    told = []
    with pytest.raises(DataError, match="label 4 of image 17 is out of range"):
        onnx2snn.evaluate(
            folder / "net.snn.onnx", {"x": images, "y": labels}, timesteps=1, batch_size=2,
            progress=lambda done, total: told.append(done),
        )  # fmt: skip
    assert not told


def test_an_image_that_is_not_there_is_noticed_before_the_work(folder):
    pytest.importorskip("matplotlib", reason="the extra report draws pages")
    done = call_here("eval", folder / "net.snn.onnx", folder / "test.npz",
                     "--report", folder / "r.html", "--report-image", 12)  # fmt: skip
    assert done.returncode == 2
    assert "0..11" in done.stderr
    assert "evaluate" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
@pytest.mark.parametrize(
    "command", ["eval net.snn.onnx test.npz --json", "ops", "inspect net.onnx"]
)
def test_an_answer_that_cannot_be_written_is_a_storage_error(folder, command):
    done = shell(f"onnx2snn {command} > /dev/full", folder)
    assert done.returncode == 5
    assert "cannot be written" in done.stderr
    assert "internal" not in done.stderr


@pytest.mark.parametrize("command", ["ops", "ops --json", "inspect net.onnx"])
def test_a_reader_that_stops_is_no_error(folder, command):
    done = shell(f"onnx2snn {command} | head -c 8", folder)
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_without_stderr_only_the_answer_is_printed(folder):
    done = shell("onnx2snn eval net.snn.onnx test.npz -T 1 --json 2>&-", folder)
    assert done.returncode == 0
    assert json.loads(done.stdout)["samples"] == 12


def test_debug_keeps_the_exit_code(folder):
    done = call("run", folder / "missing.snn.onnx", folder / "test.npz", "--debug")
    plain = call("run", folder / "missing.snn.onnx", folder / "test.npz")
    assert "Traceback" in done.stderr
    assert "Traceback" not in plain.stderr
    assert done.returncode == plain.returncode > 1


@pytest.mark.parametrize("options", ["-qv", "-vvv", "-v -q"])
def test_global_options_in_front_of_the_verb(folder, options):
    done = call_here(*options.split(), "inspect", folder / "net.onnx")
    assert done.returncode == 0


def test_another_network_is_told_by_its_shapes(folder):
    wide = networks.small_cnn()
    for item in wide.graph.initializer:
        array = onnx.numpy_helper.to_array(item)
        if array.shape[:1] == (4,) and array.ndim <= 2:
            wider = np.concatenate([array, array[:1]])
            item.CopyFrom(onnx.numpy_helper.from_array(wider, item.name))
    wide.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5
    snn = folder / "net.snn.onnx"
    images = networks.images(4)
    with pytest.raises(UsageError, match="another network"):
        onnx2snn.evaluate(snn, images, timesteps=1, against=wide)
    with pytest.raises(UsageError, match="another network"):
        onnx2snn.compare(wide, snn, images, timesteps=1)
    other = networks.small_cnn()
    for node in other.graph.node:
        node.input[:] = ["z" if name == "input" else name for name in node.input]
    other.graph.input[0].name = "z"
    with pytest.raises(UsageError, match="another network"):
        onnx2snn.evaluate(snn, images, timesteps=1, against=other)


@pytest.mark.parametrize("size", [0, -1])
def test_batches_of_nothing_are_refused(folder, size):
    snn, images = folder / "net.snn.onnx", networks.images(4)
    with pytest.raises(UsageError, match="batch-size"):
        onnx2snn.evaluate(snn, images, timesteps=1, batch_size=size)
    with pytest.raises(UsageError, match="batch-size"):
        onnx2snn.compare(folder / "net.onnx", snn, images, timesteps=1, batch_size=size)


def test_numbers_beyond_float32_are_no_images(folder):
    network = onnx2snn_runtime.load(folder / "net.snn.onnx")
    with pytest.raises(DataError, match="float32"):
        network.run(np.full((1, 3, 8, 8), 1e300), timesteps=1)


def test_integers_take_their_relays_whatever_is_preferred():
    images = networks.images(64, seed=2)
    model = onnx2snn.convert(
        networks.small_cnn(), calibration=images, precision="int8", target_drop=5.0,
        prefer="latency", max_timesteps=2,
    )  # fmt: skip
    assert model.integer


def test_a_seed_below_zero_is_refused():
    with pytest.raises(UsageError, match="seed"):
        onnx2snn.convert(networks.small_cnn(), seed=-1)


def test_what_is_no_number_is_null_in_json(folder, tmp_path):
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N,3,8,8] input) => (float[N,4] output)
        {
            a = Conv<pads=[1,1,1,1]>(input, w)
            r = Relu(a)
            m = GlobalAveragePool(r)
            f = Flatten(m)
            l = Log(f)
            output = Gemm(l, v)
        }""")
    random = np.random.default_rng(0)
    for name, shape in (("w", (4, 3, 3, 3)), ("v", (4, 4))):
        array = random.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    snn = tmp_path / "log.snn.onnx"
    with pytest.warns(UserWarning):
        onnx2snn.convert(model, calibration=networks.images(16), recipe="if").save(snn)
    done = call_here("eval", snn, folder / "test.npz", "-T", "1", "--json")
    assert done.returncode == 0, done.stderr
    (step,) = json.loads(done.stdout, parse_constant=pytest.fail)["steps"]
    assert step["output_error"] is None


@pytest.mark.parametrize("form", ["packed", "folder"])
def test_other_labels_are_other_data(folder, tmp_path, form):
    """A journal of other labels is not gone on with."""
    rng = np.random.default_rng(0)
    for index in range(4):
        for name in "bc":
            (tmp_path / name).mkdir(exist_ok=True)
            pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{index}.png")
    if form == "folder":
        before = open_inputs(tmp_path, ["input"]).sha256()
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / ".hidden").touch()
        after = open_inputs(tmp_path, ["input"])
    else:
        files = [path.read_bytes() for path in sorted(tmp_path.rglob("*.png"))]
        data = {
            "jpeg": np.frombuffer(b"".join(files), np.uint8),
            "offsets": np.cumsum([0, *map(len, files)]),
        }
        before = open_inputs({**data, "labels": np.zeros(8, int)}, ["input"]).sha256()
        after = open_inputs({**data, "labels": np.arange(8)}, ["input"])
    assert after.labels is not None
    assert before != after.sha256()


@pytest.mark.parametrize("arguments", ["convert .", "'' ", "report .", "eval . x.npz"])
def test_a_folder_in_place_of_a_file_is_named(folder, arguments):
    done = shell(f"onnx2snn {arguments}", folder)
    assert done.returncode in (3, 6), done.stderr
    assert "is a folder" in done.stderr


def test_steps_for_a_search_that_is_not_asked_for_are_told(folder):
    done = shell("onnx2snn net.onnx --max-timesteps 2 --dry-run", folder)
    assert done.returncode == 0
    assert "--max-timesteps limits what --target-drop may choose" in done.stderr


def test_another_file_than_the_one_that_was_converted_is_told(folder):
    other = onnx.load(folder / "net.onnx")
    other.doc_string = "another file"
    onnx.save(other, folder / "other.onnx")
    done = shell("onnx2snn eval net.snn.onnx test.npz -T 1 --against other.onnx", folder)
    assert "converted from another file" in done.stderr
    done = shell("onnx2snn eval net.snn.onnx test.npz -T 1 --against net.onnx", folder)
    assert "another file" not in done.stderr


def test_pictures_are_called_by_their_names(folder):
    pictures = folder / "named"
    pictures.mkdir(exist_ok=True)
    for name in ("left", "right"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(pictures / f"{name}.png")
    done = shell("onnx2snn run net.snn.onnx named --preprocess unit", folder)
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["left.png", "right.png"]
    done = shell("onnx2snn run net.snn.onnx named --preprocess unit --json", folder)
    assert json.loads(done.stdout)["images"] == ["left.png", "right.png"]
