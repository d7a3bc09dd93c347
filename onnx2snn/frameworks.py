"""Live networks of PyTorch and Keras, and their files: exported to ONNX, then converted.

The frameworks are imported when they are needed; onnx2snn does not depend on them.
"""

import contextlib
import importlib
import inspect
import io
import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnx2snn.spiking_model import SpikingModel
from onnx2snn_runtime.errors import Finding, ModelError, UsageError

LEGACY_OPSET = 17
TORCH_ADVICE = (
    "export it where PyTorch is installed: torch.onnx.export(torch.export.load({name!r}), "
    "dynamo=True).save('model.onnx'); or pip install torch onnxscript"
)
KERAS_ADVICE = (
    "export it where Keras is installed: keras.models.load_model({name!r})"
    ".export('model.onnx', format='onnx'); or pip install keras tensorflow-cpu tf2onnx"
)


def from_torch(module: Any, example_inputs: Any, **options: Any) -> SpikingModel:
    """Turn a PyTorch network into a spiking network.

    Args:
        module: ``torch.nn.Module``; it is exported in evaluation mode and left as it was.
        example_inputs: a tensor [N,*] or a tuple of them, for the shapes.
        **options: of ``onnx2snn.convert``.

    Raises:
        UsageError: PyTorch is not installed, or an example is no tensor.
        ModelError: none of its exporters can export the network.
        Onnx2SnnError: as ``onnx2snn.convert``.
    """
    return _through_file(lambda path: export_torch(module, example_inputs, path), options)


def from_keras(model: Any, **options: Any) -> SpikingModel:
    """Turn a Keras network into a spiking network.

    Args:
        model: ``keras.Model`` with known inputs.
        **options: of ``onnx2snn.convert``.

    Raises:
        UsageError: Keras is not installed.
        ModelError: Keras cannot export the network.
        Onnx2SnnError: as ``onnx2snn.convert``.
    """
    return _through_file(lambda path: export_keras(model, path), options)


def _through_file(export: Callable[[Path], None], options: dict[str, Any]) -> SpikingModel:
    from onnx2snn import convert

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export(path)
        return convert(path, **options)


def export_torch(module: Any, example_inputs: Any, path: Path) -> None:
    """Write a PyTorch network as ONNX with a free batch: by dynamo, else by the legacy exporter.

    Raises:
        UsageError: ``example_inputs`` is no tensor and no tuple of them.
        ModelError: no exporter takes the network; with what each of them says.
    """
    torch = _framework("torch", "torch onnxscript")
    module = getattr(module, "_orig_mod", module)  # what torch.compile has wrapped
    given = example_inputs if isinstance(example_inputs, tuple | list) else (example_inputs,)
    if not given or not all(isinstance(item, torch.Tensor) and item.ndim for item in given):
        kinds = ", ".join(type(item).__name__ for item in given) or "nothing"
        raise UsageError(f"example_inputs must be a tensor [N,*] or a tuple of them, got {kinds}")
    # two rows: the exporters take a batch of one for a constant
    examples = tuple(torch.cat([item, item]) if len(item) == 1 else item for item in given)
    names = input_names(module, len(examples))

    def dynamo() -> None:
        batch = torch.export.Dim("N")
        program = torch.onnx.export(
            module, examples, dynamo=True, input_names=names, verbose=False,
            dynamic_shapes=tuple({0: batch} for _ in examples),
        )  # fmt: skip
        program.save(str(path))

    def legacy() -> None:
        torch.onnx.export(
            module, examples, str(path), dynamo=False, input_names=names,
            opset_version=LEGACY_OPSET, dynamic_axes={name: {0: "N"} for name in names},
        )  # fmt: skip

    with _evaluating(module):
        _first_that_works({"dynamo": dynamo, "legacy": legacy}, "PyTorch's {} exporter")


def input_names(module: Any, count: int) -> list[str]:
    """``input``, of several the names of the arguments of ``forward``."""
    if count == 1:
        return ["input"]
    named = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    known = [item.name for item in inspect.signature(module.forward).parameters.values()
             if item.kind in named]  # fmt: skip
    return known[:count] if len(known) >= count else [f"input_{k}" for k in range(count)]


def export_keras(model: Any, path: Path) -> None:
    """Write a Keras network as ONNX.

    Raises:
        UsageError: ``model`` is no Keras model.
        ModelError: no exporter takes it; with what each of them says.
    """
    keras = _framework("keras", "keras tensorflow-cpu tf2onnx")
    if not hasattr(model, "export"):
        raise UsageError(f"from_keras takes a keras.Model, got {type(model).__name__}")

    def export() -> None:
        # of a model whose class is the user's own Keras knows it once it was called
        signature = None
        if getattr(model, "inputs", None):
            signature = keras.tree.map_structure(
                lambda value: keras.InputSpec(
                    shape=value.shape, dtype=value.dtype, name=value.name
                ),
                model.inputs if len(model.inputs) == 1 else [model.input],
            )
        with _constant_normalisations(model), _without_xla():
            model.export(str(path), format="onnx", verbose=False, input_signature=signature)

    _first_that_works({"ONNX": export}, "Keras' {} exporter")


