"""Time and memory of spiking ResNet-18 on a GPU, after the tests on the device have passed.

One command of less than ten minutes; what does not fit into the time is left out and named. Times
are of whole runs from images on the host to answers on the host; of SpikingJelly both lie on the
card. Prints Markdown. All numbers, with device, driver and versions, go to a JSON file, which is
written anew after each of them: what has been measured survives a kill.

    python benchmarks/gpu.py -o gpu.json
    python benchmarks/gpu.py --peer-python sj/bin/python    # SpikingJelly in its own environment
"""

import argparse
import datetime
import gc
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from networks import RESNET18_SIZE, resnet18

import onnx2snn
from onnx2snn.evaluation.stand_in import to_ann
from onnx2snn_runtime import Network
from onnx2snn_runtime.backends.cupy_backend import CupyBackend
from onnx2snn_runtime.errors import Onnx2SnnError
from onnx2snn_runtime.gpu import COMPUTES, ENGINES, ColumnsEngine, CupyDevice, survey
from onnx2snn_runtime.neurons import FAMILIES, Chunk, Signature

ROOT = Path(__file__).resolve().parents[1]
PEER = Path(__file__).with_name("spikingjelly_gpu.py")
WARM_UPS = 3
MOST_RUNS = 20
NO_DEVICE = 7
Row = dict[str, Any]


class Clock:
    """What is left of the time."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self.left_out: list[str] = []

    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()

    def allows(self, what: str, seconds: float) -> bool:
        """Whether there is time for something; it is noted if not."""
        if self.left() < seconds:
            self.left_out.append(what)
            return False
        return True


def check(clock: Clock) -> str:
    """Run the tests on the device.

    Raises:
        SystemExit: one fails.
    """
    if importlib.util.find_spec("pytest") is None:
        raise SystemExit("correctness comes first: pip install pytest hypothesis")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gpu"]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False,
            timeout=max(1.0, clock.left()),
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        raise SystemExit(f"the tests on the device take too long: {late.stdout!r:.3000}") from late
    if done.returncode:
        print(done.stdout[-6000:], file=sys.stderr)
        raise SystemExit("the tests on the device fail: nothing is timed")
    return done.stdout.strip().splitlines()[-1]


def timed(cupy: Any, work: Callable[[], object], seconds: float) -> tuple[list[float], int]:
    """Seconds of several runs, waited for; and the most that CuPy's pool held."""
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    for _ in range(WARM_UPS):
        work()
    times: list[float] = []
    started = time.monotonic()
    while len(times) < MOST_RUNS and (not times or time.monotonic() - started < seconds):
        cupy.cuda.Device().synchronize()
        begun = time.perf_counter()
        work()
        cupy.cuda.Device().synchronize()
        times.append(time.perf_counter() - begun)
    return times, int(pool.total_bytes())  # the pool keeps what it has once allocated


def copy_gb_s(cupy: Any) -> float:
    """Gigabytes read and written a second by a copy of one gigabyte."""
    source = cupy.zeros(2**28, dtype=np.float32)
    target = cupy.empty_like(source)
    times, _ = timed(cupy, lambda: cupy.copyto(target, source), 2)
    return float(2 * source.nbytes / statistics.median(times) / 1e9)


def ceilings(cupy: Any) -> dict[str, float]:
    """What the card does at best: a copy, and matrix products, in this process."""
    found = {"copy_gb_s": copy_gb_s(cupy)}
    for name in ("float32", "float16"):
        a = cupy.random.standard_normal((8192, 8192), dtype=np.float32).astype(name)
        times, _ = timed(cupy, lambda a=a: cupy.matmul(a, a), 2)
        found[f"matmul_{name}_tflops"] = 2 * 8192**3 / statistics.median(times) / 1e12
    return found


