"""CPU seconds until a spiking network is as accurate as its ANN: SpikingJelly's and ours.

The same network, the same images: SpikingJelly converts the trained ANN with its own calibration
(``spikingjelly_accuracy_worker.py``, in an environment of its own) and runs until the largest T;
ours is converted with ``--target-drop 0.1`` and runs the recommended steps. Batch by batch both and
the dense ANN take turns on one thread. The T of SpikingJelly is the smallest of those given that
loses at most ``--loss`` points of accuracy, chosen on the test images themselves, in its favour.
Prints Markdown.

    python benchmarks/time_to_accuracy.py --shared ../shared --spikingjelly-python sj/bin/python
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cases import CIFAR_JPEGS, SQUEEZENET, Case
from cpu import DENSE, Peer, machine, measured, session
from onnx import numpy_helper

import onnx2snn
from onnx2snn_runtime import Network
from onnx2snn_runtime.data.sources import open_data

BATCH = 32
WORKER = Path(__file__).with_name("spikingjelly_accuracy_worker.py")
CASES = {  # by the name that the workers know
    "ResNet-20": Case(
        "resnet20, JPEGs", "models/cifar10_resnet20_dynamo.onnx", *CIFAR_JPEGS, "imagenet"
    ),
    "SqueezeNet 1.1": Case(
        "squeezenet", "models/imagenet_squeezenet1_1_dynamo.onnx", *SQUEEZENET[1:]
    ),
}
WEIGHTED = ("Conv", "Gemm")
OURS, EARLY = "`--target-drop 0.1`", "`--target-drop 0.1`, early exit"

Classify = Callable[[np.ndarray], np.ndarray]
"""Images [N,*] to classes [N]."""


def weights(model: onnx.ModelProto) -> Iterator[np.ndarray]:
    """Weight and bias of every weighted operator, in the order of the file."""
    arrays = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in WEIGHTED:
            yield from (arrays[name] for name in node.input[1:3])


class Race:
    """The contestants on one network.

    Args:
        case: model and data.
        shared: where they are.
        samples: calibration images, for both converters.
        count: test images.
    """

    def __init__(self, case: Case, shared: Path, samples: int, count: int) -> None:
        model, calibration, test = case.files(shared)
        self.model = onnx.load(model)
        spiking = onnx2snn.convert(
            model, calibration=calibration, calibration_samples=samples, target_drop=0.1,
            preprocess=case.preprocess,
        )  # fmt: skip
        self.ours = Network(spiking.proto, backend="onnxruntime", threads=1)
        self.ann = session(self.model, 1)
        ((_, shape),) = self.ours.input_shapes.items()
        steps = self.ours.preprocessing

        def read(file: Path, images: int) -> tuple[np.ndarray, Any]:
            return next(open_data(file, limit=images).batches(images, shape[1:], steps))

        self.calibration, _ = read(calibration, samples)
        self.images, self.labels = read(test, count)

    def dense(self, images: np.ndarray) -> np.ndarray:
        """Logits of the ANN."""
        return self.ann.run(None, {self.ann.get_inputs()[0].name: images})[0]

    def write(self, folder: Path) -> None:
        """What the other process needs."""
        np.savez(folder / "weights.npz", *weights(self.model))
        np.save(folder / "calibration.npy", self.calibration)
        np.save(folder / "images.npy", self.images)
        np.save(folder / "logits.npy", self.dense(self.images[:8]))

    def run(self, peer: Peer, name: str, mode: str, timesteps: list[int]) -> "Result":
        """All batches, in turns."""
        contestants: dict[str, Classify] = {
            DENSE: lambda images: self.dense(images).argmax(axis=1),
            OURS: lambda images: self.ours.run(images).logits.argmax(axis=1),
        }
        if self.ours.exit_rule:
            contestants[EARLY] = lambda images: self.ours.run(
                images, early_exit=True
            ).logits.argmax(axis=1)
        for classify in contestants.values():
            classify(self.images[:BATCH])  # compile, allocate
        found = Result(len(self.images), self.ours.recommended_timesteps, timesteps)
        for first in range(0, len(self.images), BATCH):
            images = np.ascontiguousarray(self.images[first : first + BATCH])
            labels = self.labels[first : first + BATCH]
            for key, classify in contestants.items():
                classes, seconds = measured(classify, images)
                found.add(key, seconds, int((classes == labels).sum()))
            reply = peer.ask({
                "network": name, "mode": mode, "first": first, "count": len(images),
                "timesteps": timesteps,
            })  # fmt: skip
            for t, seconds, answer in zip(timesteps, reply["cpu_s"], reply["classes"], strict=True):
                found.add(t, seconds, int((np.array(answer) == labels).sum()))
        return found


class Result:
    """CPU seconds and right answers by contestant; SpikingJelly's by T."""

    def __init__(self, images: int, recommended: int, timesteps: list[int]) -> None:
        self.images, self.recommended, self.timesteps = images, recommended, timesteps
        self.seconds: Counter[str | int] = Counter()
        self.right: Counter[str | int] = Counter()

    def add(self, key: str | int, seconds: float, right: int) -> None:
        """What one contestant did on one batch."""
        self.seconds[key] += seconds
        self.right[key] += right

    def accuracy(self, key: str | int) -> float:
        """In percent."""
        return 100.0 * self.right[key] / self.images

    def rows(self, mode: str, loss: float) -> Iterator[str]:
        """A line for each contestant, and for each T of SpikingJelly."""

        def row(name: str, key: str | int, steps: Any) -> str:
            milliseconds = 1000 * self.seconds[key] / self.images
            passes = self.seconds[key] / self.seconds[DENSE]
            return (
                f"| {name} | {steps} | {self.accuracy(key):.2f} "
                f"| {self.accuracy(key) - self.accuracy(DENSE):+.2f} "
                f"| {milliseconds:.2f} | {passes:.1f} |"
            )

        yield row(DENSE, DENSE, "")
        yield row(OURS, OURS, self.recommended)
        if EARLY in self.seconds:
            yield row(EARLY, EARLY, "")
        for t in self.timesteps:
            yield row(f"SpikingJelly, {mode}", t, t)
        enough = [t for t in self.timesteps if self.accuracy(DENSE) - self.accuracy(t) <= loss]
        last = enough[0] if enough else self.timesteps[-1]
        yield ""
        yield (
            f"SpikingJelly ({mode}) is within {loss:g} points at T = {last}"
            if enough
            else f"SpikingJelly ({mode}) is not within {loss:g} points at T = {last}"
        )
        for key in (OURS, EARLY):
            if key in self.seconds:
                more = "" if enough else "more than "
                yield f"- {key} takes {more}{self.seconds[last] / self.seconds[key]:.0f} times less"


