"""The registry of attacks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Build = Callable[[Path], Sequence[Any]]
"""Writes the files of an attack into a folder; returns the arguments of ``onnx2snn``."""


@dataclass(frozen=True)
class Attack:
    """One hostile input or fault.

    Attributes:
        name: what is wrong, unique.
        code: exit code that the command must end with.
        words: what the error must say.
        build: writes the files, returns the arguments.
    """

    name: str
    code: int
    words: str
    build: Build


ATTACKS: dict[str, Attack] = {}


def attack(name: str, code: int, words: str, build: Build) -> None:
    """Register one attack."""
    if name in ATTACKS:
        raise ValueError(f"attack {name!r} is registered twice")
    ATTACKS[name] = Attack(name, code, words, build)


def table(prefix: str, code: int, rows: Mapping[str, tuple[Any, str]], build: Any) -> None:
    """Register a table: name to (ingredient, words of the error).

    Args:
        prefix: put before each name.
        code: exit code of all rows.
        rows: the table.
        build: called with the folder and the ingredient.
    """
    for name, (ingredient, words) in rows.items():

        def write(folder: Path, ingredient: Any = ingredient) -> Sequence[Any]:
            arguments: Sequence[Any] = build(folder, ingredient)
            return arguments

        attack(f"{prefix}: {name}", code, words, write)
