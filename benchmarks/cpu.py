"""CPU seconds of spiking networks against a dense pass of the ANN in onnxruntime.

All contestants run in one process on the same number of threads and take turns, so that whatever
else the machine does hits all of them alike; medians of CPU seconds are compared. SpikingJelly runs
in an environment of its own as a subprocess that waits between its turns. Prints Markdown.

    python benchmarks/cpu.py --shared ../shared --spikingjelly-python sj/bin/python
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from networks import SIZE, vgg16_bn

import onnx2snn
from onnx2snn_runtime import Network
from onnx2snn_runtime.backends import backend_classes
from onnx2snn_runtime.data.preprocessing import Preprocessing
from onnx2snn_runtime.data.sources import open_data
from onnx2snn_runtime.format import NEXT

DENSE = "dense ANN, onnxruntime"
LOOP = "the file in a plain onnxruntime loop"
PEER = "SpikingJelly"
CALIBRATION_IMAGES = 64
WORKER = Path(__file__).with_name("spikingjelly_worker.py")

Run = Callable[[int], float]
"""Runs a number of timesteps on the batch and returns the CPU seconds it took."""


@dataclass(frozen=True)
class Subject:
    """One network: the ANN, and images as it takes them, [N,*]."""

    name: str
    model: onnx.ModelProto
    images: np.ndarray


def subjects(shared: Path) -> Iterator[Subject]:
    """The networks that can be built here."""
    images = np.random.default_rng(0).normal(0, 1, (CALIBRATION_IMAGES, 3, SIZE, SIZE))
    yield Subject("VGG16-BN", vgg16_bn(), images.astype(np.float32))
    for name, model, data in (
        ("ResNet-20", "cifar10_resnet20_dynamo.onnx", "cifar10_original_calib.npz"),
        ("SqueezeNet 1.1", "imagenet_squeezenet1_1_dynamo.onnx", "imagenet_sample_calib.npz"),
    ):
        if not (shared / "models" / model).is_file():
            print(f"{name} is left out: there is no {shared / 'models' / model}", file=sys.stderr)
            continue
        dataset = open_data(shared / "data" / data)
        size = (3, 32, 32) if name == "ResNet-20" else (3, 224, 224)
        steps = Preprocessing.parse("imagenet")
        images, _ = next(dataset.batches(CALIBRATION_IMAGES, size, steps))
        yield Subject(name, onnx.load(shared / "models" / model), images)


def measured(work: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What a call returns, and its CPU seconds over all threads of the process."""
    started = time.process_time()
    result = work(*arguments)
    return result, time.process_time() - started


