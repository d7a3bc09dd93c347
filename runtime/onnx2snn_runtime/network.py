"""The public face of the runtime: load a spiking network and run it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnx2snn_runtime.backends import open_backend
from onnx2snn_runtime.engine import DEFAULT_MEMORY, Engine, Observer
from onnx2snn_runtime.errors import DataError, UsageError
from onnx2snn_runtime.files import load_model
from onnx2snn_runtime.format import read_metadata
from onnx2snn_runtime.plan import Plan, Shape, Stateful, make_plan
from onnx2snn_runtime.preprocessing import Preprocessing

Array = Any
DEFAULT_BATCH = 32
MAX_TIMESTEPS = 1_000_000


@dataclass
class Result:
    """Answers of a spiking network.

    Attributes:
        outputs: answer after the last step, output name to array [N,*] float32.
        by_step: the same for every step that was asked for.
        spikes: layer name to spikes per image and neuron over all steps, [N,*], if recorded.
        timesteps: number of steps run.
    """

    outputs: dict[str, Array]
    by_step: dict[int, dict[str, Array]]
    timesteps: int
    spikes: dict[str, Array] = field(default_factory=dict)

    @property
    def logits(self) -> Array:
        """The first output, usually [N, classes]."""
        return next(iter(self.outputs.values()))


class SpikeRecorder:
    """Sums |n| over the steps, per layer, image and neuron."""

    def __init__(self) -> None:
        self.spikes: dict[str, Array] = {}

    def observe(self, unit: Stateful, first_step: int, outputs: Array, counts: Array) -> None:
        """Add the spikes of one chunk."""
        del first_step, outputs
        if counts is not None:
            total = np.abs(counts).sum(axis=0)
            self.spikes[unit.name] = self.spikes.get(unit.name, 0) + total


class Network:
    """A spiking network, ready to run.

    Args:
        model: the file's content, one step of the network.
        backend: ``auto``, ``numpy``, ``onnxruntime`` or ``cupy``.
        threads: CPU threads, None for the library's default.
        memory: bytes that one chunk of timesteps may take.

    Example:
        >>> import onnx2snn_runtime
        >>> network = onnx2snn_runtime.load("model.snn.onnx")  # doctest: +SKIP
        >>> network.run(images, timesteps=8).logits  # doctest: +SKIP
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        *,
        backend: str = "auto",
        threads: int | None = None,
        memory: int = DEFAULT_MEMORY,
    ) -> None:
        self.model = model
        self.metadata = read_metadata(model)
        self.plan: Plan = make_plan(model)
        self.backend, self.backend_reason = open_backend(backend, threads)
        self.engine = Engine(self.plan, self.backend, memory)

    @property
    def input_shapes(self) -> dict[str, Shape]:
        """Name and shape of each input, batch first as ``N``."""
        return self.plan.inputs

    @property
    def preprocessing(self) -> Preprocessing | None:
        """What turns a uint8 picture into the network's input, as stored in the file."""
        stored = self.metadata.get("preprocessing")
        return Preprocessing.from_json(stored) if stored else None

    @property
    def recommended_timesteps(self) -> int:
        """The number of steps the converter recommends."""
        return int(self.metadata.get("recommended_t") or 8)

    def run(
        self,
        images: Array | Mapping[str, Array],
        timesteps: int | Sequence[int] | None = None,
        *,
        batch_size: int = DEFAULT_BATCH,
        record: bool = False,
    ) -> Result:
        """Run the network.

        Args:
            images: float32 [N,*] shown at every step, or [T,N,*], one frame a step; several inputs
                as a mapping by input name.
            timesteps: number of steps, or the steps after which answers are wanted; default: what
                the converter recommends.
            batch_size: images at once.
            record: also count the spikes of every neuron.

        Raises:
            DataError: the images do not fit the network.
            UsageError: a number is out of range.
        """
        feeds, sequence = self.check_feeds(images)
        steps = check_timesteps(
            self.recommended_timesteps if timesteps is None else timesteps, feeds, sequence
        )
        if batch_size < 1:
            raise UsageError(f"--batch-size must be at least 1, got {batch_size}")
        count = next(iter(feeds.values())).shape[1 if sequence else 0]
        parts: dict[int, list[dict[str, Array]]] = {t: [] for t in steps}
        spikes: list[dict[str, Array]] = []
        for start in range(0, count, batch_size):
            window = slice(start, start + batch_size)
            batch = {k: v[:, window] if sequence else v[window] for k, v in feeds.items()}
            recorder = SpikeRecorder() if record else None
            for t, answer in self.engine.run(batch, steps, sequence=sequence, observer=recorder):
                parts[t].append(answer)
            if recorder is not None:
                spikes.append(recorder.spikes)
        by_step = {t: _join(answers) for t, answers in parts.items()}
        return Result(by_step[steps[-1]], by_step, steps[-1], _join(spikes) if spikes else {})

    def stream(
        self, images: Array | Mapping[str, Array], timesteps: int | None = None
    ) -> Iterator[dict[str, Array]]:
        """Yield the answer after each step, output name to [N,*].

        Args:
            images: as for ``run``, one batch.
            timesteps: number of steps; default: what the converter recommends.
        """
        feeds, sequence = self.check_feeds(images)
        wanted = timesteps or self.recommended_timesteps
        last = check_timesteps(wanted, feeds, sequence)[-1]
        for _, answer in self.engine.run(feeds, range(1, last + 1), sequence=sequence):
            yield answer

    def observe(
        self, feeds: Mapping[str, Array], steps: Sequence[int], observer: Observer
    ) -> dict[int, dict[str, Array]]:
        """Run one batch and show ``observer`` what every stateful operator sends."""
        return dict(self.engine.run(feeds, steps, observer=observer))

    def check_feeds(self, images: Array | Mapping[str, Array]) -> tuple[dict[str, Array], bool]:
        """The images by input name as float32, and whether they are a sequence [T,N,*].

        Raises:
            DataError: a shape, dtype or value does not fit.
        """
        names = list(self.input_shapes)
        given = dict(images) if isinstance(images, Mapping) else {names[0]: images}
        if set(given) != set(names):
            raise DataError(
                f"the network has the inputs {', '.join(names)}, got {', '.join(given) or 'none'}"
            )
        checked = {name: check_images(name, given[name], self.input_shapes[name]) for name in names}
        ranks = {array.ndim - len(self.input_shapes[name]) for name, array in checked.items()}
        counts = {array.shape[1 if 1 in ranks else 0] for array in checked.values()}
        if len(ranks) > 1 or len(counts) > 1:
            raise DataError(f"the inputs differ in their number of images: {sorted(counts)}")
        return checked, ranks == {1}


