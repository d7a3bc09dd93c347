"""What people see: tables and progress bars on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Progress = Callable[[str, int, int], None]


def print_out(text: str) -> None:
    """The answer of a command, on stdout."""
    print(text)  # noqa: T201


def say(text: str, *, quiet: bool = False) -> None:
    """A line for people, on stderr."""
    if not quiet:
        print(text, file=sys.stderr)  # noqa: T201


def print_table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[Any]], *, error: bool = False
) -> None:
    """A table: on stdout, first column to the left, the others to the right.

    ``error``: on stderr, all columns to the left.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for index, name in enumerate(header):
        table.add_column(escape(name), justify="left" if index == 0 or error else "right")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    terminal = (sys.stderr if error else sys.stdout).isatty()
    console = Console(width=None if terminal else 120, highlight=False, stderr=error)
    console.print(escape(title), style="bold")
    console.print(table)


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Progress]:
    """A callback ``(stage, done, total)`` that draws bars on a terminal and is silent elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda stage, done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    with Bars(console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done)

        yield update
