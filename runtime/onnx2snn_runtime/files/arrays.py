"""Arrays in .npy and .npz files: every header is checked before memory is taken, nothing unpickled.

A stored array is described first and read batch by batch, so that a data set that does not fit into
memory can be walked through.
"""

import errno
import io
import lzma
import math
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from onnx2snn_runtime.errors import DataError, Finding, StorageError
from onnx2snn_runtime.files.disk import StrPath, open_regular, shown
from onnx2snn_runtime.files.limits import current
from onnx2snn_runtime.files.sniffing import HEAD_BYTES, describe

Array = NDArray[Any]

# Deflate reaches 1,032:1 on zeros; real pictures and event frames stay far below.
MAX_RATIO = 500
_RATIO_FROM_BYTES = 32 * 2**20
_MAX_HEADER_BYTES = 10_000
_SAVE_ADVICE = 'save plain arrays: np.savez("data.npz", images=images, labels=labels)'
_DAMAGED_ADVICE = "save or download it again"
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    struct.error,
    lzma.LZMAError,
)


@dataclass(frozen=True)
class StoredArray:
    """An array in a file: known by its header, read when asked for.

    Attributes:
        path: the file.
        member: name inside the .npz, or None for an .npy.
        shape: sizes of all axes.
        dtype: element type, in the byte order of the file.
        is_fortran_ordered: whether the first axis varies fastest.
        offset: bytes before the first value.
    """

    path: Path
    member: str | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran_ordered: bool
    offset: int

    @property
    def where(self) -> str:
        """How to call it in a message."""
        return member_name(self.path, self.member)

    def read(self) -> Array:
        """The whole array in memory, in the machine's byte order."""
        with self._values() as stream:
            flat = np.empty(math.prod(self.shape), self.dtype)
            _fill(stream, flat, self.where)
        if self.is_fortran_ordered:
            return _native(flat.reshape(self.shape[::-1]).transpose())
        return _native(flat.reshape(self.shape))

    def batches(self, size: int, limit: int | None = None) -> Iterator[Array]:
        """Slices of ``size`` along the first axis, in order, with one slice in memory.

        Args:
            size: rows per slice; the last may have fewer.
            limit: stop after this many rows.
        """
        count = self.shape[0] if limit is None else min(limit, self.shape[0])
        if self.is_fortran_ordered and len(self.shape) > 1:
            whole = self.read()  # its rows are scattered over the file
            yield from (whole[start : start + size] for start in range(0, count, size))
            return
        with self._values() as stream:
            for start in range(0, count, size):
                rows = np.empty((min(size, count - start), *self.shape[1:]), self.dtype)
                _fill(stream, rows, self.where)
                yield _native(rows)

    def chunks(self, sizes: Iterator[int]) -> Iterator[bytes]:
        """Pieces of a one-dimensional byte array, one after the other."""
        with self._values() as stream:
            for size in sizes:
                piece = np.empty(size, np.uint8)
                _fill(stream, piece, self.where)
                yield piece.tobytes()

    @contextmanager
    def _values(self) -> Iterator[IO[bytes]]:
        """A stream that stands at the first value."""
        with open_regular(self.path, DataError) as file:
            if self.member is None:
                file.seek(self.offset)
                yield file
                return
            with (
                _guard(self.where),
                zipfile.ZipFile(file) as archive,
                archive.open(self.member) as stream,
            ):
                stream.read(self.offset)
                yield stream


def member_name(path: Path, member: str | None) -> str:
    """A file, or an array in it, for a message."""
    return shown(path.name) if member is None else f"{shown(member)!r} in {shown(path.name)}"


def load_arrays(path: StrPath, *, max_bytes: int | None = None) -> dict[str, Array]:
    """All arrays of an .npz, or the one of an .npy under the name ``x``, in memory.

    Raises:
        DataError: missing, not NumPy's format, damaged, too large, or holding Python objects.
        StorageError: the disk fails.
    """
    return {name: array.read() for name, array in open_arrays(path, max_bytes=max_bytes).items()}


def open_arrays(path: StrPath, *, max_bytes: int | None = None) -> dict[str, StoredArray]:
    """The arrays of an .npz or .npy by name, checked but not read.

    Raises:
        DataError: missing, not NumPy's format, damaged, too large, or holding Python objects.
        StorageError: the disk fails.
    """
    path = Path(path)
    max_bytes = current().data_bytes if max_bytes is None else max_bytes
    with open_regular(path, DataError) as file:
        head = file.read(HEAD_BYTES)
        kind = describe(head, is_whole=len(head) < HEAD_BYTES)
        size = os.fstat(file.fileno()).st_size
        file.seek(0)
        name = kind.name if kind else ""
        if name == "npy":
            _refuse_size(path, size, max_bytes)
            return {"x": _describe_array(file, path, None, size)}
        if name not in {"npz", "zip"}:
            what = f"this is {kind.text}" if kind else "its first bytes are no format that is known"
            raise DataError(
                f"{shown(path)} is not a NumPy file (.npz, .npy): {what}", advice=_SAVE_ADVICE
            )
        with _guard(shown(path.name)), zipfile.ZipFile(file) as archive:
            return _describe_archive(archive, path, size, max_bytes)


