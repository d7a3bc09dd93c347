"""Images on their way to the device while the batch before them is computed.

Two buffers take turns, each of pinned memory on the host and memory on the device. Copies run on a
stream of their own: the host may fill a buffer again once its last copy is done, and what computes
on it waits for the copy on the device alone.
"""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from onnx2snn_runtime.gpu.device import Device

Array = Any
BUFFERS = 2


@dataclass
class Buffer:
    """Memory for one batch.

    Attributes:
        pinned: on the host, float32, flat.
        target: on the device, of the same size.
        source: the array that was copied last; held, so that its address stays its own.
        done: tells that its copy is done.
    """

    pinned: Any
    target: Array
    source: Any
    done: Any


class Staging:
    """Copies arrays ahead of time, and finds them when they are asked for."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.buffers: list[Buffer] = []  # the one that was filled last is the last

    def put(self, array: Any) -> None:
        """Begin to copy float32 [N,*] of the host; it must not change until it has been used."""
        buffer = self.buffers.pop(0) if len(self.buffers) == BUFFERS else None
        if buffer is not None:
            buffer.done.synchronize()
        if buffer is None or buffer.pinned.size < array.size:
            pinned = self.device.pinned(array.size)
            target = self.device.xp.empty(array.size, dtype=np.float32)
        else:
            pinned, target = buffer.pinned, buffer.target
        np.copyto(pinned[: array.size].reshape(array.shape), array)
        done = self.device.copy_beside(target[: array.size], pinned[: array.size])
        self.buffers.append(Buffer(pinned, target, array, done))

    def find(self, array: Any) -> Array | None:
        """What has been copied of these images, which may be some of those that were put."""
        for buffer in self.buffers:
            source = buffer.source
            if array.dtype != source.dtype or array.shape[1:] != source.shape[1:]:
                continue
            size = prod(source.shape[1:])
            apart = array.ctypes.data - source.ctypes.data
            first = apart // source.itemsize
            if array.flags.c_contiguous and 0 <= first <= source.size - array.size:
                self.device.wait_for(buffer.done)
                whole = buffer.target[: source.size].reshape(source.shape)
                return whole[first // size : first // size + len(array)]
        return None

    def clear(self) -> None:
        """Give the memory back."""
        for buffer in self.buffers:
            buffer.done.synchronize()
        self.buffers.clear()