def check_images(name: str, array: Array, shape: Shape) -> Array:
    """``array`` as float32 if it fits an input of ``shape``, as [N,*] or [T,N,*].

    Raises:
        DataError: it does not; the text states expected and found.
    """
    array = np.asarray(array)
    expected = "[" + ",".join(str(size) for size in shape) + "]"
    found = "[" + ",".join(str(size) for size in array.shape) + "]"
    if array.dtype.kind != "f":
        raise DataError(
            f"input {name!r} must be float, got {array.dtype}",
            advice="give uint8 pictures as a file, or apply the preprocessing first",
        )
    extra = array.ndim - len(shape)
    fits = extra in (0, 1) and all(
        isinstance(want, str) or want == have
        for want, have in zip(shape[1:], array.shape[extra + 1 :], strict=True)
    )
    if not fits:
        raise DataError(f"input {name!r} must have shape {expected} (or [T,…]), got {found}")
    if array.size == 0:
        raise DataError(f"input {name!r} holds no image: shape {found}")
    if not np.all(np.isfinite(array)):
        bad = int(np.count_nonzero(~np.isfinite(array)))
        raise DataError(f"input {name!r} holds {bad} values that are NaN or infinite")
    return np.ascontiguousarray(array, dtype=np.float32)


def check_timesteps(
    timesteps: int | Sequence[int], feeds: Mapping[str, Array], sequence: bool
) -> list[int]:
    """Rising list of the steps after which answers are wanted.

    Raises:
        UsageError: a step is below 1, absurdly large, or beyond the sequence.
    """
    steps = [timesteps] if isinstance(timesteps, int | np.integer) else list(timesteps)
    if not steps or any(not isinstance(t, int | np.integer) or isinstance(t, bool) for t in steps):
        raise UsageError(f"timesteps must be whole numbers, got {timesteps!r}")
    steps = sorted({int(t) for t in steps})
    if steps[0] < 1 or steps[-1] > MAX_TIMESTEPS:
        raise UsageError(f"timesteps must lie in 1..{MAX_TIMESTEPS}, got {timesteps!r}")
    length = len(next(iter(feeds.values()))) if sequence else None
    if length is not None and steps[-1] > length:
        raise UsageError(f"the sequence has {length} frames, fewer than {steps[-1]} timesteps")
    return steps


def load(
    path: str | Path,
    backend: str = "auto",
    threads: int | None = None,
    *,
    memory: int = DEFAULT_MEMORY,
) -> Network:
    """Load a spiking network from a ``.snn.onnx`` file.

    Args:
        path: the file.
        backend: ``auto``, ``numpy``, ``onnxruntime`` or ``cupy``.
        threads: CPU threads, None for the library's default.
        memory: bytes that the activations of one chunk of timesteps may take.

    Raises:
        ModelError: the file cannot be read or is not a spiking network.
        BackendError: the backend cannot run here.
    """
    return Network(load_model(path), backend=backend, threads=threads, memory=memory)


def _join(parts: Sequence[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
