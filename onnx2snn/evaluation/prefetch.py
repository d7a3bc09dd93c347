"""Images of later batches are made ready, and sent to the device, while a batch is measured."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from onnx2snn_runtime.backends import Backend
from onnx2snn_runtime.data.dataset import Part
from onnx2snn_runtime.data.inputs import Feeds, Piece

Item = TypeVar("Item")


def prefetched(pieces: Iterator[Piece], backend: Backend) -> Iterator[Piece]:
    """The pieces in their order; a thread decodes two ahead, one is being copied to the device.

    Images that cannot be made ready raise in their turn, not before.
    """
    if not backend.stages:
        yield from pieces
        return
    with ThreadPoolExecutor(1) as pool:
        decoded = _one_ahead((piece, pool.submit(piece.feeds)) for piece in pieces)
        yield from _one_ahead(_staged(piece, feeds, backend) for piece, feeds in decoded)


def _staged(piece: Piece, feeds: "Future[Feeds]", backend: Backend) -> Piece:
    """A piece whose images are ready and, if the network has one input, on their way."""
    if feeds.exception() is not None:
        return piece  # it raises again when it is measured
    ready = feeds.result()
    if len(ready) == 1:  # a device has memory for two arrays: one in use, one to come
        for images in ready.values():
            backend.stage(images)
    return replace(piece, parts={name: Part(images, _as_it_is) for name, images in ready.items()})


def _as_it_is(stored: Any) -> Any:
    return stored


def _one_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items; the next one is made before one is handed out."""
    held: list[Item] = []
    for item in items:
        yield from held
        held = [item]
    yield from held
