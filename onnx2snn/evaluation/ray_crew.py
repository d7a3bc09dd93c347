"""A crew of actors in a Ray cluster: each loads the network once, on whatever machine it lives.

Batches travel as they are stored, so that the other machines need no access to the data; they need
this program, in the same version.
"""

import math
import signal
import socket
import threading
from collections.abc import Hashable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import Any

from onnx2snn import __version__
from onnx2snn.evaluation.schedule import Crew, Event, Job, Task, result_of
from onnx2snn_runtime.data.inputs import Piece
from onnx2snn_runtime.errors import BackendError, UsageError
from onnx2snn_runtime.network import Network
from onnx2snn_runtime.planning.schedule import default_memory

SECONDS_TO_REACH = 5.0
SECONDS_TO_START = 300.0
GPU_BACKENDS = ("cupy",)
START_ADVICE = "ray start --head; on the other machines: ray start --address=HOST:6379"


class RayCrew(Crew):
    """Actors that Ray places where there is room.

    An actor that dies with its machine is replaced once another machine has room for it; until then
    the others go on without it.

    Args:
        address: ``auto`` or ``HOST:PORT``.
        wanted: how many actors at most; None: as many as the cluster has room for.
        batches: no more than there are batches.
        task: what to measure.
        network: the network.

    Raises:
        UsageError: ray is not installed.
        BackendError: there is no cluster, or it has no room for a single actor.
    """

    def __init__(
        self, address: str, wanted: int | None, batches: int, task: Task, network: Network
    ) -> None:
        self.ray, self.is_ours = _connect(address)
        threads = network.backend.threads or 1
        needs = {"CPU": threads, "GPU": int(network.backend.name in GPU_BACKENDS)}
        room = self.room(needs)
        super().__init__(min(room if wanted is None else wanted, batches))
        nodes = sum(node["Alive"] for node in self.ray.nodes())
        memory = (network.memory or default_memory()) // math.ceil(self.size / nodes)
        backend = network.backend
        job = Job(network.model, task, backend.name, threads, memory, backend.compute)
        self.job = self.ray.put(job)
        self.actor = self.ray.remote(
            num_cpus=needs["CPU"], num_gpus=needs["GPU"], max_restarts=0, max_task_retries=0
        )(_Actor)
        self.actors: dict[Hashable, Any] = {}
        self.pending: dict[Any, Hashable] = {}
        self.working: set[Hashable] = set()

    def room(self, needs: dict[str, int]) -> int:
        """How many actors with these needs the cluster can hold.

        Raises:
            BackendError: there is none.
        """
        resources = self.ray.cluster_resources()
        counts = [int(resources.get(name, 0) // n) for name, n in needs.items() if n]
        if min(counts) < 1:
            self.leave()
            raise BackendError(
                f"no room in the Ray cluster for a worker: it needs {needs}, there is {resources}"
            )
        return min(counts)

    def hire(self) -> None:
        """Ask Ray for one more actor."""
        actor = self.actor.remote()
        self.actors[actor._actor_id] = actor
        self.pending[actor.open.remote(self.job, __version__)] = actor._actor_id

    def give(self, worker: Hashable, piece: Piece) -> None:
        """Send a batch."""
        self.working.add(worker)
        self.pending[self.actors[worker].run.remote(piece)] = worker

    def events(self) -> list[Event]:
        """Wait for answers and for news of deaths.

        Raises:
            BackendError: nobody works, and nobody starts either.
        """
        ready, _ = self.ray.wait(list(self.pending), num_returns=1, timeout=SECONDS_TO_START)
        if not ready and not self.working:
            raise BackendError(
                f"the Ray cluster has started no worker for {SECONDS_TO_START:.0f} s",
                advice="see ray status",
            )
        return [self.event(reference) for reference in ready]

    def event(self, reference: Any) -> Event:
        """What an actor has answered, or how it ended."""
        worker = self.pending.pop(reference)
        self.working.discard(worker)
        try:
            return Event(worker, self.ray.get(reference))
        except self.ray.exceptions.RayError as error:
            self.ray.kill(self.actors.pop(worker))
            lines = str(error).strip().splitlines() or [""]
            return Event(worker, death=f"in Ray: {type(error).__name__}: {lines[0][:300]}")

    def close(self) -> None:
        """End the actors, also those that wait for room."""
        for actor in self.actors.values():
            self.ray.kill(actor)
        self.actors.clear()
        self.leave()

    def leave(self) -> None:
        """Leave the cluster, if it was us who joined it."""
        if self.is_ours:
            self.ray.shutdown()


class _Actor:
    """A worker's life."""

    def open(self, job: Job, version: str) -> Exception | None:
        """Load the network; returns what went wrong."""
        if version != __version__:
            return BackendError(
                f"onnx2snn is {version} here and {__version__} on {socket.gethostname()}",
                advice="install one version on all machines of the cluster",
            )
        measure = result_of(job.open)
        if isinstance(measure, Exception):
            return measure
        self.measure = measure
        return None

    def run(self, piece: Piece) -> Any:
        """Measure a batch."""
        return result_of(partial(self.measure, piece))


def _connect(address: str) -> tuple[Any, bool]:
    """The module ray, in a cluster, and whether it was us who joined it."""
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            "--ray needs the package ray", advice="pip install 'onnx2snn[ray]'"
        ) from error
    if ray.is_initialized():
        return ray, False
    _reach(address)
    try:
        with _own_signals():
            ray.init(address, log_to_driver=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise BackendError(
            f"no Ray cluster at {address}: {str(error).strip().splitlines()[0]}",
            advice=START_ADVICE,
        ) from error
    return ray, True


def _reach(address: str) -> None:
    """Ray tries for minutes, or ends the process: look first.

    Raises:
        UsageError: this is no address.
        BackendError: nobody answers there.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--ray must be auto or HOST:PORT, got {address!r}")
    try:
        with closing(socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_REACH)):
            pass
    except OSError as error:
        raise BackendError(
            f"nobody answers at {address}: {error.strerror or error}", advice=START_ADVICE
        ) from error


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM over when it joins; ours removes temporary files."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        with suppress(TypeError):  # None: a handler that is not Python's
            signal.signal(signal.SIGTERM, before)
