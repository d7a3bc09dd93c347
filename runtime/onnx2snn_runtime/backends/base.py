"""What a backend must offer, and the registry of backends."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
import onnx

from onnx2snn_runtime.neurons import Chunk, StatefulOperator
from onnx2snn_runtime.planning.schedule import CacheSchedule, Footprint, Schedule, default_memory

Array = Any
EXACT = "fp32"
Captive = TypeVar("Captive")
Runner = Callable[[Mapping[str, Array]], dict[str, Array]]
"""Runs a stateless model: arrays by input name to arrays by output name."""


class Backend(ABC):
    """Runs stateless models, and stateful operators over a chunk of timesteps.

    Args:
        threads: CPU threads, None for the library's default.
        compute: arithmetic of convolutions and matrix products, one of ``computes``.

    Attributes:
        name: what ``--backend`` takes.
        computes: arithmetics that it offers, the default first.
        out_of_memory: what it raises when an allocation does not fit.
        xp: array module of the states and signals.
    """

    name: ClassVar[str]
    computes: ClassVar[tuple[str, ...]] = (EXACT,)
    out_of_memory: tuple[type[Exception], ...] = (MemoryError,)
    xp: Any

    def __init__(self, threads: int | None = None, compute: str = EXACT) -> None:
        self.threads = threads
        self.compute = compute

    @property
    def description(self) -> str:
        """What it runs on, where there is more to tell than its name."""
        return ""

    @property
    def batches_at_once(self) -> int:
        """How many batches of images may run at the same time, on threads of their own."""
        return 1

    @property
    def channel_block(self) -> int:
        """Channels that should lie side by side in memory (see ``blocks``); 1 for none."""
        return 1

    @property
    def captures(self) -> bool:
        """Whether ``capture`` works here and is wanted."""
        return False

    def capture(self, work: Callable[[], Captive]) -> tuple[Callable[[], None], Captive]:
        """Note what ``work`` launches without doing it (see ``replay``).

        Returns:
            What launches all of it, and the arrays that it writes.

        Raises:
            RuntimeError: the work does something that cannot be noted.
            NotImplementedError: this backend captures nothing.
        """
        raise NotImplementedError(f"the backend {self.name} captures nothing")

    @classmethod
    @abstractmethod
    def unavailable(cls) -> str:
        """Why this backend cannot run here, with what to do; empty if it can."""

    @abstractmethod
    def compile(
        self,
        model: onnx.ModelProto,
        *,
        threads: int | None = None,
        blocked: Collection[str] = (),
    ) -> Runner:
        """Prepare a stateless model for repeated runs.

        The runner takes arrays of ``xp`` or of NumPy, and gives back what it was given.

        Args:
            model: batch first; the results must not depend on how images are batched.
            threads: CPU threads of one run; default: as many as the backend may use.
            blocked: inputs and outputs that lie in blocks of ``channel_block`` channels; never
                given to a backend whose ``channel_block`` is 1.
        """

    def fuses(self, operator: StatefulOperator) -> bool:
        """Whether ``scan`` adds the bias and residual of a chunk of this operator by itself."""
        del operator
        return False

    def narrows(self, operator: StatefulOperator) -> bool:
        """Whether ``scan`` reads and sends 16-bit floats, which convolutions here take as well."""
        del operator
        return False

    def scan(self, operator: StatefulOperator, chunk: Chunk) -> Array:
        """All steps of a chunk of one stateful operator; returns y [C,N,*]."""
        return operator.scan(self.xp, chunk)

    def state_type(self, operator: StatefulOperator, state: str) -> np.dtype[Any]:
        """Type in which a state is held while a network runs; the file has its own."""
        del state
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(operator.state_type))

    def begins(self, operator: StatefulOperator) -> bool:
        """Whether ``scan`` of this operator fills states that hold nothing yet."""
        del operator
        return False

    def writes_shares(self, operator: StatefulOperator) -> bool:
        """Whether ``scan`` of this operator can write to a ``Place``."""
        del operator
        return False

    def schedule(self, size: Footprint, memory: int | None) -> Schedule:
        """What runs at once, within ``memory`` bytes or, if None, a share of what is free."""
        budget = default_memory() if memory is None else memory
        return CacheSchedule(size, budget // self.batches_at_once)

    @property
    def stages(self) -> bool:
        """Whether it pays to ``stage`` the next images while others are computed."""
        return False

    def stage(self, images: Any) -> None:
        """Begin to copy float32 [N,*] that ``to_device`` will be asked for."""
        return

    def to_device(self, array: Any) -> Array:
        """An array of NumPy where the backend computes."""
        return self.xp.asarray(array)

    def to_host(self, array: Array) -> Any:
        """An array of the backend as one of NumPy."""
        return np.asarray(array)

    def release(self) -> None:
        """Give back memory that is kept for later, as it has run out."""
        return


def usable_processors() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows do not tell
        return os.cpu_count() or 1