def export_file(source: Path, target: Path) -> None:
    """Write the network in a ``.keras``, ``.h5`` or ``.pt2`` file as ONNX.

    Code in the file is not run: Keras loads in its safe mode, PyTorch without pickled objects.

    Raises:
        ModelError: the framework is missing (with the command to export), or refuses the file.
    """
    advice, load = {
        ".keras": (KERAS_ADVICE, _load_keras),
        ".h5": (KERAS_ADVICE, _load_keras),
        ".pt2": (TORCH_ADVICE, _load_pt2),
    }[source.suffix.lower()]
    advice = advice.format(name=source.name)
    try:
        export = load(source)
    except UsageError as missing:
        raise ModelError(f"{source.name}: {missing.message}", advice=advice) from missing
    except Exception as error:
        raise ModelError(f"{source.name} cannot be loaded: {_first_line(error)}",
                         advice=advice) from error  # fmt: skip
    export(target)


FILES = (".keras", ".h5", ".pt2")
"""Suffixes that `export_file` knows."""


def _load_keras(source: Path) -> Callable[[Path], None]:
    keras = _framework("keras", "keras tensorflow-cpu tf2onnx")
    model = keras.models.load_model(str(source), compile=False, safe_mode=True)
    return lambda path: export_keras(model, path)


def _load_pt2(source: Path) -> Callable[[Path], None]:
    torch = _framework("torch", "torch onnxscript")
    switch = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # else PyTorch may fall back to unpickling objects
    before = os.environ.get(switch)
    os.environ[switch] = "1"
    try:
        program = torch.export.load(str(source))
    finally:
        os.environ.pop(switch)
        if before is not None:
            os.environ[switch] = before

    def export(path: Path) -> None:
        def dynamo() -> None:
            torch.onnx.export(program, dynamo=True, verbose=False).save(str(path))

        _first_that_works({"dynamo": dynamo}, "PyTorch's {} exporter")

    return export


def _framework(name: str, packages: str) -> Any:
    """Import a framework.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(f"{name} is not installed", advice=f"pip install {packages}") from error


def _first_that_works(ways: dict[str, Callable[[], None]], title: str) -> None:
    """Try ways to export, silently.

    Raises:
        ModelError: none works, with the reasons of all.
    """
    findings = []
    for name, export in ways.items():
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)
        quiet = io.StringIO()
        try:
            with (
                warnings.catch_warnings(record=True) as told,
                contextlib.redirect_stdout(quiet),
                contextlib.redirect_stderr(quiet),
            ):
                warnings.simplefilter("always")
                export()
        except Exception as error:  # exporters raise whatever their internals raise
            findings.append(Finding(f"{title.format(name)}: {_first_line(error)}"))
        else:
            warn_of_tracing(told, findings)
            return
        finally:
            logging.disable(level)
    raise ModelError("the network cannot be exported to ONNX", findings,
                     advice="change what the exporter names, or export it yourself")  # fmt: skip


def warn_of_tracing(told: Sequence[warnings.WarningMessage], refusals: Sequence[Finding]) -> None:
    """Say what an exporter that follows one example has taken for constant.

    A choice by the data becomes one of its branches, which other images may not take.
    """
    places = ", ".join(dict.fromkeys(
        f"{Path(item.filename).name}:{item.lineno}"
        for item in told if item.category.__name__ == "TracerWarning"
    ))  # fmt: skip
    if places:
        refused = "".join(f"; {finding.why}" for finding in refusals)
        warnings.warn(
            f"the exporter took for constant what the data may decide ({places}): on other images "
            f"the network may answer otherwise{refused}", UserWarning, stacklevel=2,
        )  # fmt: skip


def _first_line(error: BaseException) -> str:
    """What began it, without the colours of a terminal."""
    while error.__cause__ is not None:
        error = error.__cause__
    plain = re.sub("\x1b\\[[0-9;]*m", "", str(error)).strip()
    return f"{type(error).__name__}: {(plain.splitlines() or [''])[0][:300]}"


@contextlib.contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """The module in evaluation mode, afterwards every part of it as before."""
    if not hasattr(module, "modules"):
        raise UsageError(f"from_torch takes a torch.nn.Module, got {type(module).__name__}")
    before = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in before.items():
            part.training = training


@contextlib.contextmanager
def _constant_normalisations(model: Any) -> Iterator[None]:
    """The tensors of Normalization layers as arrays: of tensors tf2onnx makes graph inputs."""
    flatten = getattr(model, "_flatten_layers", None)
    layers = [
        layer for layer in (flatten() if flatten else ())
        if type(layer).__name__ == "Normalization"
    ]  # fmt: skip
    before = [(layer, layer.mean, layer.variance) for layer in layers]
    for layer in layers:
        layer.mean, layer.variance = np.asarray(layer.mean), np.asarray(layer.variance)
    try:
        yield
    finally:
        for layer, mean, variance in before:
            layer.mean, layer.variance = mean, variance


@contextlib.contextmanager
def _without_xla() -> Iterator[None]:
    """No function of TensorFlow is left to XLA, as Keras leaves grouped convolutions.

    Such a function is not inlined, and tf2onnx keeps the call, which is no operator of ONNX.
    """
    tensorflow: Any = sys.modules.get("tensorflow")
    if tensorflow is None:  # Keras runs on another framework
        yield
        return
    function = tensorflow.function

    def inlined(*arguments: Any, **options: Any) -> Any:
        return function(*arguments, **{**options, "jit_compile": None})

    tensorflow.function = inlined
    try:
        yield
    finally:
        tensorflow.function = function
