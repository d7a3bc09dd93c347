"""``onnx2snn doctor``: what is installed, what is missing, which backends work and why not."""

import argparse
import importlib
import importlib.metadata
import platform
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx

from onnx2snn import __version__
from onnx2snn.console import print_json, print_out, print_table
from onnx2snn_runtime.backends import Backend, backend_classes, open_backend
from onnx2snn_runtime.errors import Onnx2SnnError
from onnx2snn_runtime.gpu import ENGINES, survey
from onnx2snn_runtime.neurons import FAMILIES, Chunk, Signature

NOT_FOR_USERS = "dev"
SHARED_FOLDERS = ("onnxruntime", "cupy")  # import folders that several distributions own
_REQUIREMENT = re.compile(r"([\w.-]+).*?(?:;.*extra\s*==\s*['\"]([\w-]+)['\"])?")
GIGABYTE = 1e9


def run(options: argparse.Namespace) -> int:
    """Print the findings."""
    found = findings()
    if options.json:
        print_json(found)
        return 0
    rows = [[name, entry["version"] or "missing", entry["needed_by"]]
            for name, entry in found["packages"].items()]  # fmt: skip
    print_table(f"onnx2snn {__version__}, Python {found['python']}, {found['platform']}",
                ["package", "version", "belongs to"], rows)  # fmt: skip
    print_table("backends", ["backend", "state"],
                [[name, why or "works"] for name, why in found["backends"].items()])  # fmt: skip
    print_out(f"auto: {found['auto']}")
    if found["onnxruntime"]:
        engine = found["onnxruntime"]
        print_out(f"onnxruntime {engine['version']} by {', '.join(engine['installed_by'])}, "
                  f"providers {', '.join(engine['providers'])}")  # fmt: skip
    print_out(f"GPU: {gpu_text(found['gpu'])}")
    for problem in found["problems"]:
        print_out(f"problem: {problem}")
    if not found["problems"]:
        print_out("no problems found")
    return 0


def findings() -> dict[str, Any]:
    """Versions, backends and problems as JSON data."""
    packages = {
        name: {"version": _version(name), "needed_by": extra}
        for name, extra in requirements().items()
    }
    owners = {folder: owners_of(folder) for folder in SHARED_FOLDERS}
    engine = describe_onnxruntime(owners["onnxruntime"])
    backends = {name: why_not(name) for name in backend_classes()}
    return {
        "onnx2snn": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "onnxruntime": engine,
        "gpu": survey(ENGINES),
        "backends": backends,
        "auto": open_backend("auto")[1],
        "problems": list(problems(packages, owners, engine, backends)),
    }


def requirements() -> dict[str, str]:
    """What the installed distribution asks for: package to ``base`` or its extra."""
    try:
        lines = importlib.metadata.requires("onnx2snn") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    extras: dict[str, list[str]] = {}
    for line in lines:
        match = _REQUIREMENT.fullmatch(line)
        if match and match[2] != NOT_FOR_USERS:
            extras.setdefault(match[1], []).append(match[2] or "")
    return {
        name: "base" if "" in asking else f"extra {', '.join(asking)}"
        for name, asking in extras.items()
    }


def gpu_text(found: dict[str, Any]) -> str:
    """One line about the GPU and what convolves on it."""
    if found["why_not"]:
        return f"none, {found['why_not']}"
    device = found["device"]
    engines = "; ".join(
        f"engine {name}: {why or 'works'}" for name, why in found["engines"].items()
    )
    return (
        f"{device['name']} with {device['memory_bytes'] / GIGABYTE:.0f} GB, driver for CUDA "
        f"{device['driver']}, CuPy {device['cupy']} for CUDA {device['runtime']}; {engines}"
    )


def owners_of(folder: str) -> list[str]:
    """Distributions that have files in an import folder; more than one overwrite each other."""
    return sorted(set(importlib.metadata.packages_distributions().get(folder, [])))


def describe_onnxruntime(installed_by: list[str]) -> dict[str, Any] | None:
    """The onnxruntime that an import gives, or None if there is none that can be imported."""
    try:
        module = importlib.import_module("onnxruntime")
        providers = list(module.get_available_providers())
        version = str(module.__version__)
    except (ImportError, AttributeError, OSError):
        return None
    return {"version": version, "installed_by": installed_by, "providers": providers}


def why_not(name: str) -> str:
    """Why a backend does not work, empty if it does: it must compute rightly."""
    reason = backend_classes()[name].unavailable()
    if reason:
        return reason
    try:
        backend, _ = open_backend(name)
        is_right = trial(backend)
    except (Onnx2SnnError, ImportError, AttributeError, OSError, RuntimeError) as error:
        return f"it is installed but fails: {type(error).__name__}: {error}"
    return "" if is_right else "it is installed but computes wrongly"


def trial(backend: Backend) -> bool:
    """Whether a convolution, max(x, 0) and a running mean come out right."""
    make = onnx.helper.make_tensor_value_info
    sizes: list[str | int | None] = ["N", 1, 2]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["x", "w"], ["current"]),
         onnx.helper.make_node("Relu", ["current"], ["y"])],
        "trial",
        [make("x", onnx.TensorProto.FLOAT, sizes)], [make("y", onnx.TensorProto.FLOAT, sizes)],
        [onnx.numpy_helper.from_array(np.full((1, 1, 1), 2, np.float32), "w")],
    )  # fmt: skip
    opsets = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    rectified = backend.compile(model)({"x": np.array([[[-1, 2]]], np.float32)})["y"]
    steps, state = (
        backend.to_device(np.array(values, np.float32)) for values in ([[1, 2], [3, 4]], [0, 0])
    )
    chunk = Chunk([steps], None, [state], 1, evaluate=lambda arrays: arrays[0])
    means = backend.to_host(backend.scan(FAMILIES["Readout"](Signature("Identity")), chunk))
    return bool(np.all(rectified == [[[0, 4]]]) and np.all(means == [[1, 2], [2, 3]]))


def problems(
    packages: dict[str, dict[str, str | None]],
    owners: dict[str, list[str]],
    engine: dict[str, Any] | None,
    backends: dict[str, str],
) -> Iterator[str]:
    """What should be mended, one sentence each with what to do."""
    if not packages:
        yield "onnx2snn is not installed, only found on the path: pip install -e ."
    for name, entry in packages.items():
        if entry["needed_by"] == "base" and entry["version"] is None:
            yield f"{name} is missing: pip install {name}"
    for folder, names in owners.items():
        if len(names) > 1:
            yield (
                f"{' and '.join(names)} are installed over each other in the folder {folder}; "
                f"keep one: pip uninstall {' '.join(names)}, then install the one you want"
            )
    if owners["onnxruntime"] and engine is None:
        yield (
            f"{', '.join(owners['onnxruntime'])} cannot be imported: "
            f"pip install --force-reinstall {owners['onnxruntime'][0]}"
        )
    offered = engine["providers"] if engine else ["CUDAExecutionProvider"]
    if owners["onnxruntime"] == ["onnxruntime-gpu"] and "CUDAExecutionProvider" not in offered:
        yield "onnxruntime-gpu is installed but offers no CUDA provider: it runs on the CPU"
    for name, why in backends.items():
        if why.startswith("it is installed"):
            yield f"backend {name}: {why}"
    if engine is not None and not owners_of("numba"):
        yield "numba is missing: spiking laws run unfused and slower (pip install 'onnx2snn[cpu]')"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