def timed(work: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    return measured(work)[1]


def session(model: onnx.ModelProto, threads: int) -> onnxruntime.InferenceSession:
    """A session whose waiting threads burn no CPU seconds."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def dense(subject: Subject, images: np.ndarray, threads: int) -> Run:
    """One pass of the ANN, whatever the number of steps."""
    ann = session(subject.model, threads)
    feeds = {ann.get_inputs()[0].name: images}
    return lambda timesteps: timed(lambda: ann.run(None, feeds))


def plain_loop(spiking: onnx.ModelProto, images: np.ndarray, threads: int) -> Run:
    """What anybody can do with the file: start from zeros, feed ``….next`` back."""
    step = session(spiking, threads)
    outputs = [value.name for value in step.get_outputs()]
    states = [value for value in step.get_inputs() if value.name + NEXT in outputs]
    (image,) = (value.name for value in step.get_inputs() if value.name + NEXT not in outputs)
    kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}

    def run(timesteps: int) -> None:
        feeds = {image: images}
        for state in states:
            shape = [len(images) if isinstance(size, str) else size for size in state.shape]
            feeds[state.name] = np.zeros(shape, kinds[state.type])
        for _ in range(timesteps):
            results = dict(zip(outputs, step.run(outputs, feeds), strict=True))
            feeds.update({state.name: results[state.name + NEXT] for state in states})

    return lambda timesteps: timed(lambda: run(timesteps))


def ours(spiking: onnx.ModelProto, images: np.ndarray, backend: str, threads: int) -> Run:
    """Our runtime."""
    network = Network(spiking, backend=backend, threads=threads)
    return lambda timesteps: timed(lambda: network.run(images, timesteps))


class Peer:
    """SpikingJelly in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], versions: str) -> None:
        self.process, self.versions = process, versions

    @classmethod
    @contextmanager
    def start(cls, python: Path, worker: Path, *arguments: str) -> Iterator["Peer"]:
        """Start a worker; it ends with the context."""
        command = [str(python), str(worker), *arguments]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
            peer = cls(process, "")
            peer.versions = peer.read()["versions"]
            yield peer
            assert process.stdin
            process.stdin.close()

    def read(self) -> dict:
        """The next answer."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the SpikingJelly process ended; its message stands above")
        return json.loads(line)

    def ask(self, command: dict) -> dict:
        """The answer to one command."""
        assert self.process.stdin
        print(json.dumps(command), file=self.process.stdin, flush=True)
        return self.read()

    def runner(self, network: str, batch: int) -> Run:
        """Runs one of its networks."""

        def run(timesteps: int) -> float:
            command = {"network": network, "batch": batch, "timesteps": timesteps}
            return float(self.ask(command)["cpu_s"])

        return run


def contestants(
    subject: Subject, spiking: dict[str, onnx.ModelProto], batch: int,
    options: argparse.Namespace, peer: Peer | None,
) -> dict[str, Run]:  # fmt: skip
    """Everything that takes turns, by name; the dense pass first."""
    images = np.ascontiguousarray(subject.images[:batch])
    runs = {DENSE: dense(subject, images, options.threads)}
    for recipe, model in spiking.items():
        for backend in options.backends:
            runs[f"`{recipe}`, {backend}"] = ours(model, images, backend, options.threads)
        if options.loop:
            runs[f"`{recipe}`, {LOOP}"] = plain_loop(model, images, options.threads)
    if peer:
        runs[PEER] = peer.runner(subject.name, batch)
    return runs


def take_turns(
    runs: dict[str, Run], timesteps: list[int], repetitions: int, seconds: float
) -> dict[tuple[str, int], list[float]]:
    """CPU seconds by contestant and T; one that has used up its seconds stops taking turns."""
    for run in runs.values():
        run(1)  # compile, allocate
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(repetitions):
        for t in timesteps:
            for name, run in runs.items():
                times = found.setdefault((name, t), [])
                if not times or sum(times) + times[-1] <= seconds:
                    times.append(run(t))
    return found


def table(
    found: dict[tuple[str, int], list[float]], timesteps: list[int], batch: int
) -> Iterator[str]:
    """Rows: whole runs in dense passes, and what one step costs in dense passes."""
    (reference,) = {statistics.median(found[DENSE, t]) for t in timesteps[:1]}
    dense_times = [time for t in timesteps for time in found[DENSE, t]]
    reference = statistics.median(dense_times)
    yield "| | " + " | ".join(f"T={t} | step" for t in timesteps) + " | runs |"
    yield "| --- |" + " --- |" * (2 * len(timesteps) + 1)
    for name in dict.fromkeys(name for name, _ in found):
        if name == DENSE:
            continue
        cells = []
        for t in timesteps:
            whole = statistics.median(found[name, t]) / reference
            cells += [f"{whole:.1f}", f"{whole / t:.2f}"]
        runs = "/".join(str(len(found[name, t])) for t in timesteps)
        yield f"| {name} | " + " | ".join(cells) + f" | {runs} |"
    yield ""
    yield (
        f"One dense pass: {1000 * reference / batch:.3f} ms an image "
        f"(median of {len(dense_times)} runs, spread of the middle half "
        f"{100 * spread(dense_times):.0f} %)."
    )


def spread(times: list[float]) -> float:
    """Distance of the quartiles relative to the median."""
    low, middle, high = np.quantile(times, [0.25, 0.5, 0.75])
    return float((high - low) / middle)


def machine(peer: Peer | None) -> str:
    """CPU, cores and versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    cpu = names[0] if names else platform.processor()
    packages = ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("onnxruntime", "numba", "numpy", "onnx")
    )
    load = os.getloadavg()[0]
    return (
        f"{cpu}, {os.cpu_count()} cores (load {load:.1f}), {platform.system()}, "
        f"Python {platform.python_version()}, {packages}"
        + (f", {peer.versions}" if peer else "")
    )  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--shared", type=Path, default=Path("../shared"), help="folder with models/ and data/")
    add("--spikingjelly-python", type=Path, help="python of an environment with SpikingJelly")
    add("--only", default="", help="part of a network's name")
    add("--recipes", nargs="+", default=["fast"])
    add("--backends", nargs="+", default=["onnxruntime"], choices=sorted(backend_classes()))
    add("--no-loop", dest="loop", action="store_false", help="leave out the plain loop")
    add("--batch", nargs="+", type=int, default=[1, 32])
    add("--timesteps", nargs="+", type=int, default=[4, 16, 64])
    add("--threads", type=int, default=1)
    add("--repetitions", type=int, default=9)
    add("--seconds", type=float, default=20.0, help="CPU seconds of one contestant at one T")
    options = parser.parse_args()
    with ExitStack() as stack:
        peer = None
        if options.spikingjelly_python:
            peer = stack.enter_context(
                Peer.start(options.spikingjelly_python, WORKER, str(options.threads))
            )
        else:
            print("SpikingJelly is left out: give --spikingjelly-python", file=sys.stderr)
        print(f"{machine(peer)}; {options.threads} thread(s).\n")
        for subject in subjects(options.shared):
            if options.only not in subject.name:
                continue
            spiking = {
                recipe: onnx2snn.convert(
                    subject.model, calibration=subject.images, recipe=recipe
                ).proto
                for recipe in options.recipes
            }
            for batch in options.batch:
                print(f"**{subject.name}, batch {batch}**\n", flush=True)
                runs = contestants(subject, spiking, batch, options, peer)
                found = take_turns(runs, options.timesteps, options.repetitions, options.seconds)
                print("\n".join(table(found, options.timesteps, batch)) + "\n", flush=True)


if __name__ == "__main__":
    main()