def neuron_kernel(backend: CupyBackend, timesteps: int) -> dict[str, float]:
    """Gigabytes a second of the burst neuron over all steps, input and output once each."""
    xp = backend.xp
    images = max(1, min(64, backend.device.free_bytes() // (4 * timesteps * 64 * 112 * 112 * 4)))
    current = xp.ones((timesteps, images, 64, 112, 112), dtype=np.float32)
    operator = FAMILIES["BurstIF"](
        Signature("Relu"),
        {"v0": 0.5, "burst_limit": 15.0, "lower_limit": -15.0, "rounding": 1.0},
    )
    threshold = xp.full((1, 64, 1, 1), 0.3, dtype=np.float32)
    states = [xp.zeros(current.shape[1:], dtype=np.float32) for _ in range(2)]

    def work() -> None:
        chunk = Chunk([current], threshold, list(states), 1, evaluate=lambda arrays: arrays[0])
        backend.scan(operator, chunk)

    times, _ = timed(xp, work, 3)
    moved = 2 * current.nbytes + 4 * states[0].nbytes
    return {"images": images, "gb_s": moved / statistics.median(times) / 1e9}


def ours(
    ann: onnx.ModelProto,
    spiking: onnx.ModelProto,
    options: argparse.Namespace,
    clock: Clock,
    problems: list[str],
) -> Iterator[Row]:
    """The ANN on our engines, and the spiking network, in each arithmetic.

    An arithmetic that fails is a problem, and the others are measured nevertheless.
    """
    images = np.random.default_rng(1).normal(0, 1, (options.batch, 3, RESNET18_SIZE, RESNET18_SIZE))
    images = images.astype(np.float32)
    device = CupyDevice()
    chosen = next(engine for engine in ENGINES if not engine.unavailable())
    trials = [(chosen, compute) for compute in COMPUTES]
    trials += [(ColumnsEngine, "fp32")] if chosen is not ColumnsEngine else []
    for engine, compute in trials:
        backend = CupyBackend(None, compute, device, engine(device, compute))
        label = f"{engine.name}, {compute}"
        if not clock.allows(label, 20):
            continue
        try:
            yield from in_arithmetic(backend, label, ann, spiking, images, options, clock)
        except (Onnx2SnnError, RuntimeError, MemoryError) as error:
            problems.append(f"{label}: {type(error).__name__}: {error}")
        declined = getattr(backend.engine, "declined", {})
        problems.extend(
            f"{label}: by columns {g.x} {g.weight}: {why}" for g, why in declined.items()
        )


def in_arithmetic(
    backend: CupyBackend,
    label: str,
    ann: onnx.ModelProto,
    spiking: onnx.ModelProto,
    images: np.ndarray,
    options: argparse.Namespace,
    clock: Clock,
) -> Iterator[Row]:
    """The rows of one engine in one arithmetic."""
    xp, run = backend.device.xp, backend.compile(ann)
    yield row(f"ANN, {label}", 1, options, timed(xp, lambda: run({"image": images}), 3))
    network = Network(spiking, backend=backend)
    for timesteps in options.timesteps:
        if clock.allows(f"{label}, T={timesteps}", 30):
            found = timed(
                xp, lambda t=timesteps: network.run(images, t, batch_size=options.batch), 6
            )
            yield row(f"onnx2snn, {label}", timesteps, options, found)


def row(
    name: str, timesteps: int, options: argparse.Namespace, found: tuple[list[float], int]
) -> Row:
    """One line of the table."""
    times, peak = found
    low, middle, high = np.quantile(times, [0.1, 0.5, 0.9]) * 1000 / options.batch
    return {
        "name": name, "timesteps": timesteps, "ms_per_image": float(middle),
        "p10": float(low), "p90": float(high), "runs": len(times), "peak_bytes": peak,
    }  # fmt: skip


def peer(options: argparse.Namespace, clock: Clock) -> dict[str, Any]:
    """Torch and SpikingJelly, where there is a Python that has them."""
    python = options.peer_python or sys.executable
    needed = "import torch, torchvision, spikingjelly"
    has = subprocess.run([python, "-c", needed], capture_output=True, text=True, check=False)
    if has.returncode:
        last = has.stderr.strip().splitlines()[-1]
        return {"rows": [], "problems": [f"SpikingJelly and torch are left out: {last}"]}
    seconds = min(180.0, clock.left() - 30)
    if seconds < 30:
        return {"rows": [], "problems": ["SpikingJelly and torch are left out: no time is left"]}
    command = [python, str(PEER), "--batch", str(options.batch), "--seconds", str(seconds / 2),
               "--timesteps", *map(str, options.timesteps)]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"rows": [], "problems": ["SpikingJelly took longer than its share of the time"]}
    if done.returncode:
        return {"rows": [], "problems": [f"SpikingJelly failed: {done.stderr[-800:]}"]}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def table(rows: list[Row]) -> Iterator[str]:
    """Markdown; a step is a run divided by T."""
    yield "| | T | ms an image | images/s | ms a step | peak GB | runs |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for entry in rows:
        time_ms, t = entry["ms_per_image"], entry["timesteps"]
        yield (
            f"| {entry['name']} | {t} | {time_ms:.3f} | {1000 / time_ms:.0f} | {time_ms / t:.4f} "
            f"| {entry['peak_bytes'] / 1e9:.2f} | {entry['runs']} |"
        )


def report(document: dict[str, Any]) -> Iterator[str]:
    """What is printed."""
    device, best = document["device"], document["ceilings"]
    packages = ", ".join(f"{name} {version}" for name, version in document["packages"].items())
    yield f"{device['name']}, driver for CUDA {device['driver']}; {packages}; {document['date']}."
    yield f"Tests on the device: {document['tests']}."
    yield "Ceilings: " + ", ".join(f"{name} {value:.0f}" for name, value in best.items()) + "."
    kernel = document["neuron_kernel"]
    share = 100 * kernel["gb_s"] / best["copy_gb_s"]
    yield f"Burst neuron, T=32: {kernel['gb_s']:.0f} GB/s, {share:.0f} % of a copy."
    yield ""
    yield f"ResNet-18, 224×224, batch {document['batch']}, random weights:"
    yield ""
    yield from table(document["rows"])
    for problem in [*document["problems"], *(f"left out: {x}" for x in document["left_out"])]:
        yield f"\n{problem}"


def measure(options: argparse.Namespace, found: dict[str, Any]) -> dict[str, Any]:
    """Everything, correctness first."""
    import cupy

    clock = Clock(options.seconds)
    problems: list[str] = []
    rows: list[Row] = []
    document = {
        **found, "date": datetime.date.today().isoformat(), "batch": options.batch,
        "recipe": options.recipe, "onnx2snn": onnx2snn.__version__, "rows": rows,
        "problems": problems, "left_out": clock.left_out,
    }  # fmt: skip

    def note(**news: Any) -> None:
        document.update(news)
        if options.output:
            options.output.write_text(json.dumps(document, indent=1) + "\n")

    note(tests="left out" if options.no_tests else check(clock))
    shape = (16, 3, RESNET18_SIZE, RESNET18_SIZE)
    noise = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    spiking = onnx2snn.convert(
        resnet18(), calibration=noise, recipe=options.recipe, backend="cupy"
    ).proto
    note(ceilings=ceilings(cupy))
    note(neuron_kernel=neuron_kernel(CupyBackend(), 32))
    for entry in ours(to_ann(spiking), spiking, options, clock, problems):  # with BN folded
        rows.append(entry)
        note()
    gc.collect()
    cupy.get_default_memory_pool().free_all_blocks()  # the rival wants memory, too
    rivals = peer(options, clock)
    rows += rivals["rows"]
    problems += rivals["problems"]
    note(peer_versions=rivals.get("versions"))
    return document


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("-o", "--output", type=Path, help="write all numbers here, as JSON")
    add("--batch", type=int, default=64)
    add("--timesteps", type=int, nargs="+", default=[4, 16, 32])
    add("--recipe", default="fast")
    add("--peer-python", help="python with torch, torchvision and spikingjelly (this one)")
    add("--seconds", type=float, default=420, help="for everything")
    add("--no-tests", action="store_true", help="the tests have passed just now")
    options = parser.parse_args()
    found = survey(ENGINES)
    if found["why_not"]:
        print(f"nothing is measured: {found['why_not']}", file=sys.stderr)
        return NO_DEVICE
    print("\n".join(report(measure(options, found))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
