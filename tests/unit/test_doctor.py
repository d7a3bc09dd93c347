"""``doctor`` on installations that are whole, double, broken and bare."""

import importlib.machinery
import importlib.metadata
import importlib.util
import sys
import types

import pytest

from onnx2snn.commands.doctor import findings, gpu_text, requirements
from onnx2snn_runtime.backends import backend_classes


def add_distribution(folder, name, package):
    """Metadata of a distribution that claims to own files of an import package."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "top_level.txt").write_text(f"{package}\n")


def test_every_backend_and_requirement_is_told():
    found = findings()
    assert set(found["backends"]) == set(backend_classes())
    assert found["backends"]["numpy"] == ""
    assert found["packages"] == {
        name: {"version": found["packages"][name]["version"], "needed_by": needed_by}
        for name, needed_by in requirements().items()
    }
    if requirements():  # installed, not only on the path
        assert requirements()["numpy"] == "base"
        assert requirements()["onnxruntime"] == "extra cpu"
        assert requirements()["matplotlib"] == "extra report"
        assert "pytest" not in requirements()
        assert found["packages"]["numpy"]["version"]


def test_a_package_of_several_extras(monkeypatch):
    lines = [
        "numpy>=1.26", "numba>=0.61; extra == 'cpu'", "numba>=0.61; extra == 'ort-gpu'",
        "cupy-cuda12x[ctk]>=14; extra == 'gpu-cu12'", "pytest>=8; extra == 'dev'",
    ]  # fmt: skip
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines)
    assert requirements() == {
        "numpy": "base", "numba": "extra cpu, ort-gpu", "cupy-cuda12x": "extra gpu-cu12",
    }  # fmt: skip


def test_a_machine_without_a_gpu_says_what_to_install():
    found = findings()["gpu"]
    if not found["why_not"]:
        assert found["device"]["name"] and found["engines"]["columns"] == ""
        return
    assert found["device"] is None
    assert "CuPy" in found["why_not"]
    if importlib.util.find_spec("cupy") is None:
        assert "pip install 'onnx2snn[gpu]'" in found["why_not"]
    text = gpu_text(found)
    assert text.startswith("none, ")


def test_a_gpu_is_described():
    text = gpu_text({
        "why_not": "",
        "device": {"name": "A card", "memory_bytes": 80 * 10**9, "driver": "13.0",
                   "cupy": "14.2.0", "runtime": "13.0"},
        "engines": {"cudnn": "not installed", "columns": ""},
    })  # fmt: skip
    assert text.startswith("A card with 80 GB, driver for CUDA 13.0")
    assert text.endswith("engine cudnn: not installed; engine columns: works")


def test_two_runtimes_over_each_other(tmp_path, monkeypatch):
    for name in ("onnxruntime", "onnxruntime-gpu"):
        add_distribution(tmp_path, name, "onnxruntime")
    monkeypatch.syspath_prepend(tmp_path)
    (problem,) = [text for text in findings()["problems"] if "over each other" in text]
    assert "onnxruntime and onnxruntime-gpu" in problem
    assert "pip uninstall onnxruntime onnxruntime-gpu" in problem


def test_two_cupys_over_each_other(tmp_path, monkeypatch):
    for name in ("cupy-cuda12x", "cupy-cuda13x"):
        add_distribution(tmp_path, name, "cupy")
    monkeypatch.syspath_prepend(tmp_path)
    assert any("cupy-cuda12x and cupy-cuda13x" in text for text in findings()["problems"])


def test_a_runtime_of_which_half_is_left(tmp_path, monkeypatch):
    """What remains after one of two was uninstalled: a folder that imports and holds nothing."""
    add_distribution(tmp_path, "onnxruntime", "onnxruntime")
    monkeypatch.syspath_prepend(tmp_path)
    broken = types.ModuleType("onnxruntime")
    broken.__spec__ = importlib.machinery.ModuleSpec("onnxruntime", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", broken)
    found = findings()
    assert found["onnxruntime"] is None
    assert "fails" in found["backends"]["onnxruntime"]
    assert any("cannot be imported" in text for text in found["problems"])


def test_a_bare_installation(monkeypatch):
    real = importlib.util.find_spec

    def find(name, package=None):
        return None if name in ("onnxruntime", "numba", "cupy") else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = findings()
    assert "pip install 'onnx2snn[cpu]'" in found["backends"]["onnxruntime"]
    assert found["auto"].startswith("numpy is preferred here")
    assert "onnxruntime" in found["auto"]


def test_a_gpu_wheel_that_runs_on_the_cpu(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    add_distribution(tmp_path, "onnxruntime-gpu", "onnxruntime")
    monkeypatch.setattr(
        importlib.metadata, "packages_distributions",
        lambda: {"onnxruntime": ["onnxruntime-gpu"], "numba": ["numba"]},
    )  # fmt: skip
    assert any("no CUDA provider" in text for text in findings()["problems"])
