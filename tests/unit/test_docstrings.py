"""Docstrings say what a caller must know: arguments, shapes, errors, and where a law comes from."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

import onnx2snn
import onnx2snn_runtime

PACKAGES = (Path(onnx2snn.__file__).parent, Path(onnx2snn_runtime.__file__).parent)
FILES = [path for package in PACKAGES for path in sorted(package.rglob("*.py"))]
ERROR = re.compile(r"^\w+Error$|^Interrupted$")
ARRAYS = ("Array", "ndarray", "NDArray", "Floats")
SHAPE = re.compile(r"\[[^\]]*\w[^\]]*\]")
SOURCE = re.compile(r"IJCAI|Li & Zeng|Rueckauer|Horowitz|ICML|DESIGN|differential coding")


def public_functions(tree):
    """Functions and methods of a module, less those whose name, or whose class, is private."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                    yield f"{node.name}.{inner.name}", inner


def own_nodes(function):
    """Everything in a function but what its inner functions hold."""
    pending = list(ast.iter_child_nodes(function))
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.Lambda):
            pending.extend(ast.iter_child_nodes(node))


def raised(function):
    """Names of the errors that a function raises itself."""
    for node in own_nodes(function):
        if isinstance(node, ast.Raise) and node.exc is not None:
            target = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            name = target.id if isinstance(target, ast.Name) else getattr(target, "attr", "")
            if ERROR.match(name) and name != "AssertionError":
                yield name


def overrides(name):
    """Whether a method is documented where it is first declared: in a base class."""
    return name.rpartition(".")[2] in {"run", "compile", "scan", "faults", "unavailable"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(path.parts[-2:]))
def test_errors_and_arguments_are_named(path):
    missing = []
    for name, function in public_functions(ast.parse(path.read_text(encoding="utf-8"))):
        text = ast.get_docstring(function) or ""
        if not overrides(name):
            missing += [f"{name} raises {error}" for error in raised(function) if error not in text]
        arguments = function.args
        for entry in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
            said = re.search(rf"^\s+(\w+, )*{entry.arg}(, \w+)*:", text, re.MULTILINE)
            if "Args:" in text and entry.arg not in ("self", "cls") and not said:
                missing.append(f"{name} does not explain {entry.arg}")
    assert not missing


def api():
    """What the two packages offer by name, with the public methods of the classes."""
    for module in (onnx2snn, onnx2snn_runtime):
        for name in module.__all__:
            entry = getattr(module, name)
            if inspect.isclass(entry):
                yield f"{name}", entry
                yield from (
                    (f"{name}.{key}", value)
                    for key, value in vars(entry).items()
                    if inspect.isfunction(value) and not key.startswith("_")
                )
            elif callable(entry):
                yield name, entry


@pytest.mark.parametrize(("name", "entry"), list(api()), ids=[name for name, _ in api()])
def test_arrays_of_the_api_have_their_shape(name, entry):
    text = inspect.getdoc(entry) or ""
    assert text.splitlines()[0].endswith("."), name
    if inspect.isfunction(entry):
        takes = [str(p.annotation) for p in inspect.signature(entry).parameters.values()]
        gives = str(inspect.signature(entry).return_annotation)
        if any(kind in annotation for kind in ARRAYS for annotation in [*takes, gives]):
            assert SHAPE.search(text) or "as for ``run``" in text, name


@pytest.mark.parametrize("name", ["burst", "refine", "graded", "readout"])
def test_laws_name_their_source_and_formula(name):
    text = importlib.import_module(f"onnx2snn_runtime.neurons.{name}").__doc__
    assert "=" in text
    assert SOURCE.search(text)


def test_estimates_name_their_source():
    for name in ("energy.estimate", "conversion", "calibration.calibrate", "recipes"):
        assert importlib.import_module(f"onnx2snn.{name}").__doc__
    assert SOURCE.search(importlib.import_module("onnx2snn.energy.estimate").__doc__)
