"""Weights beside the message of a model: the message says where they are, its copies share them.

A protobuf message ends at 2 GiB, and hands its bytes out as copies. Where the weights of a model
take more than `LARGE_MODEL` bytes, the largest tensors therefore leave it until at most `KEPT`
bytes stay. They are declared as external data, at a place that only this process knows: a file that
is mapped into memory, or an array.
"""

import mmap
import os
from collections.abc import Hashable, Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from onnx2snn_runtime.errors import ModelError, StorageError
from onnx2snn_runtime.files.disk import open_regular, shown

Array = NDArray[Any]
Key = TypeVar("Key", bound=Hashable)

LARGE_MODEL = 3 * 2**29
KEPT = 2**28

# Mapped files take no memory of their own and stay; arrays belong to those who hold them.
_files: dict[str, tuple[Array, Path]] = {}
_memory: WeakValueDictionary[str, Array] = WeakValueDictionary()
_numbers = count()


def leaving(sizes: Mapping[Key, int]) -> set[Key]:
    """Which of some tensors, given by their bytes, leave the message: none of a small model.

    >>> leaving({"weight": 2**31, "bias": 4096}), leaving({"weight": 2**20})
    ({'weight'}, set())
    """
    left = sum(sizes.values())
    found: set[Key] = set()
    if left <= LARGE_MODEL:
        return found
    for key, size in sorted(sizes.items(), key=lambda item: -item[1]):
        if left <= KEPT:
            break
        found.add(key)
        left -= size
    return found


def map_file(path: Path) -> tuple[str, int]:
    """Map a file into memory, once; returns its place and its length.

    Raises:
        ModelError: the file is missing, no regular file of its own, or empty.
        StorageError: the disk refuses.
    """
    with open_regular(path, ModelError) as stream:
        status, entry = os.fstat(stream.fileno()), path.lstat()
        if not os.path.samestat(status, entry) or status.st_nlink != 1:
            raise ModelError(f"{shown(path.name)} is a link, which is not followed")
        place = f"file:{status.st_dev}.{status.st_ino}.{status.st_size}.{status.st_mtime_ns}"
        if place not in _files:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            _files[place] = np.frombuffer(mapped, np.uint8), path.resolve()
        return place, status.st_size


def mapped_files() -> dict[str, Path]:
    """Place and path of every file that is mapped, for another process to `map_again`."""
    return {place: path for place, (_, path) in _files.items()}


def map_again(files: Mapping[str, Path]) -> None:
    """Map what another process has mapped, as far as it is still there.

    `array_of` refuses weights of a file that is gone, that has changed, or that another machine
    has.
    """
    for place, path in files.items():
        if place not in _files:
            with suppress(ModelError, StorageError):
                map_file(path)


def put(array: Array) -> tuple[str, int]:
    """The place of a contiguous array, which the caller keeps, and its first byte there."""
    start = _address(array)
    for place, buffer in _buffers():
        first = start - _address(buffer)
        stays = place in _files or buffer is array or buffer is array.base
        if stays and 0 <= first <= buffer.nbytes - array.nbytes:
            return place, first
    place = f"memory:{next(_numbers)}"
    _memory[place] = array
    return place, 0


def refer(tensor: TensorProto, place: str, first: int, length: int) -> None:
    """Make a tensor one whose bytes lie somewhere else."""
    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", place), ("offset", first), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def is_beside(tensor: TensorProto) -> bool:
    """Whether the values of a tensor are beside the message."""
    return tensor.data_location == TensorProto.EXTERNAL and _buffer(tensor) is not None


def array_of(tensor: TensorProto) -> Array:
    """The values of a tensor, wherever they are; those beside the message are not copied.

    Raises:
        ModelError: they lie in a file that was not read, or belonged to a model that is gone.
    """
    if tensor.data_location != TensorProto.EXTERNAL:
        return onnx.numpy_helper.to_array(tensor)
    buffer, entries = _buffer(tensor), _entries(tensor)
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    first, length = int(entries.get("offset", 0)), int(entries.get("length", 0))
    expected = int(np.prod(tensor.dims, dtype=object)) * kind.itemsize
    if buffer is None or length != expected or not 0 <= first <= buffer.nbytes - length:
        raise ModelError(
            f"the values of tensor {shown(tensor.name)!r} are not in memory",
            advice="their file is not here or has changed, or their model is gone: save it, and "
            "load it where it runs",
        )
    flat = buffer.reshape(-1).view(np.uint8)[first : first + length]
    if first % kind.itemsize:
        flat = flat.copy()  # where no number of this type may begin
    return flat.view(kind).reshape(tuple(tensor.dims))


def kept_alive(*models: onnx.ModelProto) -> list[Array]:
    """The arrays beside some models, for the one who keeps these models."""
    tensors = (tensor for model in models for tensor in model.graph.initializer)
    found = (_buffer(tensor) for tensor in tensors if tensor.data_location == TensorProto.EXTERNAL)
    return [buffer for buffer in found if buffer is not None]


def brought_back(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model with all values in the message."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if is_beside(tensor):
            values = array_of(tensor).tobytes()
            del tensor.external_data[:]
            tensor.ClearField("data_location")
            tensor.raw_data = values
    return result


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model without its initializers."""
    result = onnx.ModelProto()
    _copy(model, result, left_out="graph")
    _copy(model.graph, result.graph, left_out="initializer")
    return result


def _copy(source: Any, target: Any, *, left_out: str) -> None:
    """Copy all fields of a message but one."""
    for field, value in source.ListFields():
        if field.name == left_out:
            continue
        if hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        elif hasattr(value, "CopyFrom"):
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)


def _buffers() -> Iterator[tuple[str, Array]]:
    yield from ((place, buffer) for place, (buffer, _) in _files.items())
    yield from _memory.items()


def _buffer(tensor: TensorProto) -> Array | None:
    place = _entries(tensor).get("location", "")
    return _files[place][0] if place in _files else _memory.get(place)


def _entries(tensor: TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])
