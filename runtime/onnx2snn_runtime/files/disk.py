"""Opening and writing files: only regular files, never blocking, always atomic."""

import contextlib
import difflib
import errno
import os
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

from onnx2snn_runtime.errors import Onnx2SnnError, StorageError, UsageError
from onnx2snn_runtime.files.sniffing import HEAD_BYTES, FileKind, describe

StrPath = str | os.PathLike[str]

_STALE_SECONDS = 24 * 3600
_SPECIAL = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
_KEEPING: ContextVar[bool] = ContextVar("keeping", default=False)
# Errors of the path itself rather than of the disk.
_PATH_ERRORS = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


@contextlib.contextmanager
def keeping_files(keep: bool) -> Iterator[None]:
    """Whether files that exist are refused as outputs for a while (``--no-clobber``)."""
    token = _KEEPING.set(keep)
    try:
        yield
    finally:
        _KEEPING.reset(token)


def shown(name: object, limit: int = 200) -> str:
    r"""A name for a message: control characters escaped, very long ones cut.

    >>> shown("a\nb")
    'a\\nb'
    """
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(name)[: limit + 1])
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def special_kind(mode: int) -> str:
    """What a path is that is no regular file, such as "a folder"; empty for a regular file."""
    if stat.S_ISREG(mode):
        return ""
    return next((text for test, text in _SPECIAL if test(mode)), "a special file")


def _similar(path: Path) -> str:
    """The name of a file beside a missing one that is spelled almost the same."""
    try:
        names = [entry.name for entry in os.scandir(path.parent)]
    except (OSError, ValueError):
        return ""
    found = difflib.get_close_matches(path.name, names[:2000], n=1, cutoff=0.75)
    return f"did you mean {shown(found[0])}?" if found else ""


def _translate(
    problem: OSError | ValueError, path: Path, error: type[Onnx2SnnError]
) -> Onnx2SnnError:
    """A missing file is an error of the given class, a disk that fails a StorageError."""
    if isinstance(problem, ValueError):
        return error(f"{shown(path)!r} is not a valid file name: {problem}")
    if problem.errno in _PATH_ERRORS:
        if problem.errno == errno.ENOENT:
            return error(f"there is no file {shown(path)}", advice=_similar(path))
        return error(f"cannot open {shown(path)}: {problem.strerror}")
    return StorageError(f"cannot read {shown(path)}: {problem.strerror or problem}")


def stat_path(path: StrPath, error: type[Onnx2SnnError]) -> os.stat_result:
    """Status of a path.

    Raises:
        Onnx2SnnError: of the class ``error`` if nothing is there, StorageError if the disk fails.
    """
    try:
        return Path(path).stat()
    except (OSError, ValueError) as problem:
        raise _translate(problem, Path(path), error) from problem


def open_regular(path: StrPath, error: type[Onnx2SnnError]) -> BinaryIO:
    """Open a regular, non-empty file for reading; never blocks on a pipe.

    Args:
        path: the file.
        error: class of the error for a file that is missing, empty or not regular.
    """
    path = Path(path)
    kind = special_kind(stat_path(path, error).st_mode)
    if kind:
        raise error(f"{shown(path)} is {kind}, not a file")
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as problem:
        raise _translate(problem, path, error) from problem
    stream = os.fdopen(descriptor, "rb")
    # The path may have changed between the two calls: look at what was opened.
    status = os.fstat(descriptor)
    if special_kind(status.st_mode) or status.st_size == 0:
        stream.close()
        raise error(f"{shown(path)} is empty (0 bytes)")
    return stream


def sniff(path: StrPath, error: type[Onnx2SnnError]) -> FileKind | None:
    """What the first bytes of a file say, see `describe`."""
    with open_regular(path, error) as stream:
        head = stream.read(HEAD_BYTES)
        return describe(head, is_whole=len(head) < HEAD_BYTES)


def read_bytes_checked(path: StrPath, error: type[Onnx2SnnError], *, max_bytes: int) -> bytes:
    """The content of a regular, non-empty file of at most ``max_bytes``.

    Args:
        path: the file.
        error: class of the error if the file is missing, empty, too large or not regular.
        max_bytes: limit, checked before anything is read.

    Raises:
        Onnx2SnnError: of the class ``error``: the file is missing, empty or too large.
        StorageError: the disk refuses.
    """
    with open_regular(path, error) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > max_bytes:
            raise error(f"{shown(path)} has {size:,} bytes; the limit is {max_bytes:,}")
        try:
            content = stream.read(max_bytes + 1)
        except OSError as problem:
            raise StorageError(f"cannot read {shown(path)}: {problem.strerror}") from problem
    if len(content) > max_bytes:
        raise error(f"{shown(path)} grew beyond the limit of {max_bytes:,} bytes while being read")
    return content


