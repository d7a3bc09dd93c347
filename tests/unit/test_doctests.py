"""The examples in docstrings do what they show."""

import doctest
import importlib
import pkgutil

import pytest

import onnx2snn
import onnx2snn_runtime

MODULES = [
    module.name
    for package in (onnx2snn, onnx2snn_runtime)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    try:
        module = importlib.import_module(name)
    except ImportError as missing:
        pytest.skip(f"needs {missing.name}")
    assert doctest.testmod(module).failed == 0


def test_there_are_some():
    finder = doctest.DocTestFinder()
    modules = [importlib.import_module(name) for name in MODULES if "gpu" not in name]
    assert sum(len(test.examples) for module in modules for test in finder.find(module)) >= 20
