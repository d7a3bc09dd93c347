"""Evaluations in a Ray cluster: the same to the last digit, also when a machine is lost.

Needs the extra ``ray`` (80 MB), which is no part of the development environment; without it the
tests in a cluster are skipped. What they share with processes is tested in any case, in
``test_workers.py`` and ``test_schedule.py``.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import types

import pytest
from evaluations import write_evaluation

import onnx2snn
from onnx2snn import evaluate
from onnx2snn_runtime.errors import BackendError, UsageError

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs the extra 'ray'"
)
IMAGES = 120

# Two machines of one processor each; lines of stdin say what happens to the second one.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
size = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args={**size, "include_dashboard": False})
second = cluster.add_node(**size)
print(cluster.address, flush=True)
for line in sys.stdin:
    if line == "kill\\n":
        cluster.remove_node(second, allow_graceful=False)
    else:
        second = cluster.add_node(**size)
    print("done", flush=True)
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_evaluation(tmp_path_factory.mktemp("ray"), IMAGES)


@pytest.fixture(scope="module")
def cluster():
    """The process that holds the cluster."""
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL, env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
    ) as process:  # fmt: skip
        process.address = process.stdout.readline().strip()
        assert process.address
        yield process
        process.stdin.close()
        process.wait(timeout=60)


def order(cluster, word):
    cluster.stdin.write(f"{word}\n")
    cluster.stdin.flush()
    assert cluster.stdout.readline() == "done\n"


def start(folder, address, *options):
    return subprocess.Popen(
        [sys.executable, "-m", "onnx2snn", "eval", folder / "net.snn.onnx", folder / "data.npz",
         "--batch-size", "8", "--ray", address, "--json", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for_batches(folder, count):
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up:
        if any(len(p.read_bytes().splitlines()) > count for p in folder.glob("*.journal")):
            return
        time.sleep(0.02)


@needs_ray
@pytest.mark.slow
def test_no_cluster_is_an_error(folder):
    with start(folder, "auto") as process:
        stdout, stderr = process.communicate(timeout=120)
    if process.returncode == 0:
        pytest.skip("a Ray cluster is running on this machine")
    assert process.returncode == 7, stderr
    assert "no Ray cluster at auto" in stderr and "ray start --head" in stderr
    assert "Traceback" not in stderr and not stdout


@needs_ray
@pytest.mark.slow
def test_a_cluster_measures_the_same(folder, cluster):
    options = ["--timesteps", "1,3", "--early-exit", "--typical"]
    with start(folder, cluster.address, *options) as process:
        stdout, stderr = process.communicate(timeout=180)
    assert process.returncode == 0, stderr
    expected = evaluate(folder / "net.snn.onnx", folder / "data.npz", batch_size=8,
                        timesteps=[1, 3], early_exit=True, typical=True)  # fmt: skip
    assert stdout == json.dumps(expected) + "\n"


@needs_ray
@pytest.mark.slow
def test_a_lost_machine_loses_nothing(folder, cluster):
    with start(folder, cluster.address, "--timesteps", "1,2000", "--resume") as process:
        wait_for_batches(folder, 3)
        order(cluster, "kill")
        stdout, stderr = process.communicate(timeout=240)
    order(cluster, "add")
    assert process.returncode == 0, stderr
    assert "is run again" in stderr
    expected = evaluate(folder / "net.snn.onnx", folder / "data.npz", batch_size=8,
                        timesteps=[1, 2000])  # fmt: skip
    assert stdout == json.dumps(expected) + "\n"
    assert not list(folder.glob("*.journal"))


@needs_ray
@pytest.mark.slow
def test_ctrl_c_and_then_on_with_processes(folder, cluster):
    """Interrupted in the cluster, ended on this machine: one journal for both."""
    with start(folder, cluster.address, "--timesteps", "1,1000", "--resume") as process:
        wait_for_batches(folder, 3)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert json.loads(stdout)["samples"] >= 24
    options = {"batch_size": 8, "timesteps": [1, 1000]}
    done = []
    found = evaluate(folder / "net.snn.onnx", folder / "data.npz", workers=2,
                     resume=folder / "net.snn.onnx", progress=lambda n, _: done.append(n),
                     **options)  # fmt: skip
    assert done[0] == json.loads(stdout)["samples"]
    assert found == evaluate(folder / "net.snn.onnx", folder / "data.npz", **options)


def test_without_ray_it_is_told_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="needs the package ray") as caught:
        evaluate(folder / "net.snn.onnx", folder / "data.npz", ray="auto")
    assert "pip install 'onnx2snn[ray]'" in str(caught.value)


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        ("127.0.0.1:1", BackendError, "nobody answers at 127.0.0.1:1"),
        ("no.such.host.invalid:6379", BackendError, "nobody answers"),
        ("somewhere", UsageError, "HOST:PORT"),
        ("somewhere:99999999", UsageError, "HOST:PORT"),
        ("", UsageError, "HOST:PORT"),
    ],
)
def test_addresses_are_looked_at_first(folder, monkeypatch, address, error, words):
    fake = types.SimpleNamespace(is_initialized=lambda: False)
    monkeypatch.setitem(sys.modules, "ray", fake)
    with pytest.raises(error, match=words):
        evaluate(folder / "net.snn.onnx", folder / "data.npz", ray=address)


def test_versions_must_agree():
    from onnx2snn.evaluation.ray_crew import _Actor

    problem = _Actor().open(None, "0.0.1")
    assert isinstance(problem, BackendError)
    assert "0.0.1" in str(problem) and onnx2snn.__version__ in str(problem)