def _target(path: StrPath, *, keep: bool) -> Path:
    """The file to write: links are followed; what is there must be a regular file or nothing.

    ``keep``: it must be nothing.
    """
    try:
        target = Path(path).resolve()
        status = target.stat()
    except FileNotFoundError:
        return target
    except (OSError, ValueError, RuntimeError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise StorageError(f"cannot write {shown(path)}: {reason}") from problem
    kind = special_kind(status.st_mode)
    if kind:
        raise StorageError(f"cannot write {shown(path)}: it is {kind}", advice="give a file name")
    if keep:
        raise _is_there(path)
    return target


def _is_there(path: StrPath) -> StorageError:
    return StorageError(
        f"{shown(path)} exists, and --no-clobber keeps what is there",
        advice="give another name, or leave --no-clobber out",
    )


def _move(temporary: Path, target: Path, *, keep: bool) -> None:
    """Give a finished file its name; ``keep``: nothing that came meanwhile is replaced."""
    if not keep:
        temporary.replace(target)
        return
    try:
        os.link(temporary, target)
    except FileExistsError as problem:
        raise _is_there(target) from problem
    except OSError:  # no hard links here: the best there is
        if target.exists():
            raise _is_there(target) from None
        temporary.replace(target)
    else:
        temporary.unlink()


def check_writable(path: StrPath, inputs: Iterable[StrPath] = ()) -> None:
    """Find out before the long work whether a file can be written.

    Args:
        path: the file to be written later; nothing is left there by this check.
        inputs: files that must not be overwritten.

    Raises:
        UsageError: the path is one of ``inputs``, or a file in a folder that is one.
        StorageError: the folder is missing, is no folder or takes no files; the file exists and
            is to be kept.
    """
    target = _target(path, keep=False)
    for other in inputs:
        with contextlib.suppress(OSError, ValueError):
            source = Path(other).resolve()
            inside = source.is_dir() and source in target.parents and target.exists()
            if inside:
                raise UsageError(
                    f"the output {shown(path)} is a file of the input {shown(other)}",
                    advice="give another name with -o",
                )
            if source == target or target.samefile(other):
                raise UsageError(
                    f"the output {shown(path)} is the same file as the input {shown(other)}",
                    advice="give another name with -o",
                )
    _target(path, keep=_KEEPING.get())
    parent = target.parent
    try:
        kind = special_kind(parent.stat().st_mode)
        if kind != "a folder":
            raise StorageError(f"{shown(parent)} is not a folder")
        with tempfile.TemporaryFile(dir=parent):
            pass
    except FileNotFoundError as problem:
        if parent.exists():  # as in /proc
            raise StorageError(f"no file can be made in {shown(parent)}") from problem
        raise StorageError(
            f"the folder {shown(parent)} does not exist", advice=f"mkdir -p {shown(parent)}"
        ) from problem
    except OSError as problem:
        raise StorageError(
            f"cannot write into the folder {shown(parent)}: {problem.strerror}"
        ) from problem


def _sweep(parent: Path, prefix: str) -> None:
    """Remove temporary files of ours that a killed process left more than a day ago."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(parent)):
            if entry.name.startswith(prefix) and entry.name.endswith(".tmp"):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < time.time() - _STALE_SECONDS:
                        Path(entry.path).unlink()


def _mode_for(target: Path) -> int:
    """Permissions of a new file, or those of the file that is replaced."""
    try:
        return stat.S_IMODE(target.stat().st_mode)
    except OSError:
        mask = os.umask(0o077)
        os.umask(mask)
        return 0o666 & ~mask


def sync_folder(folder: Path) -> None:
    """Make a rename in a folder survive a power cut, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def atomic_writer(path: StrPath, *, names_content: bool = False) -> Iterator[BinaryIO]:
    """A stream that becomes the file when the block ends well, and nothing if it does not.

    The content goes to a temporary file in the same folder, is flushed to disk and then renamed:
    the path holds either all of the new content or exactly what it held before.

    Args:
        path: the file.
        names_content: the name follows from the content: a file that exists is the same one.

    Raises:
        StorageError: the folder is missing, the disk is full, no permission; the file exists and
            is to be kept.
    """
    keep = _KEEPING.get() and not names_content
    target = _target(path, keep=keep)
    prefix = f".{target.name[:60]}."
    temporary: Path | None = None
    try:
        _sweep(target.parent, prefix)
        descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=".tmp", dir=target.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(_mode_for(target))
        _move(temporary, target, keep=keep)
        temporary = None
        sync_folder(target.parent)
    except OSError as problem:
        raise StorageError(
            f"cannot write {shown(path)}: {problem.strerror or problem}; "
            "what was there before is unchanged"
        ) from problem
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


def write_bytes_atomic(path: StrPath, content: bytes) -> None:
    """Write a whole file or leave the old one as it was.

    Raises:
        StorageError: the folder is missing, the disk is full, no permission.
    """
    with atomic_writer(path) as stream:
        stream.write(content)


def write_text_atomic(path: StrPath, text: str) -> None:
    """Write text as UTF-8, whole or not at all; line ends stay as they are."""
    write_bytes_atomic(path, text.encode("utf-8"))
