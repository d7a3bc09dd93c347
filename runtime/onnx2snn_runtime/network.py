"""The public face of the runtime: load a spiking network and run it."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx

from onnx2snn_runtime.answers import class_scores, is_probability
from onnx2snn_runtime.backends import EXACT, Backend, open_backend
from onnx2snn_runtime.data.input_preprocessing import Preprocessings, from_document
from onnx2snn_runtime.early_exit import ExitRule, run_batch
from onnx2snn_runtime.engine import Engine, Observer
from onnx2snn_runtime.errors import BackendError, UsageError
from onnx2snn_runtime.feeds import (
    MAX_TIMESTEPS,
    Images,
    check_batch_size,
    check_feeds,
    check_timesteps,
)
from onnx2snn_runtime.files.beside import kept_alive
from onnx2snn_runtime.files.models import load_model
from onnx2snn_runtime.format import read_metadata
from onnx2snn_runtime.parts import Answer, Feeds, count_images, run_in_parts, window
from onnx2snn_runtime.planning.plan import Plan, Shape, tensor_shape
from onnx2snn_runtime.planning.planner import accepted, plan_of
from onnx2snn_runtime.results import Result, SpikeRecorder

__all__ = ["Network", "Result", "load"]

Array = Any
Watching = TypeVar("Watching", bound=Observer)
Seen = TypeVar("Seen", bound=Observer | None)
DEFAULT_TIMESTEPS = 8
READ_IMAGES = 32  # from disk at once, at least


class Network:
    """A spiking network, ready to run.

    Args:
        model: the file's content, one step of the network.
        backend: ``auto``, ``numpy``, ``onnxruntime``, ``cupy``, or one that is open already.
        threads: CPU threads, None for the library's default.
        memory: bytes that states and activations may take; default: a share of what is free.
        compute: arithmetic of convolutions and matrix products, ``fp32`` unless the backend offers
            others (``cupy``: tf32, fp16).

    Attributes:
        memory: as given.
        preprocessing: what turns a uint8 picture into the network's input, as stored in the file:
            one for every input, or a mapping by input name.

    Example:
        >>> import onnx2snn_runtime
        >>> network = onnx2snn_runtime.load("model.snn.onnx")  # doctest: +SKIP
        >>> network.run(images, timesteps=8).logits  # doctest: +SKIP
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        *,
        backend: str | Backend = "auto",
        threads: int | None = None,
        memory: int | None = None,
        compute: str = EXACT,
    ) -> None:
        if not isinstance(model, onnx.ModelProto):
            raise UsageError(
                f"Network takes an onnx.ModelProto, got {type(model).__name__}",
                advice="onnx2snn_runtime.load(path) reads a file",
            )
        self.memory = memory
        self._weights = kept_alive(model)
        self.metadata = read_metadata(model)
        self.model = accepted(model)
        self.plan: Plan = plan_of(self.model)
        self.preprocessing: Preprocessings | None = from_document(
            self.metadata.get("preprocessing"), self.plan.inputs
        )
        self.backend, self.backend_reason = (
            open_backend(backend, threads, compute)
            if isinstance(backend, str)
            else (backend, "handed over")
        )
        if self.metadata.get("integer") and self.backend.compute != EXACT:
            raise UsageError(
                f"integer networks need --compute fp32, not {self.backend.compute}",
                advice=f"--compute {EXACT} adds them up exactly",
            )
        try:
            self.engine = Engine(self.plan, self.backend, memory)
        except self.backend.out_of_memory as problem:
            raise BackendError(f"the weights do not fit the memory: {problem}") from problem

    def __repr__(self) -> str:
        """The short account; the message would fill pages."""
        inputs = ", ".join(
            f"{name} [{','.join(map(str, shape))}]" for name, shape in self.input_shapes.items()
        )
        spiking = sum(unit.operator.spiking for unit in self.plan.stateful)
        return (
            f"<Network: {inputs}; {spiking} spiking layers; {self.recommended_timesteps} steps "
            f"recommended; backend {self.backend.name}>"
        )

    @property
    def input_shapes(self) -> dict[str, Shape]:
        """Name and shape of each input, batch first as ``N``."""
        return self.plan.inputs

    @property
    def recommended_timesteps(self) -> int:
        """The number of steps the converter recommends."""
        return int(self.metadata.get("recommended_t") or DEFAULT_TIMESTEPS)

    @property
    def decides(self) -> str:
        """Name of the output that tells classes: the one that conversion chose, else the first."""
        stored = self.metadata.get("decides")
        return stored if stored in self.plan.outputs else self.plan.outputs[0]

    @property
    def classes(self) -> int | None:
        """How many classes the deciding output tells, or None: it tells none, or nobody knows."""
        if self.is_binary:
            return 2
        (output,) = (value for value in self.model.graph.output if value.name == self.decides)
        shape = tensor_shape(output)
        floats = output.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        if not floats or len(shape) != 2 or not isinstance(shape[1], int) or shape[1] < 2:
            return None
        return shape[1]

    @cached_property
    def is_binary(self) -> bool:
        """Whether the deciding output is one probability for each image: of class 1 of two."""
        return is_probability(self.model, self.decides)

    def decided(self, outputs: Mapping[str, Array]) -> Array:
        """The output that decides, as scores of classes if it tells any."""
        return class_scores(outputs[self.decides], self.is_binary)

    @property
    def max_timesteps(self) -> int:
        """The most steps: in integer networks those for which no sum can overflow."""
        return int((self.metadata.get("integer") or {}).get("max_timesteps") or MAX_TIMESTEPS)

    def check_steps(
        self, timesteps: int | Sequence[int], feeds: Mapping[str, Array], sequence: bool
    ) -> list[int]:
        """``check_timesteps``, and not more than this network is proven for.

        Raises:
            UsageError: a step is out of range.
        """
        steps = check_timesteps(timesteps, feeds, sequence)
        if steps[-1] > self.max_timesteps:
            raise UsageError(
                f"the integers of this network are proven not to overflow up to "
                f"{self.max_timesteps} timesteps, got {steps[-1]}",
                advice="run fewer steps, or convert with --precision float",
            )
        return steps

    @property
    def notes(self) -> list[str]:
        """What people should know of how it has run."""
        replayer = self.engine.replayer
        whys = dict.fromkeys(replayer.refused.values() if replayer else ())
        return [f"not captured as a CUDA graph: {why}" for why in whys]

    @property
    def images_to_read(self) -> int:
        """How many images to read from disk at once: as many as a device takes, if it has one."""
        return max(READ_IMAGES, self.engine.schedule.images_at_once(self.recommended_timesteps))

    @property
    def exit_rule(self) -> ExitRule | None:
        """When an image may leave early, as tuned at conversion."""
        stored = self.metadata.get("early_exit")
        return ExitRule.from_json(stored) if stored else None

    def run(
        self,
        images: Images,
        timesteps: int | Sequence[int] | None = None,
        *,
        batch_size: int | None = None,
        record: bool = False,
        early_exit: bool = False,
    ) -> Result:
        """Run the network.

        Args:
            images: [N,*] shown at every step, or [T,N,*], one frame a step; several inputs as a
                mapping by input name. Float arrays are taken as they are; uint8 arrays, NCHW or
                NHWC, get the preprocessing of the file, and so do pictures and arrays at a path.
            timesteps: number of steps, or the steps after which answers are wanted; default: what
                the converter recommends, of a sequence all its frames.
            batch_size: images at once; default: what runs fastest within the memory budget.
            record: also count the spikes of every neuron.
            early_exit: each image leaves once its decision is stable; ``timesteps`` is then the
                most that one may take, by default what the rule in the file says.

        Raises:
            DataError: the images do not fit the network.
            UsageError: a number is out of range, or early exit is impossible here.
        """
        if early_exit:
            return self.run_early_exit(images, timesteps, batch_size, record)
        feeds, sequence = self.check_feeds(images)
        if timesteps is None:
            timesteps = self.usual_steps(feeds, sequence)
        steps = self.check_steps(timesteps, feeds, sequence)
        batches = self.split(feeds, steps[-1], sequence, batch_size)
        watch = SpikeRecorder if record else _no_observer
        by_step, recorders = self.run_batches(batches, steps, watch, sequence)
        spikes = _join([recorder.spikes for recorder in recorders if recorder])
        return Result(by_step[steps[-1]], by_step, steps[-1], spikes, decides=self.decides)

    def run_early_exit(
        self,
        images: Images,
        timesteps: int | Sequence[int] | None,
        batch_size: int | None,
        record: bool,
    ) -> Result:
        """``run`` where each image leaves once its decision is stable.

        Raises:
            UsageError: the file holds no rule, or frames or spikes are asked for.
        """
        feeds, sequence = self.check_feeds(images)
        rule = self.exit_rule
        if rule is None:
            raise UsageError(
                "the file holds no rule for early exit",
                advice="convert again, with calibration images; the network must tell classes",
            )
        if sequence or record:
            raise UsageError("early exit takes pictures, not sequences, and records no spikes")
        wanted = rule.steps[-1] if timesteps is None else timesteps
        last = self.check_steps(wanted, feeds, sequence)[-1]
        share = math.ceil(count_images(feeds) / self.backend.batches_at_once)
        fastest = min(share, self.engine.schedule.images_before_exit())
        parts = self.run_parts(
            self.split(feeds, 1, batch_size=fastest if batch_size is None else batch_size),
            last,
            lambda batch: run_batch(self.engine, batch, rule, self.decides, last),
        )
        outputs = _join([answer for answer, _ in parts])
        used = np.concatenate([steps for _, steps in parts])
        return Result(outputs, {last: outputs}, last, exit_steps=used, decides=self.decides)

    def stream(self, images: Images, timesteps: int | None = None) -> Iterator[dict[str, Array]]:
        """Yield the answer after each step, output name to [N,*].

        Args:
            images: as for ``run``, one batch.
            timesteps: number of steps; default as for ``run``.

        Raises:
            BackendError: the memory does not hold the batch.
        """
        feeds, sequence = self.check_feeds(images)
        wanted = self.usual_steps(feeds, sequence) if timesteps is None else timesteps
        last = self.check_steps(wanted, feeds, sequence)[-1]
        try:
            for _, answer in self.engine.run(feeds, range(1, last + 1), sequence=sequence):
                yield answer
        except self.backend.out_of_memory as problem:
            raise BackendError(
                f"not enough memory for {count_images(feeds, sequence)} images at once: {problem}",
                advice="stream fewer images at a time",
            ) from problem

    def observe(
        self,
        feeds: Mapping[str, Array],
        steps: Sequence[int],
        make_observer: Callable[[], Watching],
    ) -> tuple[dict[int, dict[str, Array]], list[Watching]]:
        """Run images and watch what every stateful operator sends.

        Args:
            feeds: checked images by input name.
            steps: rising list of the steps after which answers are wanted.
            make_observer: makes one observer for each part of the images; parts run at the same
                time.

        Returns:
            Answers by step, and the observers in the order of the images.

        Raises:
            UsageError: more steps than the network is proven for.
        """
        self.check_steps(steps, feeds, sequence=False)
        return self.run_batches(self.split(feeds, steps[-1]), steps, make_observer)

    def split(
        self,
        feeds: Mapping[str, Array],
        timesteps: int,
        sequence: bool = False,
        batch_size: int | None = None,
    ) -> list[dict[str, Array]]:
        """The images in batches: of this size, or of the size that runs fastest.

        Raises:
            UsageError: ``batch_size`` is below 1.
        """
        if batch_size is not None:
            check_batch_size(batch_size)
        count = count_images(feeds, sequence)
        if batch_size is None:
            share = math.ceil(count / self.backend.batches_at_once)
            fastest = min(share, self.engine.schedule.images_at_once(timesteps))
            batch_size = math.ceil(count / math.ceil(count / fastest))
        return [
            window(feeds, start, start + batch_size, sequence)
            for start in range(0, count, batch_size)
        ]

    def run_batches(
        self,
        batches: Sequence[Feeds],
        steps: Sequence[int],
        make_observer: Callable[[], Seen],
        sequence: bool = False,
    ) -> tuple[dict[int, dict[str, Array]], list[Seen]]:
        """Answers of all batches by step, and an observer of each part of the images."""

        def run(batch: Feeds) -> tuple[dict[int, dict[str, Array]], Seen]:
            observer = make_observer()
            answers = self.engine.run(batch, steps, sequence=sequence, observer=observer)
            return dict(answers), observer

        parts = self.run_parts(batches, steps[-1], run, sequence)
        joined = {t: _join([answers[t] for answers, _ in parts]) for t in steps}
        return joined, [observer for _, observer in parts]

    def run_parts(
        self,
        batches: Sequence[Feeds],
        timesteps: int,
        work: Callable[[Feeds], Answer],
        sequence: bool = False,
    ) -> list[Answer]:
        """``work`` on all batches, as many at once as the backend likes."""

        def run(batch: Feeds) -> list[Answer]:
            return run_in_parts(self.engine, batch, timesteps, work, sequence)

        try:
            if self.backend.batches_at_once == 1:  # libraries keep handles for each thread
                return [answer for batch in batches for answer in run(batch)]
            with ThreadPoolExecutor(self.backend.batches_at_once) as pool:
                return [answer for part in pool.map(run, batches) for answer in part]
        finally:
            self.engine.state_memory.clear()

    def usual_steps(self, feeds: Mapping[str, Array], sequence: bool) -> int:
        """How many steps to run where nobody says: those recommended, or all frames [T,N,*]."""
        return min(map(len, feeds.values())) if sequence else self.recommended_timesteps

    def check_feeds(self, images: Images) -> tuple[dict[str, Array], bool]:
        """The images by input name as float32, and whether they are a sequence [T,N,*].

        Raises:
            DataError: a shape, dtype or value does not fit.
        """
        return check_feeds(images, self.input_shapes, self.preprocessing)


