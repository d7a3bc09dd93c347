"""A crew of processes on this machine."""

import multiprocessing
import pickle
import signal
from collections.abc import Hashable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import cast

from onnx2snn.evaluation.schedule import Crew, Event, Job, Task, result_of
from onnx2snn_runtime.backends import usable_processors
from onnx2snn_runtime.data.inputs import Piece
from onnx2snn_runtime.errors import BackendError
from onnx2snn_runtime.network import Network
from onnx2snn_runtime.planning.schedule import default_memory

SECONDS_TO_END = 5.0


class ProcessCrew(Crew):
    """Processes that share nothing, each at the other end of a pipe.

    Args:
        size: how many.
        job: what each has to do.
    """

    def __init__(self, size: int, job: Job) -> None:
        super().__init__(size)
        self.job = job
        self.workers: dict[Connection, SpawnProcess] = {}

    def hire(self) -> None:
        """Start one more process.

        Raises:
            BackendError: the system refuses.
        """
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self.job), daemon=True)
        try:
            process.start()
        except (OSError, ValueError) as problem:  # protobuf ends at 2 GiB with a ValueError
            raise BackendError(f"cannot start a worker process: {problem}") from problem
        finally:
            theirs.close()
        self.workers[ours] = process

    def give(self, worker: Hashable, piece: Piece) -> None:
        """Send a batch; that the worker has died meanwhile shows at the next `events`."""
        with suppress(BrokenPipeError, ConnectionResetError):
            cast(Connection, worker).send(piece)

    def events(self) -> list[Event]:
        """Wait for answers and for the ends of pipes."""
        return [self.event(cast(Connection, pipe)) for pipe in wait(list(self.workers))]

    def event(self, pipe: Connection) -> Event:
        """What a process has sent, or how it has ended."""
        try:
            return Event(pipe, pipe.recv())
        except (EOFError, ConnectionResetError, pickle.UnpicklingError):
            process = self.workers.pop(pipe)
            pipe.close()
            process.join(SECONDS_TO_END)
            return Event(pipe, death=_ending(process.exitcode))

    def close(self) -> None:
        """Kill the processes: they hold nothing that could be lost."""
        for process in self.workers.values():
            process.kill()
        for pipe, process in self.workers.items():
            process.join(SECONDS_TO_END)
            pipe.close()
        self.workers.clear()


def share_of(network: Network, task: Task, workers: int) -> Job:
    """What each of so many workers has to do with its share of this machine."""
    threads = network.backend.threads or usable_processors()
    memory = (network.memory or default_memory()) // workers
    backend = network.backend
    share = max(1, threads // workers)
    return Job(network.model, task, backend.name, share, memory, backend.compute)


def _ending(code: int | None) -> str:
    """An exit code in words."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        hint = "; the system kills when memory runs out" if name == "SIGKILL" else ""
        return f"by the signal {name}{hint}"
    return f"with exit code {code}; scripts need: if __name__ == '__main__'"


def _work(pipe: Connection, job: Job) -> None:
    """A worker's life: load the network, then a batch at a time until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent decides
    try:
        measure = result_of(job.open)
        pipe.send(measure if isinstance(measure, Exception) else None)
        while True:
            pipe.send(result_of(partial(measure, pipe.recv())))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # nobody is there any more
