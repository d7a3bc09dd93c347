"""The time loop: layer by layer over chunks of timesteps."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import onnx

from onnx2snn_runtime.backends import Backend, Runner
from onnx2snn_runtime.neurons import Chunk, Place
from onnx2snn_runtime.planning.blocks import (
    NotBlockedError,
    blocked_tensors,
    from_blocks,
    to_blocks,
)
from onnx2snn_runtime.planning.fusing import fuse
from onnx2snn_runtime.planning.joins import join_concatenations
from onnx2snn_runtime.planning.narrowing import narrow
from onnx2snn_runtime.planning.plan import Plan, Segment, Stateful
from onnx2snn_runtime.planning.reuse import last_readers
from onnx2snn_runtime.replay import Replayer
from onnx2snn_runtime.state_memory import StateMemory

Array = Any


class Observer(Protocol):
    """Is shown what every stateful operator sends, chunk by chunk."""

    def observe(self, unit: Stateful, first_step: int, outputs: Array, counts: Array) -> None:
        """``outputs`` [C,N,*] and spike ``counts`` [C,N,*] (None for graded operators)."""

    def observe_values(self, name: str, first_step: int, values: Array) -> None:
        """``values`` [C,N,*] of a tensor that costs multiplications (see ``Segment.values``)."""
        return


class Engine:
    """Steps a plan over time on a backend.

    Args:
        plan: the parts of the network.
        backend: where they run.
        memory: bytes that states and activations may take; batches and chunks follow from it.
            Default: what the backend thinks right.
    """

    def __init__(self, plan: Plan, backend: Backend, memory: int | None = None) -> None:
        plan = join_concatenations(plan, backend.writes_shares)
        self.plan = plan = narrow(fuse(plan, backend.fuses), backend.narrows)
        self.backend = backend
        self.schedule = backend.schedule(plan.footprint, memory)
        self.compile_parts()
        self.last_readers = last_readers(plan)
        self.state_memory = StateMemory(plan, backend)
        self.thresholds = {
            unit.name: None if unit.threshold is None else self.laid_out(unit, unit.threshold)
            for unit in plan.stateful
        }
        self.starts = {
            state: self.laid_out(unit, array)
            for unit in plan.stateful
            for state, array in unit.starts.items()
        }
        self.constants = {
            unit.name: {i: backend.to_device(array) for i, array in unit.constants.items()}
            for unit in plan.stateful
        }
        self.replayer = Replayer(backend) if backend.captures else None
        self.fused = {unit.name: self.on_device(unit) for unit in plan.stateful}

    def compile_parts(self) -> None:
        """Prepare all parts, with channels in blocks wherever the backend keeps them so."""
        plan, backend, refused = self.plan, self.backend, frozenset[str]()
        while True:
            block = backend.channel_block
            self.blocked = blocked_tensors(plan, block, refused) if block > 1 else frozenset()
            try:
                self.head = self.compile(plan.head.model) if plan.head else None
                self.tail = self.compile(plan.tail.model) if plan.tail else None
                self.runners: list[Runner] = [
                    self.compile(unit.model)
                    if isinstance(unit, Segment)
                    else backend.compile(unit.operator.base_model(plan.opset), threads=1)
                    for unit in plan.units
                ]
            except NotBlockedError as problem:
                refused |= problem.names
            else:
                return

    def compile(self, model: onnx.ModelProto) -> Runner:
        """One thread a run: several batches at once scale better than one split into small bits."""
        if not self.blocked:
            return self.backend.compile(model, threads=1)
        return self.backend.compile(model, threads=1, blocked=self.blocked)

    def laid_out(self, unit: Stateful, array: Array) -> Array:
        """Numbers of a unit's neurons on the device, laid out as the neurons are."""
        if unit.output not in self.blocked:
            return self.backend.to_device(array)
        features = [int(size) for size in self.plan.shapes[unit.output][1:]]
        whole = np.broadcast_to(array, (1, *features)).astype(np.float32)
        return to_blocks(whole, self.backend.channel_block)

    def on_device(self, unit: Stateful) -> dict[str, Array]:
        """What the kernel of a unit does besides the law, by field of a chunk."""
        found = {"scale": unit.scale, "bias": unit.bias}
        found = {name: self.backend.to_device(x) for name, x in found.items() if x is not None}
        if self.plan.narrow and self.backend.narrows(unit.operator):
            found["sends"] = np.float16 if unit.output in self.plan.narrow else np.float32
        return found

    def run(
        self,
        feeds: Mapping[str, Array],
        steps: Sequence[int],
        *,
        sequence: bool = False,
        observer: Observer | None = None,
    ) -> Iterator[tuple[int, dict[str, Array]]]:
        """Yield (t, answers) for every t in ``steps``, in rising order.

        Args:
            feeds: images by input name, [N,*], or [T,N,*] when ``sequence``.
            steps: timesteps after which the answer is wanted, rising, each at least 1.
            sequence: whether the inputs change from step to step.
            observer: is shown what every stateful operator sends.
        """
        images = next(iter(feeds.values())).shape[1 if sequence else 0]
        with self.state_memory.lent(images) as states:
            yield from self.run_chunks(feeds, steps, states, sequence, observer)

    def run_chunks(
        self,
        feeds: Mapping[str, Array],
        steps: Sequence[int],
        states: dict[str, Array],
        sequence: bool,
        observer: Observer | None,
    ) -> Iterator[tuple[int, dict[str, Array]]]:
        """``run`` with memory for the states."""
        images = next(iter(feeds.values())).shape[1 if sequence else 0]
        static = {} if sequence else self.run_head(feeds)
        chunk_steps = self.schedule.chunk_steps(images, steps[-1])
        first = 1
        while first <= steps[-1]:
            last = min(first + chunk_steps - 1, steps[-1])
            length = last - first + 1
            values = self.head_over_time(feeds, first, last) if sequence else static
            wanted = [t for t in steps if first <= t <= last]
            if self.replayer is None or observer is not None:
                values = self.run_units(values, states, first, length, observer)
                yield from ((t, self.answer(values, t - first)) for t in wanted)
            else:
                values = self.run_again(values, states, first, length, last < steps[-1])
                yield from [(t, self.answer(values, t - first)) for t in wanted]
            first = last + 1

    def run_again(
        self,
        values: dict[str, Array],
        states: dict[str, Array],
        first: int,
        length: int,
        is_continued: bool,
    ) -> dict[str, Array]:
        """``run_units`` by a replay, where such a chunk has been captured.

        The values are overwritten by the next replay; states are kept if the run goes on.
        """
        assert self.replayer is not None

        def work(arrays: dict[str, Array]) -> dict[str, Array]:
            held = {name: arrays[name] for name in states}
            made = self.run_units({name: arrays[name] for name in values}, held, first, length)
            return {**{name: made[name] for name in self.plan.answers}, **held}

        kind = (first, length, *((name, array.shape) for name, array in values.items()))
        made = self.replayer.run(kind, {**values, **states}, work)
        if is_continued:
            states.update({name: made[name].copy() for name in states})
        return made

    def release(self) -> None:
        """Give back memory that is kept for later, as it has run out."""
        if self.replayer is not None:
            self.replayer.clear()
        self.state_memory.clear()
        self.backend.release()

    def run_units(
        self,
        values: dict[str, Array],
        states: dict[str, Array],
        first: int,
        length: int,
        observer: Observer | None = None,
    ) -> dict[str, Array]:
        """All layers over one chunk; values are [C,N,*], with stride 0 where constant.

        States need not hold anything before step 1.
        """
        xp = self.backend.xp
        values = {name: over_time(xp, array, length) for name, array in values.items()}
        for index, (unit, runner) in enumerate(zip(self.plan.units, self.runners, strict=True)):
            if isinstance(unit, Segment):
                values.update(run_merged(runner, values, unit.inputs))
                if observer is not None:
                    for name in unit.values:
                        observer.observe_values(name, first, self.shown(name, values[name]))
            else:
                chunk = self.make_chunk(unit, runner, values, states, first)
                if first == 1:
                    self.begin(unit, chunk)
                chunk.record = observer is not None
                chunk.reusable = index in self.last_readers
                chunk.place = self.place(unit, values, chunk)
                outputs = self.backend.scan(unit.operator, chunk)
                if unit.share is None:
                    values[unit.output] = outputs
                states.update(zip(unit.states, chunk.states, strict=True))
                if observer is not None:
                    self.show(observer, unit, first, outputs, chunk.counts)
            for name in unit.reads:
                if self.plan.last_use[name] == index:
                    values.pop(name, None)
        return values

    def begin(self, unit: Stateful, chunk: Chunk) -> None:
        """States that hold nothing yet get what they begin with, if they can in the same pass."""
        chunk.begins = [self.starts.get(name) for name in unit.states]
        if not self.backend.begins(unit.operator):
            chunk.begin()

    def place(self, unit: Stateful, values: dict[str, Array], chunk: Chunk) -> Place | None:
        """Where a unit writes that has a share of a joint tensor."""
        if unit.share is None:
            return None
        joint = values.get(unit.share.tensor)
        if joint is None:
            features = self.plan.shapes[unit.share.tensor][1:]
            shape = (*chunk.inputs[0].shape[:2], *features)
            joint = values[unit.share.tensor] = self.backend.xp.empty(shape, np.float32)
        return Place(joint.reshape(*joint.shape[:2], -1), unit.share.first)

    def show(
        self, observer: Observer, unit: Stateful, first: int, outputs: Array, counts: Array
    ) -> None:
        """Observers see float32 outputs."""
        outputs = self.shown(unit.output, outputs).astype(np.float32, copy=False)
        counts = None if counts is None else self.shown(unit.output, counts)
        observer.observe(unit, first, outputs, counts)

    def shown(self, name: str, array: Array) -> Array:
        """A tensor [C,N,*] on the host and in the usual order."""
        array = self.backend.to_host(array)
        return from_blocks(array, self.backend.channel_block) if name in self.blocked else array

    def make_chunk(
        self,
        unit: Stateful,
        runner: Runner,
        values: Mapping[str, Array],
        states: Mapping[str, Array],
        first: int,
    ) -> Chunk:
        """What a stateful operator sees of one chunk."""
        names, constants = unit.operator.inputs_of_base(), self.constants[unit.name]

        def evaluate(arrays: Sequence[Array]) -> Array:
            steps, images = arrays[unit.operator.signature.moving[0]].shape[:2]
            merged = {
                name: merge(array) if index not in constants else array
                for index, (name, array) in enumerate(zip(names, arrays, strict=True))
            }
            (result,) = runner(merged).values()
            return result.reshape(steps, images, *result.shape[1:])

        inputs = [
            constants[index] if index in constants else values[name]
            for index, name in enumerate(unit.inputs)
        ]
        held = [states[name] for name in unit.states]
        block = self.backend.channel_block if unit.output in self.blocked else 1
        return Chunk(
            inputs, self.thresholds[unit.name], held, first, evaluate, block=block,
            residual=values.get(unit.residual), **self.fused[unit.name],
        )  # fmt: skip

    def run_head(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Everything before the first neuron, once."""
        values = {name: self.backend.to_device(array) for name, array in feeds.items()}
        if self.head is not None:
            values.update(self.head(values))
        return {name: array[np.newaxis] for name, array in values.items()}

    def head_over_time(self, feeds: Mapping[str, Array], first: int, last: int) -> dict[str, Array]:
        """The head on every frame of a sequence."""
        values = {
            name: self.backend.to_device(array[first - 1 : last]) for name, array in feeds.items()
        }
        if self.head is not None and self.plan.head is not None:
            values.update(run_merged(self.head, values, self.plan.head.inputs))
        return values

    def answer(self, values: Mapping[str, Array], index: int) -> dict[str, Array]:
        """The tail on one step of a chunk; the answers lie on the host."""
        chosen = {name: values[name][index] for name in self.plan.answers}
        if self.tail is not None:
            contiguous = self.backend.xp.ascontiguousarray
            chosen.update(self.tail({name: contiguous(array) for name, array in chosen.items()}))
        return {name: self.backend.to_host(chosen[name]) for name in self.plan.outputs}


def over_time(xp: Any, array: Array, length: int) -> Array:
    """A constant [1,N,*] as [C,N,*] without a copy; anything else as it is."""
    if array.shape[0] == length:
        return array
    return xp.broadcast_to(array, (length, *array.shape[1:]))


def merge(array: Array) -> Array:
    """[C,N,*] as one batch [C·N,*]."""
    return array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])


def run_merged(
    runner: Runner, values: Mapping[str, Array], names: Sequence[str]
) -> dict[str, Array]:
    """Run a stateless model on all steps of a chunk as one batch.

    A result may have several rows for an image: [C·k·N,*] is [C,k·N,*].
    """
    steps = len(values[names[0]])
    results = runner({name: merge(values[name]) for name in names})
    return {
        name: array.reshape(steps, len(array) // steps, *array.shape[1:])
        for name, array in results.items()
    }
