"""Evaluations that are killed, interrupted, damaged or run twice."""

import json
import os
import signal
import subprocess
import sys
import time

import networks
import onnx
import pytest
from evaluations import write_evaluation

from onnx2snn import evaluate
from onnx2snn.evaluation.journal import Journal, journal_path, make_key
from onnx2snn_runtime.errors import StorageError, UsageError

IMAGES = 1920
TIMESTEPS = [1, 8]
KILLS = 20

# Forks before anything is loaded, so that a run starts in no time, and kills what it forked: now
# at a random moment of its start, now shortly after its journal has grown. On no machine, however
# fast, do so many runs get through all batches.
KILLER = """
import json, os, pathlib, random, signal, sys, time
import numpy, numba, onnxruntime
import onnx2snn_runtime.backends.fused, onnx2snn_runtime.backends.onnxruntime_backend
from onnx2snn.evaluation.evaluate import evaluate
model, data, kills = sys.argv[1], sys.argv[2], int(sys.argv[3])
chance = random.Random(0)
killed = finished = 0

def size():
    folder = pathlib.Path(model).parent
    return sum(path.stat().st_size for path in folder.glob("*.journal"))

def start():
    child = os.fork()
    if child == 0:
        result = evaluate(model, data, timesteps=[1, 8], resume=model, threads=1)
        print(json.dumps(result), flush=True)
        os._exit(0)
    return child

while True:
    child = start()
    if killed < kills:
        if chance.random() < 0.5:
            before, give_up = size(), time.monotonic() + 60
            while size() == before and time.monotonic() < give_up:
                time.sleep(0.0005)
        time.sleep(chance.uniform(0.0, 0.02))
        os.kill(child, signal.SIGKILL)
        killed += 1
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        print(f"{killed} killed", file=sys.stderr)
        sys.exit(os.WEXITSTATUS(status))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_evaluation(tmp_path_factory.mktemp("resume"), IMAGES)


@pytest.fixture(scope="module")
def expected(folder):
    """The totals of a run that nothing disturbs."""
    return evaluate(folder / "net.snn.onnx", folder / "data.npz", timesteps=TIMESTEPS)


def journals(folder):
    return sorted(path.name for path in folder.glob("*.journal"))


@pytest.mark.slow
def test_killed_again_and_again(folder, expected):
    """The totals are equal to the last digit, and the journal is gone at the end."""
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(folder / "net.snn.onnx"), str(folder / "data.npz"),
         str(KILLS)],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == json.loads(json.dumps(expected))
    assert done.stderr.splitlines()[-1] == f"{KILLS} killed"
    assert not journals(folder)


class StopError(Exception):
    pass


def stopped_after(batches, folder, **options):
    """Evaluate and break off."""
    seen = 0

    def progress(done, total):
        nonlocal seen
        seen += 1
        if seen == batches:
            raise StopError

    with pytest.raises(StopError):
        evaluate(folder / "net.snn.onnx", folder / "data.npz", timesteps=TIMESTEPS,
                 resume=folder / "net.snn.onnx", progress=progress, **options)  # fmt: skip
    (name,) = journals(folder)
    return folder / name


def resumed(folder):
    return evaluate(folder / "net.snn.onnx", folder / "data.npz", timesteps=TIMESTEPS,
                    resume=folder / "net.snn.onnx")  # fmt: skip


@pytest.mark.parametrize("cut", [1, 3, 30, 500])
def test_torn_lines_are_cut_off(folder, expected, cut):
    path = stopped_after(3, folder)
    content = path.read_bytes()
    path.write_bytes(content[:-cut])
    assert resumed(folder) == expected
    assert not journals(folder)


def test_every_cut_of_a_journal_is_survived(tmp_path):
    """Wherever the file ends, what is read is a state that was written, or none."""
    path, key = tmp_path / "a.journal", make_key({"a": 1})
    states = [{"done": index, "sum": 0.1 * index} for index in range(4)]
    with Journal(path, key) as journal:
        for state in states:
            journal.append(state)
    content = path.read_bytes()
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        with Journal(path, key) as journal:
            assert journal.state is None or journal.state in states
            journal.append({"done": 9})
        with Journal(path, key) as journal:
            assert journal.state == {"done": 9}


@pytest.mark.parametrize("junk", [b"\xff" * 100, b"0" * 16 + b" {}\n", b"[" * 10_000 + b"\n"])
def test_junk_at_the_end_is_cut_off(folder, expected, junk):
    path = stopped_after(2, folder)
    with path.open("ab") as file:
        file.write(junk)
    assert resumed(folder) == expected


def test_a_batch_is_not_computed_twice(folder, expected, monkeypatch):
    from onnx2snn.evaluation.measurement import Measurement

    stopped_after(15, folder)
    counted = []
    measure = Measurement.measure

    def counting(self, piece):
        counted.append(len(piece))
        return measure(self, piece)

    monkeypatch.setattr(Measurement, "measure", counting)
    assert resumed(folder) == expected
    assert len(counted) == IMAGES // 32 - 15


def test_other_settings_have_another_journal(folder):
    first = stopped_after(1, folder)
    with pytest.raises(StopError):
        evaluate(folder / "net.snn.onnx", folder / "data.npz", timesteps=[2], limit=100,
                 resume=folder / "net.snn.onnx", progress=stop)  # fmt: skip
    assert len(journals(folder)) == 2
    for name in journals(folder):
        (folder / name).unlink()
    assert not first.exists()


def stop(done, total):
    raise StopError


def test_the_journal_of_another_evaluation_is_refused(tmp_path):
    with Journal(tmp_path / "j", make_key({"a": 1})):
        pass
    with (
        pytest.raises(UsageError, match="another evaluation"),
        Journal(tmp_path / "j", make_key({"a": 2})),
    ):
        pass


def test_two_processes_are_kept_apart(tmp_path):
    key = make_key({})
    code = (
        "import sys\nfrom onnx2snn.evaluation.journal import Journal\n"
        f"with Journal({str(tmp_path / 'j')!r}, {key!r}):\n"
        "    print('ready', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"ready\n"
        with pytest.raises(StorageError, match="another process"), Journal(tmp_path / "j", key):
            pass
        holder.kill()
    with Journal(tmp_path / "j", key) as journal:  # the lock died with its process
        assert journal.state is None


def test_a_journal_that_cannot_be_written_is_known_at_once(folder):
    with pytest.raises(StorageError), Journal(folder / "data.npz" / "j", "0"):
        pass
    key = make_key({})
    with pytest.raises(StorageError), Journal(journal_path(folder / "none" / "m.onnx", key), key):
        pass


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_run_cleanly(folder, number, code):
    """Ctrl-C prints what is known; neither signal leaves more than the journal."""
    if number == signal.SIGINT and signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("this run was started without Ctrl-C, in the background of a script")
    before = {path.name for path in folder.iterdir()}
    with subprocess.Popen(
        [sys.executable, "-m", "onnx2snn", "eval", folder / "net.snn.onnx", folder / "data.npz",
         "--timesteps", "2000", "--batch-size", "8", "--resume", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "NO_COLOR": "1"},
    ) as process:  # fmt: skip
        for _ in range(600):
            lines = [len((folder / name).read_bytes().splitlines()) for name in journals(folder)]
            if lines and lines[0] > 1:
                break
            time.sleep(0.1)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    assert b"Traceback" not in stderr
    if number == signal.SIGINT:
        assert json.loads(stdout)["samples"] >= 8
    for name in journals(folder):
        (folder / name).unlink()
    assert {path.name for path in folder.iterdir()} == before


def test_networks_are_told_apart():
    from onnx2snn.evaluation.journal import model_digest

    model = networks.small_cnn()
    other = onnx.ModelProto()
    other.CopyFrom(model)
    assert model_digest(model) == model_digest(other)
    other.graph.node[0].attribute[0].ints[0] += 1
    assert model_digest(model) != model_digest(other)
