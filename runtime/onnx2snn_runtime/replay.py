"""Chunks that are captured once and replayed as a whole: one launch in place of thousands.

The first chunk of a kind runs launch by launch: plans are made, kernels compiled, tables laid out.
The second is captured: nothing is computed, the device notes what would be, on which memory. From
then on its inputs are copied into the memory of the capture, and all of it is launched at once.
What cannot be captured runs launch by launch for ever; ``refused`` says why.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from onnx2snn_runtime.backends import Backend

Array = Any
Arrays = Mapping[str, Array]
Work = Callable[[dict[str, Array]], dict[str, Array]]
MOST = 4  # captures that are kept: each holds all the memory of its chunk


@dataclass(frozen=True)
class Captured:
    """A chunk as the device has noted it.

    Attributes:
        inputs: memory that it reads, by name.
        outputs: memory that it writes; the next replay writes it again.
        launch: does the work.
    """

    inputs: dict[str, Array]
    outputs: dict[str, Array]
    launch: Callable[[], None]


class Replayer:
    """Keeps what has been captured.

    Args:
        backend: can ``capture``.

    Attributes:
        captured: chunks by their kind, the oldest first; None where a chunk has run once.
        refused: why a kind of chunk is not captured.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.captured: dict[Hashable, Captured | None] = {}
        self.refused: dict[Hashable, str] = {}

    def run(self, kind: Hashable, inputs: Arrays, work: Work) -> dict[str, Array]:
        """What ``work`` makes of the inputs; the arrays are valid until the next replay.

        Args:
            kind: all that decides which launches the work is made of, such as shapes.
            inputs: arrays by name; may be changed in place.
            work: what is done on arrays of the device alone, always in the same way.
        """
        if kind in self.refused:
            return work(dict(inputs))
        if kind not in self.captured:
            self.captured[kind] = None
            return work(dict(inputs))
        captured = self.captured[kind] or self.capture(kind, inputs, work)
        if captured is None:
            return work(dict(inputs))
        for name, array in inputs.items():
            if array is not captured.inputs[name]:
                captured.inputs[name][...] = array
        captured.launch()
        return dict(captured.outputs)

    def capture(self, kind: Hashable, inputs: Arrays, work: Work) -> Captured | None:
        """Note the work on memory of its own; None if the device refuses."""
        while sum(held is not None for held in self.captured.values()) >= MOST:
            del self.captured[next(key for key, held in self.captured.items() if held)]
        refusals: tuple[type[Exception], ...] = (RuntimeError, *self.backend.out_of_memory)
        self.backend.release()  # what the first run has left in the pool
        try:
            held = {name: array.copy() for name, array in inputs.items()}
            launch, outputs = self.backend.capture(lambda: work(dict(held)))
        except refusals as problem:
            text = str(problem).strip() or type(problem).__name__
            self.refused[kind] = text.splitlines()[0]
            del self.captured[kind]
            return None
        self.captured[kind] = Captured(held, outputs, launch)
        return self.captured[kind]

    def clear(self) -> None:
        """Forget all captures, as the memory has run out."""
        self.captured.clear()
