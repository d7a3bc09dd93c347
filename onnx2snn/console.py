"""What people see: tables and progress bars on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from onnx2snn_runtime.cli import printable
from onnx2snn_runtime.json_form import to_json

Progress = Callable[[str, int, int], None]
SHORT = 20  # letters of a cell that stay in one line
LINE_SECONDS = 10.0  # at least, between two plain lines of progress


def print_out(text: str) -> None:
    """The answer of a command, on stdout."""
    print(printable(text, limit=None))  # noqa: T201


def print_json(document: Any) -> None:
    """The answer of a command for programs, on stdout."""
    print_out(to_json(document))


def say(text: str, *, quiet: bool = False) -> None:
    """A line for people, on stderr."""
    if not quiet:
        print(printable(text), file=sys.stderr)  # noqa: T201


def print_table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[Any]], *, error: bool = False
) -> None:
    """A title and a table: on stdout, numbers to the right, words to the left.

    Where the terminal is too narrow for it, without lines; long words are folded, never cut.

    ``error``: on stderr, all columns to the left.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.measure import Measurement
    from rich.table import Table

    terminal = (sys.stderr if error else sys.stdout).isatty()

    class Output(Console):
        """A reader that stops reading is no error."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    console = Output(width=None if terminal else 120, highlight=False, stderr=error)

    def table(*, slim: bool) -> Table:
        made = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0)) if slim else Table()
        for index, name in enumerate(header):
            is_short = index > 0 and all(len(str(row[index])) <= SHORT for row in rows)
            title = name.replace(" ", "\n") if slim and is_short and not error else name
            justify: Literal["left", "right"] = "right" if is_short and not error else "left"
            made.add_column(escape(title), overflow="fold", no_wrap=is_short, justify=justify)
        for row in rows:
            made.add_row(*(escape(printable(str(cell))) for cell in row))
        return made

    wide = table(slim=False)
    fits = Measurement.get(console, console.options.update(width=10**4), wide)
    console.print(escape(printable(title)), style="bold")
    console.print(wide if fits.maximum <= console.width else table(slim=True))


def number_range(ends: tuple[float, float] | None) -> str:
    """Smallest and largest number of some, or the one that all are, or nothing."""
    if ends is None:
        return ""
    low, high = (f"{end:.0f}" if end >= 1000 else f"{end:.3g}" for end in ends)
    return low if ends[0] == ends[1] else f"{low}…{high}"


class ProgressLines:
    """Plain lines with the time left, where there is no terminal: quick work stays silent.

    Args:
        write: takes a line.
        clock: seconds, rising.
    """

    def __init__(
        self,
        write: Callable[[str], None] = say,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.write, self.clock = write, clock
        self.stage = ""
        self.start = self.told = 0.0
        self.tenth = 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Tell of another tenth, if the last line is old enough."""
        now = self.clock()
        tenth = 10 * done // total if total else 0
        if stage != self.stage or tenth < self.tenth:  # the same work may begin again
            self.stage, self.start, self.told, self.tenth = stage, now, now, 0
        if not total:  # nobody knows yet how much there is
            if now - self.told >= LINE_SECONDS:
                self.write(f"{stage}: {done} so far, {now - self.start:.0f} s")
                self.told = now
            return
        if tenth <= self.tenth or now - self.told < LINE_SECONDS:
            return
        left = (now - self.start) * (total - done) / done
        self.write(f"{stage}: {done} of {total}, {left:.0f} s left")
        self.told, self.tenth = now, tenth


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Progress]:
    """A callback ``(stage, done, total)``: bars with the time left on a terminal, else lines."""
    if quiet:
        yield lambda stage, done, total: None
        return
    if not sys.stderr.isatty():
        yield ProgressLines()
        return
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    with Bars(console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total or None)
            known = stage if total else f"{stage}, {done} so far"
            bars.update(tasks[stage], completed=done, description=known)

        yield update
