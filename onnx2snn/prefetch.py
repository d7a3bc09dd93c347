"""Images of later batches are made ready, and sent to the device, while a batch is measured."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from onnx2snn_runtime.backends import Backend
from onnx2snn_runtime.dataset import Piece

Item = TypeVar("Item")


def prefetched(pieces: Iterator[Piece], backend: Backend) -> Iterator[Piece]:
    """The pieces in their order; a thread decodes two ahead, one is being copied to the device.

    Images that cannot be made ready raise in their turn, not before.
    """
    if not backend.stages:
        yield from pieces
        return
    with ThreadPoolExecutor(1) as pool:
        decoded = _one_ahead((piece, pool.submit(piece.images)) for piece in pieces)
        yield from _one_ahead(_staged(piece, images, backend) for piece, images in decoded)


def _staged(piece: Piece, images: "Future[Any]", backend: Backend) -> Piece:
    """A piece whose images are ready and on their way to the device."""
    if images.exception() is not None:
        return piece  # it raises again when it is measured
    ready = images.result()
    backend.stage(ready)
    return replace(piece, prepare=lambda stored: ready)


def _one_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items; the next one is made before one is handed out."""
    held: list[Item] = []
    for item in items:
        yield from held
        held = [item]
    yield from held
