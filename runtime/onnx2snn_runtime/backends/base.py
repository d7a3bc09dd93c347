"""What a backend must offer, and the registry of backends."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar

import onnx

from onnx2snn_runtime.neurons import Chunk, StatefulOperator

Array = Any
Runner = Callable[[Mapping[str, Array]], dict[str, Array]]
"""Runs a stateless model: arrays by input name to arrays by output name."""


class Backend(ABC):
    """Runs stateless models, and stateful operators over a chunk of timesteps."""

    name: ClassVar[str]
    xp: Any

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads

    @property
    def batches_at_once(self) -> int:
        """How many batches of images may run at the same time, on threads of their own."""
        return 1

    @property
    def channel_block(self) -> int:
        """Channels that should lie side by side in memory (see ``blocks``); 1 for none."""
        return 1

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

        Args:
            model: batch first; the results must not depend on how images are batched.
            threads: CPU threads of one run; default: as many as the backend may use.
            blocked: inputs and outputs that lie in blocks of ``channel_block`` channels; never
                given to a backend whose ``channel_block`` is 1.
        """

    def scan(self, operator: StatefulOperator, chunk: Chunk) -> Array:
        """All steps of a chunk of one stateful operator; returns y [C,N,*]."""
        return operator.scan(self.xp, chunk)


def usable_processors() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows do not tell
        return os.cpu_count() or 1
