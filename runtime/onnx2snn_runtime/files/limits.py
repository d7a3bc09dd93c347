"""How much a file may take, as constants and as options of the command line."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bytes that input files may take in memory.

    Attributes:
        model_bytes: a model with its external data; protobuf itself ends at 2 GiB per file.
        data_bytes: the arrays of a data file when they are unpacked.
    """

    model_bytes: int = 16 * 2**30
    data_bytes: int = 4 * 2**30


_CURRENT: ContextVar[Limits] = ContextVar("limits", default=Limits())  # noqa: B039 - frozen


def current() -> Limits:
    """The limits that hold now."""
    return _CURRENT.get()


@contextmanager
def limited(limits: Limits) -> Iterator[None]:
    """Other limits for a while."""
    token = _CURRENT.set(limits)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def byte_count(text: str) -> int:
    """A number of bytes from an option.

    >>> byte_count("1000000")
    1000000

    Raises:
        ArgumentTypeError: it is no size.
    """
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of bytes from 1, not {text!r}")
    return value


def add_limit_arguments(parser: argparse.ArgumentParser, *, data: bool = True) -> None:
    """The options that change the limits."""
    default = Limits()
    parser.add_argument(
        "--max-model-bytes", type=byte_count, default=default.model_bytes, metavar="N",
        help="refuse larger models (16 GiB)",
    )  # fmt: skip
    if data:
        parser.add_argument(
            "--max-data-bytes", type=byte_count, default=default.data_bytes, metavar="N",
            help="refuse data that unpacks to more (4 GiB)",
        )  # fmt: skip


def limits_of(options: argparse.Namespace) -> Limits:
    """The limits that a command line asks for."""
    default = Limits()
    return Limits(
        model_bytes=getattr(options, "max_model_bytes", default.model_bytes),
        data_bytes=getattr(options, "max_data_bytes", default.data_bytes),
    )
