"""A journal of a long evaluation: what was counted so far survives a killed process.

One file per evaluation, named by a key of everything that its result depends on. It is only
appended to: a header, then a line per batch with all totals so far, each behind a checksum of
itself. A line that a killed process left half written fails its checksum and is cut off; the line
before it is where the evaluation goes on. Totals are whole numbers, or sums
image by image, so they do not depend on where it was cut. The file is locked while in use; the lock
ends with the process, however it ends.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import onnx

from onnx2snn import __version__
from onnx2snn_runtime.errors import StorageError, UsageError
from onnx2snn_runtime.files.beside import array_of, is_beside
from onnx2snn_runtime.files.disk import StrPath, shown, sync_folder

FORMAT = 3
_CHECKSUM_LETTERS = 16
_MAX_LINE_BYTES = 64 * 2**20


def model_digest(model: onnx.ModelProto) -> str:
    """Hash of a network, of any size."""
    digest = hashlib.sha256()
    graph = model.graph
    parts = (graph.input, graph.output, graph.initializer, graph.node, model.functions,
             model.metadata_props, model.opset_import)  # fmt: skip
    for messages in parts:
        for message in messages:
            if isinstance(message, onnx.TensorProto) and is_beside(message):
                values = np.ascontiguousarray(array_of(message))
                digest.update(f"{message.name}{message.data_type}{message.dims}".encode())
                digest.update(hashlib.sha256(values.reshape(-1).view(np.uint8).data).digest())
                continue
            digest.update(hashlib.sha256(message.SerializeToString(deterministic=True)).digest())
        digest.update(b"|")
    return digest.hexdigest()


def make_key(settings: Mapping[str, Any]) -> str:
    """Hash of everything that the result of an evaluation depends on, and of our version."""
    document = {"format": FORMAT, "onnx2snn": __version__, **settings}
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def journal_path(model: StrPath, key: str) -> Path:
    """Where the journal of an evaluation lies: beside the network."""
    path = Path(model)
    return path.with_name(f"{path.name[:180]}.{key[:16]}.journal")


class Journal:
    """The open journal of one evaluation; a context manager.

    Args:
        path: the file; made if it is missing.
        key: see `make_key`.

    Attributes:
        state: the totals of the last whole line, or None if there is none.

    Raises:
        UsageError: the file is the journal of another evaluation.
        StorageError: another process uses it, or the disk refuses.
    """

    def __init__(self, path: StrPath, key: str) -> None:
        self.path = Path(path)
        self.key = key
        self.state: dict[str, Any] | None = None
        self._stream: IO[bytes] | None = None

    def __enter__(self) -> "Journal":
        try:
            self._stream = self._open()
            self._read(self._stream)
        except OSError as problem:
            self.close()
            raise StorageError(
                f"cannot keep the journal {shown(self.path)}: {problem.strerror or problem}"
            ) from problem
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def append(self, state: dict[str, Any]) -> None:
        """Write the totals so far; they are on the disk when this returns."""
        self._write({"state": state})
        self.state = state

    def remove(self) -> None:
        """The evaluation is done and its result is told."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let others use the journal."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _open(self) -> IO[bytes]:
        """Open and lock; again if the file was removed between the two."""
        while True:
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            stream = os.fdopen(os.open(self.path, flags, 0o666), "r+b")
            try:
                _lock(stream, self.path)
                if (
                    self.path.exists()
                    and os.fstat(stream.fileno()).st_ino == self.path.stat().st_ino
                ):
                    return stream
            except BaseException:
                stream.close()
                raise
            stream.close()

    def _read(self, stream: IO[bytes]) -> None:
        """Take the last whole line, cut off what comes after it."""
        whole = 0
        has_header = False
        while line := stream.readline(_MAX_LINE_BYTES):
            record = _checked(line)
            if record is None:
                break
            if not has_header:
                if record.get("key") != self.key:
                    raise UsageError(
                        f"{shown(self.path)} is the journal of another evaluation",
                        advice="delete it, or move it away",
                    )
                has_header = True
            else:
                self.state = record.get("state")
            whole += len(line)
        stream.seek(whole)
        stream.truncate()
        if not has_header:
            self._write({"key": self.key})
            sync_folder(self.path.parent)

    def _write(self, record: dict[str, Any]) -> None:
        assert self._stream is not None, "the journal is open"
        text = json.dumps(record, separators=(",", ":")).encode()
        try:
            self._stream.write(_checksum(text) + b" " + text + b"\n")
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as problem:
            raise StorageError(
                f"cannot write the journal {shown(self.path)}: {problem.strerror or problem}",
                advice="make room and go on with --resume",
            ) from problem


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:_CHECKSUM_LETTERS].encode()


def _checked(line: bytes) -> dict[str, Any] | None:
    """The record of a line, or None if the line is not whole."""
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != _checksum(text):
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _lock(stream: IO[bytes], path: Path) -> None:
    """One process at a time; systems without ``flock`` go without."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as problem:
        raise StorageError(
            f"another process is at the same evaluation: {shown(path)} is in use",
            advice="wait for it, or run without --resume",
        ) from problem