def main() -> None:
    """Run the race on one network, for each way to find thresholds that SpikingJelly has."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--shared", type=Path, default=Path("../shared"))
    add("--spikingjelly-python", type=Path, required=True)
    add("--network", default="ResNet-20", choices=CASES)
    add("--modes", nargs="+", default=["99.9%"], help="99.9%% or max: SpikingJelly's thresholds")
    add("--images", type=int, default=500)
    add("--calibration-samples", type=int, default=512)
    add("--timesteps", nargs="+", type=int, default=[8, 16, 32, 64, 128, 256, 512])
    add("--loss", type=float, default=0.5, help="points of accuracy that may be lost")
    options = parser.parse_args()
    race = Race(CASES[options.network], options.shared, options.calibration_samples, options.images)
    with tempfile.TemporaryDirectory() as folder:
        race.write(Path(folder))
        with Peer.start(options.spikingjelly_python, WORKER, folder, "1") as peer:
            print(f"{machine(peer)}; 1 thread.\n")
            print(f"**{options.network}, {options.images} images**\n")
            print("| | T | accuracy % | against the ANN | CPU ms an image | dense passes |")
            print("| --- | --- | --- | --- | --- | --- |", flush=True)
            for mode in options.modes:
                found = race.run(peer, options.network, mode, options.timesteps)
                print("\n".join(found.rows(mode, options.loss)) + "\n", flush=True)


if __name__ == "__main__":
    main()
