"""From the files of this package to one translation unit for NVRTC."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
GENERATED = "layer.h"
INCLUDE = re.compile(r'^#include "(\S+)".*\n', re.MULTILINE)
OPTIONS = ("-std=c++17", "--fmad=false")


@dataclass(frozen=True)
class KernelSource:
    """A translation unit without includes of its own.

    Attributes:
        name: of the one ``extern "C"`` kernel in it.
        source: CUDA C++17.
        options: what NVRTC must be told besides the architecture.
    """

    name: str
    source: str
    options: tuple[str, ...] = OPTIONS


Launch = Callable[[KernelSource, tuple[int, ...], tuple[int, ...], Sequence[Any]], None]
"""Compiles a kernel, once, and runs it: (kernel, blocks, threads of a block, arguments).

Arguments are arrays, handed on as pointers, and NumPy scalars of the types that the kernel names;
``numpy.uint64(0)`` is a null pointer.
"""


@cache
def kernel_source(name: str, layer: str) -> KernelSource:
    """The kernel of the file ``<name>.cu`` for one variant.

    Args:
        name: of the kernel and its file.
        layer: text of the struct ``Layer``, which stands in place of ``layer.h``.
    """
    included = {GENERATED}

    def text(match: re.Match[str]) -> str:
        file = match.group(1)
        if file == GENERATED:
            return layer
        if file in included:
            return ""
        included.add(file)
        return INCLUDE.sub(text, (HERE / file).read_text("utf-8").replace("#pragma once\n", ""))

    return KernelSource(name, INCLUDE.sub(text, (HERE / f"{name}.cu").read_text("utf-8")))


def layer_struct(**members: str | int | bool) -> str:
    """The struct ``Layer``: types (text), constants (numbers) and, as ``F``, the struct of f."""
    lines = []
    for name, value in members.items():
        if isinstance(value, bool):
            lines.append(f"  static constexpr bool {name} = {str(value).lower()};")
        elif isinstance(value, int):
            lines.append(f"  static constexpr int {name} = {value};")
        elif name == "F":
            lines.append(value)
        else:
            lines.append(f"  using {name} = {value};")
    return "\n".join(["struct Layer {", *lines, "};", ""])
