"""The only door to disk: models and arrays come in checked, files go out whole or not at all.

Nothing that is read here is unpickled, executed or followed to another folder.
"""

import hashlib
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError, EncodeError  # type: ignore[import-untyped]

from onnx2snn_runtime.arrays import load_arrays
from onnx2snn_runtime.disk import (
    StrPath,
    atomic_writer,
    check_writable,
    read_bytes_checked,
    shown,
    sniff,
    stat_path,
    write_bytes_atomic,
    write_text_atomic,
)
from onnx2snn_runtime.errors import Finding, ModelError, StorageError
from onnx2snn_runtime.limits import current
from onnx2snn_runtime.model_checks import check_model, check_versions_and_names
from onnx2snn_runtime.sniffing import SAVED_MODEL_ADVICE, FileKind
from onnx2snn_runtime.tensor_checks import (
    Stored,
    all_tensors,
    at,
    byte_count,
    is_external,
    tensor_findings,
)

__all__ = [
    "MAX_SINGLE_FILE_BYTES",
    "check_writable",
    "load_arrays",
    "load_model",
    "parse_model",
    "read_bytes_checked",
    "save_model",
    "sniff",
    "write_bytes_atomic",
    "write_text_atomic",
]

_PROTOBUF_LIMIT = 2**31 - 1
# Above this a model is written with external data.
MAX_SINGLE_FILE_BYTES = 3 * 2**29
_EXTERNAL_FROM_BYTES = 1024
_ALIGNMENT = 64
_EXTERNAL_KEYS = frozenset({"location", "offset", "length", "checksum", "basepath"})


def load_model(path: StrPath, *, max_bytes: int | None = None) -> onnx.ModelProto:
    """Read an ONNX file with its external data, and refuse what is broken.

    Args:
        path: the file; external data is read from its folder only, never through links.
        max_bytes: limit on the file and its external data together; default: see `limits`.

    Returns:
        The model with all weights in memory, as it was written: nodes may be in any order.

    Raises:
        ModelError: the file is missing, is no ONNX file or breaks a check of `check_model`.
        StorageError: the disk fails or the file may not be read.
    """
    path = Path(path)
    _refuse_folder(path)
    kind = sniff(path, ModelError)
    if kind is not None and kind.name not in {"text", "bmp"}:
        raise _not_onnx(path, kind)
    max_bytes = current().model_bytes if max_bytes is None else max_bytes
    limit = min(max_bytes, _PROTOBUF_LIMIT)
    content = read_bytes_checked(path, ModelError, max_bytes=limit)
    try:
        model = parse_model(content, shown(path.name))
    except ModelError as problem:
        if kind is not None:
            raise _not_onnx(path, kind) from problem
        raise
    size = len(content)
    del content
    check_versions_and_names(model, shown(path.name))
    _load_external(model, path, max_bytes - size)
    check_model(model, shown(path.name))
    return model


def parse_model(content: bytes, name: str = "the model") -> onnx.ModelProto:
    """Bytes of an ONNX file as a model; external data is not read and nothing is checked yet.

    Raises:
        ModelError: the bytes are not ONNX.
    """
    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError, RuntimeError) as problem:
        raise ModelError(
            f"{name} is not an ONNX file, or it is damaged ({len(content):,} bytes; {problem})",
            advice="if it was downloaded or copied, do that again; else export it again",
        ) from problem
    if not model.HasField("graph"):
        raise ModelError(
            f"{name} holds no graph: it is not an ONNX model",
            advice="export the network to ONNX; a TensorFlow .pb is not ONNX: "
            "python -m tf2onnx.convert --graphdef m.pb --inputs x:0 --outputs y:0 --output m.onnx",
        )
    return model


def _refuse_folder(path: Path) -> None:
    stat_path(path, ModelError)
    if not path.is_dir():
        return
    if (path / "saved_model.pb").is_file():
        advice = SAVED_MODEL_ADVICE.replace("FOLDER", shown(path))
        raise ModelError(f"{shown(path)} is a TensorFlow SavedModel, not ONNX", advice=advice)
    models = sorted(entry.name for entry in path.glob("*.onnx"))
    advice = f"it holds: {', '.join(map(shown, models[:5]))}" if models else "give the .onnx file"
    raise ModelError(f"{shown(path)} is a folder, not an ONNX file", advice=advice)


def _not_onnx(path: Path, kind: FileKind) -> ModelError:
    return ModelError(f"{shown(path)} is not ONNX: this is {kind.text}", advice=kind.advice)


def _load_external(model: onnx.ModelProto, path: Path, budget: int) -> None:
    """Read external data in place, through onnx's own gate, after checks of every size."""
    external = [stored for stored in all_tensors(model) if is_external(stored.tensor)]
    findings: list[Finding] = []
    for stored in external:
        findings += _external_findings(stored)
    total = sum(byte_count(stored.tensor) for stored in external)
    if not findings and total > budget:
        raise ModelError(
            f"{shown(path.name)} needs {total:,} bytes of external data; "
            f"{max(budget, 0):,} are left of the limit"
        )
    if not findings:
        for tensor, place, _ in external:
            findings += _read_external(tensor, place, path.parent)
    if findings:
        raise ModelError(f"external data of {shown(path.name)} cannot be read", findings)


