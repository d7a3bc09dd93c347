"""Who measures which batch: this process, other processes, or machines of a cluster.

A ``Scheduler`` turns batches into their totals, in the order of the batches, whoever is done
first. ``Here`` measures in this process. ``Team`` shares batches out to the workers of a ``Crew``:
a worker that dies is replaced and its batch run again. What a crew has to tell about its workers is
little, so that processes (``processes``) and a cluster (``ray_crew``) differ in nothing else.
"""

import pickle
import warnings
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import onnx

from onnx2snn.evaluation.prefetch import prefetched
from onnx2snn.evaluation.totals import Totals
from onnx2snn_runtime.backends import EXACT
from onnx2snn_runtime.data.inputs import Piece
from onnx2snn_runtime.errors import BackendError
from onnx2snn_runtime.files.beside import map_again, mapped_files
from onnx2snn_runtime.network import Network

MOST_TRIES = 3
AHEAD = 4  # batches per worker that may be done before those in front of them


class Task(Protocol):
    """What to measure, whoever does it; it can be sent to another process."""

    def open(self, network: Network) -> Callable[[Piece], Totals]:
        """Prepare everything; returns what measures a batch."""
        ...


@dataclass(frozen=True)
class Job:
    """What every worker has to know; it can be sent to another process.

    Attributes:
        model: the spiking network.
        task: what to measure.
        backend: name of the backend.
        threads: CPU threads of a worker.
        memory: bytes that states and activations of a worker may take, None for the default.
        compute: arithmetic of convolutions and matrix products.
        files: what the weights of large models lie in.
    """

    model: onnx.ModelProto
    task: Task
    backend: str
    threads: int | None
    memory: int | None
    compute: str = EXACT
    files: Mapping[str, Path] = field(default_factory=mapped_files)

    def open(self) -> Callable[[Piece], Totals]:
        """Load the network; returns what measures a batch."""
        map_again(self.files)
        network = Network(
            self.model, backend=self.backend, threads=self.threads, memory=self.memory,
            compute=self.compute,
        )  # fmt: skip
        return self.task.open(network)


def result_of(call: Callable[[], Any]) -> Any:
    """What a call returns or raises; errors that may not survive a journey are told in words."""
    try:
        return call()
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return RuntimeError(f"{type(error).__name__}: {error}")
        return error


class Scheduler(Protocol):
    """Has batches measured."""

    def totals(self, pieces: Iterator[Piece]) -> Generator[Totals, None, None]:
        """The totals of each batch, in the order of the batches; all work ends when it is closed.

        Raises:
            Onnx2SnnError: a batch cannot be measured.
        """
        ...


class Here:
    """One batch after the other in this process."""

    def __init__(self, network: Network, task: Task) -> None:
        self.network, self.task = network, task

    def totals(self, pieces: Iterator[Piece]) -> Generator[Totals, None, None]:
        """The totals of each batch."""
        measure = self.task.open(self.network)
        yield from map(measure, prefetched(pieces, self.network.backend))


@dataclass(frozen=True)
class Event:
    """What a worker has to tell.

    Attributes:
        worker: which one.
        result: of the batch that it was given, or why it cannot load the network; None: it has.
        death: how it died, empty if it lives.
    """

    worker: Hashable
    result: Totals | Exception | None = None
    death: str = ""


class Crew(ABC):
    """Workers that load a network once and measure batches; they may die at any moment."""

    def __init__(self, size: int) -> None:
        self.size = size

    @abstractmethod
    def hire(self) -> None:
        """Begin to start one more worker; it tells when it is ready."""

    @abstractmethod
    def give(self, worker: Hashable, piece: Piece) -> None:
        """Hand a batch to a worker that has nothing to do."""

    @abstractmethod
    def events(self) -> list[Event]:
        """Wait until workers have something to tell."""

    @abstractmethod
    def close(self) -> None:
        """End all workers, whatever they do."""


class Team:
    """Shares batches out to a crew; warns when a batch has to be run again."""

    def __init__(self, crew: Crew) -> None:
        self.crew = crew

    def totals(self, pieces: Iterator[Piece]) -> Generator[Totals, None, None]:
        """The totals of each batch, in order; the crew is closed at the end, however it comes."""
        try:
            yield from _Round(self.crew, pieces).results()
        finally:
            self.crew.close()


class _Round:
    """The state of one walk through the batches."""

    def __init__(self, crew: Crew, pieces: Iterator[Piece]) -> None:
        self.crew = crew
        self.pieces = enumerate(pieces)
        self.again: deque[tuple[int, Piece]] = deque()
        self.busy: dict[Hashable, tuple[int, Piece]] = {}
        self.idle: list[Hashable] = []
        self.done: dict[int, Any] = {}
        self.deaths = Counter[int]()
        self.failed_starts = 0
        self.following = 0
        self.exhausted = False

    def results(self) -> Iterator[Totals]:
        for _ in range(self.crew.size):
            self.crew.hire()
        while True:
            self.give_all()
            if self.exhausted and not self.busy and not self.again:
                return
            for event in self.crew.events():
                self.take(event)
            while self.following in self.done:
                result = self.done.pop(self.following)
                self.following += 1
                if isinstance(result, Exception):
                    raise result
                yield result

    def give_all(self) -> None:
        """A batch for everybody who has none; not too far ahead of the slowest."""
        while self.idle:
            batch = self.next_batch()
            if batch is None:
                return
            worker = self.idle.pop()
            self.busy[worker] = batch
            self.crew.give(worker, batch[1])

    def next_batch(self) -> tuple[int, Piece] | None:
        if self.again:
            return self.again.popleft()
        ahead = len(self.busy) + len(self.done)
        if self.exhausted or ahead >= AHEAD * self.crew.size:
            return None
        batch = next(self.pieces, None)
        self.exhausted = batch is None
        return batch

    def take(self, event: Event) -> None:
        batch = self.busy.pop(event.worker, None)
        if event.death:
            self.replace(event, batch)
            return
        if batch is not None:
            self.done[batch[0]] = event.result
        elif isinstance(event.result, Exception):
            raise event.result
        else:
            self.failed_starts = 0
        self.idle.append(event.worker)

    def replace(self, event: Event, batch: tuple[int, Piece] | None) -> None:
        """Another worker for one that has died; its batch is run again."""
        if event.worker in self.idle:
            self.idle.remove(event.worker)
        elif batch is None:
            self.failed_starts += 1
            if self.failed_starts > MOST_TRIES * self.crew.size:
                raise BackendError(f"no worker starts: {event.death}")
        else:
            index, piece = batch
            self.deaths[index] += 1
            if self.deaths[index] < MOST_TRIES:
                warnings.warn(
                    f"a worker died {event.death}; batch {index} is run again", stacklevel=2
                )
                self.again.append(batch)
            else:
                self.done[index] = _lost(index, piece, event.death)
        self.crew.hire()


def _lost(index: int, piece: Piece, death: str) -> BackendError:
    last = piece.first + len(piece) - 1
    return BackendError(
        f"{MOST_TRIES} workers died one after the other at batch {index} "
        f"(images {piece.first} to {last}), the last one {death}",
        advice="if memory ran out: fewer --workers, or a smaller --batch-size or --memory",
    )
