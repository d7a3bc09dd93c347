"""``benchmarks/gpu.py``: it refuses without a GPU, and its way through is tried on NumPy."""

import importlib
import json
import sys
import types
from pathlib import Path

import networks
import numpy as np
import pytest
from strict_arrays import HostDevice

import onnx2snn
from onnx2snn_runtime.gpu import why_no_device

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    if not FOLDER.is_dir():
        pytest.skip("the benchmarks are not beside the tests")
    monkeypatch.syspath_prepend(FOLDER)
    mine = sys.modules.pop("networks")  # of the tests; the benchmarks have another one
    try:
        yield importlib.import_module("gpu")
    finally:
        sys.modules.pop("gpu", None)
        sys.modules["networks"] = mine


def test_it_refuses_without_a_gpu(benchmark, monkeypatch, capsys):
    if not why_no_device():
        pytest.skip("there is a GPU here")
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    assert benchmark.main() == benchmark.NO_DEVICE
    assert "nothing is measured: CuPy" in capsys.readouterr().err


class FakeCupy(types.ModuleType):
    """NumPy, with the little of CuPy that times and memory need."""

    def __getattr__(self, name):
        return getattr(np, name)

    cuda = types.SimpleNamespace(Device=lambda: types.SimpleNamespace(synchronize=lambda: None))

    @staticmethod
    def get_default_memory_pool():
        return types.SimpleNamespace(free_all_blocks=lambda: None, total_bytes=lambda: 10**9)


def test_the_way_through(benchmark, monkeypatch, tmp_path, capsys):
    """Everything but the card: the table has a row for each arithmetic and T."""
    ann = networks.small_cnn()
    ann.graph.input[0].name = "image"
    for node in ann.graph.node:
        node.input[:] = ["image" if name == "input" else name for name in node.input]
    cupy = FakeCupy("cupy")

    def device():
        made = HostDevice(None)
        made.xp = cupy
        return made

    found = {"why_not": "", "packages": {}, "engines": {}, "device": {"name": "A", "driver": "1"}}
    convert = onnx2snn.convert
    for name, value in {
        "RESNET18_SIZE": 8, "resnet18": lambda: ann, "CupyDevice": device, "MOST_RUNS": 1,
        "survey": lambda engines: found, "ceilings": lambda cupy: {"copy_gb_s": 1.0},
        "neuron_kernel": lambda backend, timesteps: {"gb_s": 0.5},
        "ENGINES": (benchmark.ColumnsEngine,),
    }.items():  # fmt: skip
        monkeypatch.setattr(benchmark, name, value)
    monkeypatch.setattr(
        onnx2snn, "convert", lambda model, backend, **rest: convert(model, backend="numpy", **rest)
    )
    monkeypatch.setattr("onnx2snn_runtime.backends.cupy_backend.CupyDevice", device)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    output = tmp_path / "gpu.json"
    monkeypatch.setattr(sys, "argv", [
        "gpu.py", "--no-tests", "--batch", "2", "--timesteps", "2", "3", "-o", str(output),
        "--peer-python", sys.executable,
    ])  # fmt: skip
    assert benchmark.main() == 0
    printed = capsys.readouterr().out
    document = json.loads(output.read_text())
    names = [(entry["name"], entry["timesteps"]) for entry in document["rows"]]
    for compute in ("fp32", "tf32", "fp16"):
        assert (f"ANN, columns, {compute}", 1) in names
        assert {(f"onnx2snn, columns, {compute}", t) for t in (2, 3)} <= set(names)
    assert "| onnx2snn, columns, fp16 | 3 |" in printed
    assert "50 % of a copy" in printed
    assert "torch are left out" in printed or any("SpikingJelly" in name for name, _ in names)


def test_what_does_not_fit_into_the_time_is_named(benchmark):
    clock = benchmark.Clock(5)
    assert clock.allows("the first", 1)
    assert not clock.allows("the second", 60)
    assert clock.left_out == ["the second"]