def _external_findings(stored: Stored) -> list[Finding]:
    """What is wrong with an entry of external data, before any file is touched."""
    tensor, place, is_sparse = stored
    if is_sparse:  # onnx's gate does not look at these
        return [at(place, "a sparse tensor with external data", "store it dense")]
    if tensor.data_type == onnx.TensorProto.STRING:
        return [at(place, "strings cannot be external data")]
    findings = list(tensor_findings(tensor, place))
    if findings:
        return findings
    entries = {entry.key: entry.value for entry in tensor.external_data}
    unknown = sorted(set(map(str, entries)) - _EXTERNAL_KEYS)
    if unknown:
        return [at(place, f"unknown key of external data: {shown(unknown[0])}", "export it again")]
    expected = byte_count(tensor)
    try:
        length = int(entries.get("length", expected))
    except ValueError:
        return [at(place, f"length {shown(entries['length'], 40)!r} is no number")]
    if length != expected:
        why = f"dimensions {list(tensor.dims)} need {expected:,} bytes, the entry says {length:,}"
        return [at(place, why, "the file is damaged: export it again")]
    if "length" not in entries:
        # Without a length everything to the end of the file would be read.
        tensor.external_data.add(key="length", value=str(expected))
    return []


def _read_external(tensor: onnx.TensorProto, place: Finding, folder: Path) -> list[Finding]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(folder))
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as problem:
        text = shown(problem, 600)
        advice = "copy the file that the tensor names into the folder of the model"
        if "link" in text:
            advice = "links are not followed: copy the files into a plain folder (cp -L)"
        elif "outside" in text or "absolute" in text:
            advice = "external data must lie in the folder of the model"
        return [at(place, text, advice)]
    except OSError as problem:
        raise StorageError(f"cannot read external data: {problem.strerror or problem}") from problem
    return []


def save_model(model: onnx.ModelProto, path: StrPath) -> None:
    """Write a model: the path then holds all of it, or what it held before.

    The same model gives the same bytes. Above `MAX_SINGLE_FILE_BYTES` the weights go to a file
    beside it, named by its content; it is complete before the model that refers to it appears. A
    data file of an earlier version under the same name is left alone.

    Raises:
        StorageError: the folder is missing, the disk is full, no permission.
        ModelError: the model cannot be serialised.
    """
    path = Path(path)
    stored = sum(byte_count(tensor) for tensor in model.graph.initializer)
    try:
        if stored > MAX_SINGLE_FILE_BYTES:
            model = _with_external_data(model, path)
        content = model.SerializeToString(deterministic=True)
    except (EncodeError, ValueError) as problem:
        raise ModelError(
            f"{shown(path.name)} cannot be written as ONNX: {problem}",
            advice="a file holds at most 2 GiB besides its initializers",
        ) from problem
    write_bytes_atomic(path, content)


def _with_external_data(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Write the large initializers beside the model; a model that refers to them."""
    slim = onnx.ModelProto()
    _copy_fields(model, slim, skipped="graph")
    _copy_fields(model.graph, slim.graph, skipped="initializer")
    large: list[tuple[onnx.TensorProto, onnx.TensorProto]] = []
    for tensor in model.graph.initializer:
        if byte_count(tensor) < _EXTERNAL_FROM_BYTES:
            slim.graph.initializer.add().CopyFrom(tensor)
        else:
            entry = slim.graph.initializer.add(
                name=tensor.name, data_type=tensor.data_type, dims=tensor.dims
            )
            large.append((tensor, entry))
    digest = hashlib.sha256()
    for chunk in _external_chunks(tensor for tensor, _ in large):
        digest.update(chunk)
    location = f"{path.name}.{digest.hexdigest()[:16]}.data"
    with atomic_writer(path.with_name(location), names_content=True) as stream:
        for chunk in _external_chunks(tensor for tensor, _ in large):
            stream.write(chunk)
    offset = 0
    for tensor, entry in large:
        offset = -(-offset // _ALIGNMENT) * _ALIGNMENT
        entry.data_location = onnx.TensorProto.EXTERNAL
        length = byte_count(tensor)
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            entry.external_data.add(key=key, value=str(value))
        offset += length
    return slim


def _external_chunks(tensors: Iterable[onnx.TensorProto]) -> Iterator[bytes]:
    """The content of the data file: raw values, each from a multiple of the alignment."""
    offset = 0
    for tensor in tensors:
        padding = -offset % _ALIGNMENT
        yield b"\0" * padding
        if tensor.HasField("raw_data"):
            raw = tensor.raw_data
        else:
            raw = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor)).raw_data
        yield raw
        offset += padding + len(raw)


def _copy_fields(source: Any, target: Any, *, skipped: str) -> None:
    """Copy all fields of a message but one."""
    for field, value in source.ListFields():
        if field.name == skipped:
            continue
        if hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        elif hasattr(value, "CopyFrom"):
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)
