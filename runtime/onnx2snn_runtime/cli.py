"""``onnx2snn-run``: run a spiking network, without the converter."""

import argparse
import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from onnx2snn_runtime import __version__
from onnx2snn_runtime.errors import BackendError, Onnx2SnnError, StorageError
from onnx2snn_runtime.files.disk import keeping_files
from onnx2snn_runtime.files.limits import limited, limits_of
from onnx2snn_runtime.run_command import add_run_arguments, run_command

INTERRUPTED = 130
TERMINATED = 143
INTERNAL = 70
MAX_TEXT = 8000


def guarded(
    command: Callable[[argparse.Namespace], int], options: argparse.Namespace, debug: bool
) -> int:
    """Run a command; an error becomes one ``error:`` block and its exit code."""
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, PTH123  closed by whoever started us
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # letters that a narrow locale lacks are no error
            stream.reconfigure(errors="backslashreplace")
    try:
        keep = getattr(options, "no_clobber", False)
        with limited(limits_of(options)), keeping_files(keep), _terminated():
            code = command(options)
            if sys.stdout is not None:
                sys.stdout.flush()
            return code
    except Onnx2SnnError as error:
        if debug:
            traceback.print_exc()
        say(f"error: {printable(str(error))}")
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except Terminated:
        say("terminated")
        return TERMINATED
    except MemoryError as error:
        if debug:
            traceback.print_exc()
        say(f"error: not enough memory: {printable(str(error)) or 'an allocation failed'}")
        say("give a smaller --batch-size, --memory or --max-data-bytes")
        return BackendError.exit_code
    except Exception as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            say(f"error: the answer cannot be written: {printable(str(error))}")
            return StorageError.exit_code
        kind = type(error).__name__
        say(f"error: internal error, please report it ({kind}: {printable(str(error))})")
        say("run again with --debug for the traceback")
        return INTERNAL


class Terminated(BaseException):
    """SIGTERM: unwinds like an interrupt, so that temporary files are removed."""


@contextmanager
def _terminated() -> Iterator[None]:
    """Turn the first SIGTERM into `Terminated`; a second one ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def say(text: str) -> None:
    """Print for people, on stderr."""
    print(printable(text), file=sys.stderr)  # noqa: T201


def printable(text: str, limit: int | None = MAX_TEXT) -> str:
    """Text from a file without control characters, cut to a sane length."""
    clean = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
    return clean if limit is None or len(clean) <= limit else clean[:limit] + " …"


def add_global_arguments(parser: argparse.ArgumentParser, program: str) -> None:
    """Arguments of every command."""
    parser.add_argument("-v", "--verbose", action="count", default=0, help="say more")
    parser.add_argument("-q", "--quiet", action="store_true", help="print results only")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.add_argument("--version", action="version", version=f"{program} {__version__}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``onnx2snn-run``."""
    parser = argparse.ArgumentParser(
        prog="onnx2snn-run", description="Run a spiking network stored as an ONNX file."
    )
    add_run_arguments(parser)
    add_global_arguments(parser, "onnx2snn-run")
    options = parser.parse_args(arguments)
    return guarded(run_command, options, options.debug)


if __name__ == "__main__":
    sys.exit(main())
