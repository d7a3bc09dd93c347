"""Evaluations on several processes: the same to the last digit, whatever happens to a worker."""

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import networks
import numpy as np
import pytest
from evaluations import write_evaluation

from onnx2snn import evaluate
from onnx2snn.evaluation.evaluate import Interrupted
from onnx2snn.evaluation.measurement import Comparison
from onnx2snn.evaluation.processes import ProcessCrew
from onnx2snn.evaluation.schedule import Job, Team
from onnx2snn_runtime.data.dataset import Part
from onnx2snn_runtime.data.inputs import Piece
from onnx2snn_runtime.errors import BackendError, DataError, UsageError

IMAGES = 120
OPTIONS = {"timesteps": [1, 3], "batch_size": 8, "early_exit": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_evaluation(tmp_path_factory.mktemp("workers"), IMAGES)


@pytest.fixture(scope="module")
def expected(folder):
    """What one process measures."""
    return evaluate(folder / "net.snn.onnx", folder / "data.npz", **OPTIONS)


@pytest.fixture(autouse=True)
def nobody_is_left():
    yield
    assert not multiprocessing.active_children()


def test_two_processes_measure_the_same(folder, expected):
    seen = []
    found = evaluate(folder / "net.snn.onnx", folder / "data.npz", workers=2, **OPTIONS,
                     progress=lambda done, total: seen.append((done, total)))  # fmt: skip
    assert found == expected
    assert json.dumps(found) == json.dumps(expected)
    assert seen == [(done, IMAGES) for done in range(8, IMAGES + 1, 8)]


def test_the_typical_method_is_shared_out_as_well(folder):
    """Without labels the workers ask the ANN what is right."""
    images = networks.images(24)
    options = {"timesteps": [2], "batch_size": 8, "typical": True}
    expected = evaluate(folder / "net.snn.onnx", images, **options)
    assert expected["typical"]["agreement"] > 50
    assert evaluate(folder / "net.snn.onnx", images, workers=2, **options) == expected


def test_a_killed_worker_is_replaced(folder, expected):
    """Again and again: each time another worker dies of the signal that is sent for no memory."""
    killed = []

    def kill(done, total):
        if done % 24 == 0 and done < total // 2:
            process = multiprocessing.active_children()[len(killed) % 2]
            os.kill(process.pid, signal.SIGKILL)
            killed.append(process.pid)

    with pytest.warns(UserWarning, match=r"died by the signal SIGKILL.* is run again"):
        found = evaluate(folder / "net.snn.onnx", folder / "data.npz", workers=2, progress=kill,
                         **OPTIONS)  # fmt: skip
    assert found == expected
    assert len(set(killed)) == len(killed) >= 2


def test_a_batch_that_kills_is_named(folder):
    model = convert_again(folder)
    crew = ProcessCrew(1, Job(model, Comparison((1,), None, False), "numpy", 1, None))
    content = Part("__import__('os').kill(__import__('os').getpid(), 9)", eval)
    deadly = Piece(32, {"input": content}, None)
    with (
        pytest.warns(UserWarning, match="is run again"),
        pytest.raises(BackendError, match=r"batch 0 \(images 32 to .*SIGKILL") as caught,
    ):
        list(Team(crew).totals(iter([deadly])))
    assert "--workers" in str(caught.value)


def convert_again(folder):
    from onnx2snn_runtime.files.models import load_model

    return load_model(folder / "net.snn.onnx")


class StopError(Exception):
    pass


@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_the_journal_knows_nothing_of_workers(folder, expected, first, then):
    def stop(done, total):
        if done == 40:
            raise StopError

    journaled = {**OPTIONS, "resume": folder / "net.snn.onnx"}
    with pytest.raises(StopError):
        evaluate(folder / "net.snn.onnx", folder / "data.npz", workers=first, progress=stop,
                 **journaled)  # fmt: skip
    seen = []
    found = evaluate(folder / "net.snn.onnx", folder / "data.npz", workers=then, **journaled,
                     progress=lambda done, total: seen.append(done))  # fmt: skip
    assert found == expected
    assert seen == list(range(40, IMAGES + 1, 8))
    assert not list(folder.glob("*.journal"))


def test_ctrl_c_keeps_what_is_known(folder):
    def interrupt(done, total):
        if done == 32:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        evaluate(folder / "net.snn.onnx", folder / "data.npz", workers=2, progress=interrupt,
                 **OPTIONS)  # fmt: skip
    assert not multiprocessing.active_children()  # while the answer is still told
    expected = evaluate(folder / "net.snn.onnx", folder / "data.npz", limit=32, **OPTIONS)
    assert caught.value.document == expected


def test_errors_of_workers_are_ours(folder):
    data = {"images": networks.images(24), "labels": np.zeros(24, int)}
    data["images"][20] = np.nan
    with pytest.raises(DataError, match="NaN"):
        evaluate(folder / "net.snn.onnx", data, workers=2, batch_size=8)
    with pytest.raises(UsageError, match="--workers"):
        evaluate(folder / "net.snn.onnx", data, workers=0)


def living(group):
    """Processes of a group that are more than an entry; nobody where there is no /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, owner = path.read_text().rpartition(")")[2].split()[:3]
            if int(owner) == group and state != "Z":
                found.append(path)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_all_processes(folder, number):
    """The whole group gets Ctrl-C from a terminal; workers leave the answer to the parent."""
    if number == signal.SIGINT and signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("this run was started without Ctrl-C, in the background of a script")
    with subprocess.Popen(
        [sys.executable, "-m", "onnx2snn", "eval", folder / "net.snn.onnx", folder / "data.npz",
         "--timesteps", "2000", "--batch-size", "8", "--workers", "2", "--resume", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    ) as process:  # fmt: skip
        for _ in range(600):
            lines = [len(path.read_bytes().splitlines()) for path in folder.glob("*.journal")]
            if lines and lines[0] > 1:
                break
            time.sleep(0.1)
        os.killpg(process.pid, number) if number == signal.SIGINT else process.terminate()
        stdout, stderr = process.communicate(timeout=60)
    for path in folder.glob("*.journal"):
        path.unlink()
    give_up = time.monotonic() + 20
    while living(process.pid) and time.monotonic() < give_up:
        time.sleep(0.1)
    assert not living(process.pid)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number], stderr
    assert b"Traceback" not in stderr
    if number == signal.SIGINT:
        assert json.loads(stdout)["samples"] >= 8