def _describe_archive(
    archive: zipfile.ZipFile, path: Path, file_bytes: int, max_bytes: int
) -> dict[str, StoredArray]:
    members = archive.infolist()
    _refuse_bombs(path, members, file_bytes, max_bytes)
    arrays: dict[str, StoredArray] = {}
    findings = []
    for member in members:
        name = member.filename.removesuffix(".npy")
        if name in arrays:
            raise DataError(f"{shown(path)} holds {shown(name)!r} twice")
        try:
            if not member.filename.endswith(".npy"):
                raise DataError("no NumPy array")
            with archive.open(member) as stream:
                arrays[name] = _describe_array(stream, path, member.filename, member.file_size)
        except DataError as problem:
            findings.append(Finding(problem.message, problem.advice, tensor=shown(name)))
    if findings:
        raise DataError(f"{shown(path)} cannot be read", findings, advice=_SAVE_ADVICE)
    if not arrays:
        raise DataError(f"{shown(path)} holds no arrays", advice=_SAVE_ADVICE)
    return arrays


def _refuse_size(path: Path, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise DataError(
            f"{shown(path)} unpacks to {size:,} bytes; the limit is {max_bytes:,}",
            advice="split the data, or raise the limit with --max-data-bytes",
        )


def _refuse_bombs(
    path: Path, members: list[zipfile.ZipInfo], file_bytes: int, max_bytes: int
) -> None:
    """Sizes as the archive states them; while reading, a member cannot exceed what it stated."""
    _refuse_size(path, sum(member.file_size for member in members), max_bytes)
    for member in members:
        if member.compress_size > file_bytes:
            raise DataError(f"{member_name(path, member.filename)} is longer than the file")
        ratio = member.file_size / max(member.compress_size, 1)
        if member.file_size > _RATIO_FROM_BYTES and ratio > MAX_RATIO:
            raise DataError(
                f"{member_name(path, member.filename)} unpacks to {member.file_size:,} bytes, "
                f"{ratio:,.0f} times its size: refused as a compression bomb",
                advice="if the data is real, save it uncompressed with np.savez",
            )


def _describe_array(
    stream: IO[bytes], path: Path, member: str | None, total_bytes: int
) -> StoredArray:
    """Check the header of an array against the bytes that are there."""
    where = member_name(path, member)
    shape, is_fortran_ordered, dtype, offset = _read_header(stream, where)
    if dtype.hasobject:
        raise DataError(
            f"{where} contains Python objects, which are never loaded: they could run code",
            advice=_SAVE_ADVICE,
        )
    if dtype.names is not None or dtype.subdtype is not None:
        raise DataError(f"{where} is a structured array", advice=_SAVE_ADVICE)
    if any(size < 0 for size in shape):
        raise DataError(f"{where}: the header states a negative size {shape}")
    needed, found = math.prod(shape) * dtype.itemsize, total_bytes - offset
    if needed != found:
        raise DataError(
            f"{where}: the header promises shape {shape} of {dtype}, {needed:,} bytes, "
            f"but {found:,} are there",
            advice=_DAMAGED_ADVICE,
        )
    return StoredArray(path, member, shape, dtype, is_fortran_ordered, offset)


def _read_header(stream: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, order, type and length of the header, read without trusting its length."""
    prefix = stream.read(8)
    if len(prefix) < 8 or not prefix.startswith(b"\x93NUMPY"):
        raise DataError(f"{where} is no NumPy array")
    version = (prefix[6], prefix[7])
    length_bytes = {(1, 0): 2, (2, 0): 4}.get(version)
    if length_bytes is None:
        raise DataError(f"{where}: unknown version {version} of the NumPy format")
    length = stream.read(length_bytes)
    header_bytes = int.from_bytes(length, "little")
    if header_bytes > _MAX_HEADER_BYTES:
        raise DataError(f"{where}: a header of {header_bytes:,} bytes is too long to be one")
    header = io.BytesIO(length + stream.read(header_bytes))
    reader = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape, is_fortran_ordered, dtype = reader(header, max_header_size=_MAX_HEADER_BYTES)
    except Exception as problem:  # the parser of the header raises what it likes
        raise DataError(
            f"{where}: the header of the array is damaged", advice=_SAVE_ADVICE
        ) from problem
    return shape, is_fortran_ordered, dtype, 8 + length_bytes + header_bytes


def _fill(stream: IO[bytes], target: Array, where: str) -> None:
    """Read exactly the bytes of a contiguous array."""
    if target.nbytes == 0:
        return
    values = target.reshape(-1).view(np.uint8)
    done = 0
    while done < values.size:
        piece = stream.read(min(values.size - done, 2**20))
        if not piece:
            raise DataError(
                f"{where} ends after {done:,} of {values.size:,} bytes",
                advice=_DAMAGED_ADVICE,
            )
        values[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
        done += len(piece)


def _native(array: Array) -> Array:
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


@contextmanager
def _guard(where: str) -> Iterator[None]:
    """Everything that a damaged archive can raise as one kind of error."""
    try:
        yield
    except _BROKEN as problem:
        if isinstance(problem, RuntimeError) and "password" in str(problem):
            raise DataError(f"{where} is encrypted", advice=_SAVE_ADVICE) from problem
        raise DataError(
            f"{where} is damaged: {shown(problem, 300)}", advice=_DAMAGED_ADVICE
        ) from problem
    except OSError as problem:
        if problem.errno in (None, errno.EINVAL):  # a decompressor, or an offset out of the file
            raise DataError(
                f"{where} is damaged: {shown(problem, 300)}", advice=_DAMAGED_ADVICE
            ) from problem
        raise StorageError(f"cannot read {where}: {problem.strerror or problem}") from problem