def load(
    path: str | Path | onnx.ModelProto,
    backend: str = "auto",
    threads: int | None = None,
    *,
    memory: int | None = None,
    compute: str = EXACT,
) -> Network:
    """Load a spiking network from a ``.snn.onnx`` file.

    Args:
        path: the file, or what it holds.
        backend: ``auto``, ``numpy``, ``onnxruntime`` or ``cupy``.
        threads: CPU threads, None for the library's default.
        memory: bytes that states and activations may take; default: a share of what is free.
        compute: arithmetic of convolutions and matrix products, ``fp32`` unless the backend offers
            others (``cupy``: tf32, fp16).

    Raises:
        ModelError: the file cannot be read or is not a spiking network.
        BackendError: the backend cannot run here.
        UsageError: something else is given.
    """
    if not isinstance(path, str | PathLike | onnx.ModelProto):
        raise UsageError(f"load takes a path or an onnx.ModelProto, got {type(path).__name__}")
    model = path if isinstance(path, onnx.ModelProto) else load_model(path)
    return Network(model, backend=backend, threads=threads, memory=memory, compute=compute)


def _no_observer() -> None:
    """Nobody watches."""


def _join(parts: Sequence[dict[str, Array]]) -> dict[str, Array]:
    names = parts[0] if parts else {}
    return {name: np.concatenate([part[name] for part in parts]) for name in names}
