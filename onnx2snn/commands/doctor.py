"""``onnx2snn doctor``: what is installed, what is missing, which backends work and why not."""

import argparse
import importlib.metadata
import json
import platform
import sys
from typing import Any

from onnx2snn import __version__
from onnx2snn.console import print_out, print_table
from onnx2snn_runtime.backends import backend_classes, open_backend

PACKAGES = {
    "numpy": "base", "onnx": "base", "onnx-ir": "base", "onnxscript": "base", "rich": "base",
    "pillow": "base", "onnxruntime": "extra cpu", "numba": "extra cpu",
    "onnxruntime-gpu": "extra gpu", "cupy-cuda13x": "extra gpu", "matplotlib": "extra report",
    "jinja2": "extra report",
}  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Print the findings."""
    found = findings()
    if options.json:
        print_out(json.dumps(found))
        return 0
    rows = [[name, entry["version"] or "missing", entry["needed_by"]]
            for name, entry in found["packages"].items()]  # fmt: skip
    print_table(f"onnx2snn {__version__}, Python {found['python']}, {found['platform']}",
                ["package", "version", "belongs to"], rows)  # fmt: skip
    print_table("backends", ["backend", "state"],
                [[name, why or "works"] for name, why in found["backends"].items()])  # fmt: skip
    print_out(f"auto takes {found['auto']}")
    for problem in found["problems"]:
        print_out(f"problem: {problem}")
    return 0


def findings() -> dict[str, Any]:
    """Versions, backends and problems as JSON data."""
    packages = {
        name: {"version": _version(name), "needed_by": extra} for name, extra in PACKAGES.items()
    }
    problems = []
    if packages["onnxruntime"]["version"] and packages["onnxruntime-gpu"]["version"]:
        problems.append(
            "onnxruntime and onnxruntime-gpu are installed over each other; keep one: "
            "pip uninstall onnxruntime onnxruntime-gpu, then install the one you want"
        )
    return {
        "onnx2snn": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": packages,
        "backends": {name: entry.unavailable() for name, entry in backend_classes().items()},
        "auto": open_backend("auto")[1],
        "problems": problems,
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
