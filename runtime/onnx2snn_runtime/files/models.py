"""The only door to disk: models and arrays come in checked, files go out whole or not at all.

Nothing that is read here is unpickled, executed or followed to another folder.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError, EncodeError  # type: ignore[import-untyped]

from onnx2snn_runtime.errors import ModelError
from onnx2snn_runtime.files.arrays import load_arrays
from onnx2snn_runtime.files.beside import (
    LARGE_MODEL,
    array_of,
    brought_back,
    is_beside,
    refer,
    without_weights,
)
from onnx2snn_runtime.files.disk import (
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
from onnx2snn_runtime.files.external_data import load_external
from onnx2snn_runtime.files.limits import current
from onnx2snn_runtime.files.model_checks import check_model, check_versions_and_names
from onnx2snn_runtime.files.sniffing import SAVED_MODEL_ADVICE, FileKind
from onnx2snn_runtime.files.tensor_checks import byte_count

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
MAX_SINGLE_FILE_BYTES = LARGE_MODEL
_EXTERNAL_FROM_BYTES = 1024
_ALIGNMENT = 64


def load_model(path: StrPath, *, max_bytes: int | None = None) -> onnx.ModelProto:
    """Read an ONNX file with its external data, and refuse what is broken.

    Args:
        path: the file; external data is read from its folder only, never through links.
        max_bytes: limit on the file and its external data together; default: see `limits`.

    Returns:
        The model as it was written: nodes may be in any order. All weights are in memory; those of
        a large model are mapped from its files where they are large (see `beside`).

    Raises:
        ModelError: the file is missing, is no ONNX file or breaks a check of `check_model`.
        StorageError: the disk fails or the file may not be read.
    """
    path = Path(path)
    refuse_folder(path)
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
    load_external(model, path, max_bytes - size)
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


def refuse_folder(path: Path) -> None:
    """Say what to give instead of a folder.

    Raises:
        ModelError: it is one, or there is nothing.
    """
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
        elif any(is_beside(tensor) for tensor in model.graph.initializer):
            model = brought_back(model)
        content = model.SerializeToString(deterministic=True)
    except (EncodeError, ValueError) as problem:
        raise ModelError(
            f"{shown(path.name)} cannot be written as ONNX: {problem}",
            advice="a file holds at most 2 GiB besides its initializers",
        ) from problem
    write_bytes_atomic(path, content)


def _with_external_data(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Write the large initializers beside the model; a model that refers to them."""
    slim = without_weights(model)
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
        length = byte_count(tensor)
        refer(entry, location, offset, length)
        offset += length
    return slim


def _external_chunks(tensors: Iterable[onnx.TensorProto]) -> Iterator[bytes | memoryview]:
    """The content of the data file: raw values, each from a multiple of the alignment."""
    offset = 0
    for tensor in tensors:
        padding = -offset % _ALIGNMENT
        yield b"\0" * padding
        raw = _raw(tensor)
        yield raw
        offset += padding + len(raw)


def _raw(tensor: onnx.TensorProto) -> bytes | memoryview:
    """The bytes of a tensor as raw data; those beside the message are not copied."""
    if is_beside(tensor):
        return np.ascontiguousarray(array_of(tensor)).reshape(-1).view(np.uint8).data
    if tensor.HasField("raw_data"):
        return bytes(tensor.raw_data)
    return bytes(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor)).raw_data)
