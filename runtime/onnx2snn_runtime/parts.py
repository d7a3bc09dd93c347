"""Batches, and what happens when the memory runs out: the only place that knows.

A batch that does not fit is started again with half the chunk, then as two halves. What did not fit
once is not tried again: the schedule of the engine keeps the limit.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from onnx2snn_runtime.engine import Engine
from onnx2snn_runtime.errors import BackendError

Array = Any
Feeds = Mapping[str, Array]
Answer = TypeVar("Answer")


def count_images(feeds: Feeds, sequence: bool = False) -> int:
    """Number of images in feeds [N,*], or [T,N,*] for a sequence."""
    return int(next(iter(feeds.values())).shape[1 if sequence else 0])


def window(feeds: Feeds, start: int, stop: int, sequence: bool = False) -> dict[str, Array]:
    """Some of the images."""
    part = slice(start, stop)
    return {name: x[:, part] if sequence else x[part] for name, x in feeds.items()}


def run_in_parts(
    engine: Engine,
    feeds: Feeds,
    timesteps: int,
    work: Callable[[Feeds], Answer],
    sequence: bool = False,
) -> list[Answer]:
    """Run a batch, in smaller parts where the memory does not hold it.

    Args:
        engine: what ``work`` runs; its backend says which errors mean that memory has run out.
        feeds: images by input name.
        timesteps: steps that ``work`` runs at most.
        work: runs a batch from its first step. It may be started several times, and must then
            begin anew.
        sequence: whether feeds are [T,N,*].

    Returns:
        The answers of the parts, in the order of the images.

    Raises:
        BackendError: not even a single step of a single image fits, or the network failed.
    """
    images = count_images(feeds, sequence)
    full = ""
    try:
        return [work(feeds)]
    except engine.backend.out_of_memory as problem:
        full = str(problem) or "an allocation failed"
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as problem:
        raise BackendError(f"the network failed while it ran: {problem}") from problem
    # outside of the handler: the frames of the error, which hold arrays, are gone by now
    engine.release()
    if engine.schedule.shrink(images, timesteps):
        return run_in_parts(engine, feeds, timesteps, work, sequence)
    if images == 1:
        raise BackendError(
            f"not enough memory for one step of one image: {full}",
            advice="give a smaller --memory, or use a backend with more memory",
        )
    half = images // 2
    return [
        answer
        for start, stop in ((0, half), (half, images))
        for answer in run_in_parts(
            engine, window(feeds, start, stop, sequence), timesteps, work, sequence
        )
    ]
