"""What the device of NumPy does later than it is told: captured work, and copies beside others."""

from collections.abc import Callable
from typing import Any

import numpy as np

ALLOCATING = frozenset({"empty", "empty_like"})


class Tape:
    """What was done with arrays while work was captured, to be done again on the same memory.

    As on a GPU the work runs once only: later its Python does not run, and every result goes to
    where it went then. (There nothing is computed during the capture; here it is, on the memory of
    the capture.) What reads or writes the memory of the host is refused.
    """

    def __init__(self) -> None:
        self.steps: list[Callable[[], Any]] | None = None

    def record(self, work: Callable[[], Any]) -> tuple[list[Callable[[], Any]], Any]:
        self.steps = steps = []
        try:
            return steps, work()
        finally:
            self.steps = None

    @staticmethod
    def play(steps: list[Callable[[], Any]]) -> None:
        for step in steps:
            step()

    def forbid(self, what: str) -> None:
        if self.steps is not None:
            raise RuntimeError(f"operation not permitted when stream is capturing: {what}")

    def forbidden(self, method: Callable[..., Any]) -> Callable[..., Any]:
        self.forbid("a value read by the host")
        return method

    def note(self, step: Callable[[], Any]) -> None:
        if self.steps is not None:
            self.steps.append(step)

    def note_result(self, function: Any, values: Any, options: Any, result: Any) -> None:
        """A function that is called again, and its result put where it was; views need nothing."""
        if self.steps is None or getattr(function, "__name__", "") in ALLOCATING:
            return
        if "out" in options or getattr(function, "__name__", "").startswith("__i"):
            self.steps.append(lambda: function(*values, **options))
            return
        owner = getattr(function, "__self__", None)
        sources = [x for x in (owner, *values) if isinstance(x, np.ndarray)]
        if not any(np.may_share_memory(result, source) for source in sources):
            self.steps.append(lambda: np.copyto(result, function(*values, **options)))


TAPE = Tape()


class StrictEvent:
    """What a copy beside the rest records; ``events`` notes who waits for it."""

    def __init__(self, copy: Callable[[], None], events: list[str], number: int) -> None:
        self.copy, self.events, self.number = copy, events, number
        self.is_done = False

    def finish(self) -> None:
        if not self.is_done:
            self.copy()
        self.is_done = True

    def synchronize(self) -> None:
        self.finish()
        self.events.append(f"the host waits for copy {self.number}")
