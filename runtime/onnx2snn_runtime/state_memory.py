"""Memory for the states of a batch, lent to one batch after the other.

States are the largest arrays of a run. Memory that the system hands out anew costs more time, page
by page, than the laws take to fill it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from onnx2snn_runtime.backends import Backend
from onnx2snn_runtime.planning.plan import Plan

Array = Any
States = dict[str, Array]


class StateMemory:
    """Arrays for all states of a plan.

    Args:
        plan: what has the states.
        backend: where they are.
    """

    def __init__(self, plan: Plan, backend: Backend) -> None:
        self.xp = backend.xp
        self.shapes = {
            name: (shape, backend.state_type(unit.operator, state))
            for unit in plan.stateful
            for name, state, shape in zip(
                unit.states, unit.operator.state_names, unit.state_shapes, strict=True
            )
        }
        self.spare: list[tuple[int, States]] = []  # with the number of images

    @contextmanager
    def lent(self, images: int) -> Iterator[States]:
        """Arrays [N,*] by state for this many images; what they hold means nothing.

        Batches on several threads get arrays of their own.
        """
        size, whole = self.take(images)
        try:
            yield {name: array[:images] for name, array in whole.items()}
        finally:
            self.spare.append((size, whole))

    def take(self, images: int) -> tuple[int, States]:
        """Spare arrays if they are large enough, else new ones."""
        try:
            size, whole = self.spare.pop()
        except IndexError:
            size, whole = 0, {}
        if size < images:
            whole.clear()  # before there are larger ones
            size = images
            whole = {name: self.make(images, *kind) for name, kind in self.shapes.items()}
        return size, whole

    def make(self, images: int, shape: tuple[int | str, ...], dtype: Any) -> Array:
        """An array of one state."""
        sizes = tuple(images if isinstance(size, str) else size for size in shape)
        return self.xp.empty(sizes, dtype=dtype)

    def clear(self) -> None:
        """Give back what is spare."""
        self.spare.clear()
