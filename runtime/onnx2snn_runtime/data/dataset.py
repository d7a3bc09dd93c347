"""A set of images that is walked through batch by batch, as a network takes them."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx2snn_runtime.data.labels import Labels, class_numbers
from onnx2snn_runtime.data.layout import Shape, channel_axis, find_turn, model_shape, refuse_shape
from onnx2snn_runtime.data.preprocessing import UNIT, Preprocessing
from onnx2snn_runtime.errors import DataError, StorageError, UsageError
from onnx2snn_runtime.files.arrays import StoredArray
from onnx2snn_runtime.files.disk import open_regular, shown

Array = NDArray[Any]
Batch = tuple[NDArray[np.float32], Labels | None]
Update = Callable[[bytes], None]
Prepare = Callable[[Any], NDArray[np.float32]]

_PEEK = 32
_BYTE_RANGE_FROM = 32.0
_HASH_BYTES = 2**20


@dataclass(frozen=True)
class Part:
    """Some images as they are stored; it can be sent to another process and be made ready there.

    Attributes:
        stored: an array, or pictures that are not decoded.
        prepare: makes network inputs of ``stored``.
    """

    stored: Any
    prepare: Prepare

    def __len__(self) -> int:
        """Number of images."""
        return len(self.stored)

    def first(self, count: int) -> "Part":
        """The first images, ``count`` at most."""
        return Part(self.stored[:count], self.prepare)

    def images(self) -> NDArray[np.float32]:
        """The images as the network takes them, float32 [n,*].

        Raises:
            DataError: a picture is damaged.
        """
        return self.prepare(self.stored)


class Dataset(ABC):
    """Images, and labels if there are any.

    Attributes:
        name: how to call the source in a message.
        count: number of images.
        labels: class number per image, int64 [N], or None.
        class_names: names by class number if the source tells them.
        image_names: what each image is called, [N], if the source tells.
        notes: warnings and remarks for the reader, without repetition.
    """

    def __init__(self, name: str, count: int, labels: Labels | None, limit: int | None) -> None:
        if count == 0:
            raise DataError(f"{name} holds no images")
        if limit is not None and limit < 1:
            raise UsageError(f"the limit on the number of images must be positive, not {limit}")
        self.name = name
        self.count = count if limit is None else min(count, limit)
        self.labels = None if labels is None else labels[: self.count]
        self._all_labels = labels
        self.class_names: tuple[str, ...] | None = None
        self.image_names: tuple[str, ...] | None = None
        self.notes: list[str] = []
        self._digest: str | None = None

    def note(self, text: str) -> None:
        """Add a remark once."""
        if text not in self.notes:
            self.notes.append(text)

    def batches(
        self, size: int, shape: Sequence[Any] | None, preprocessing: Preprocessing | None = None
    ) -> Iterator[Batch]:
        """Walk through the images as the network takes them.

        Args:
            size: images per batch; the last batch may have fewer.
            shape: shape of the network's input without the batch, unknown sizes as None.
            preprocessing: for uint8 images and pictures; float arrays are taken as they are.

        Yields:
            Images float32 [n, *shape] and their labels, int64 [n] or None.

        Raises:
            DataError: the images do not fit the shape, are damaged or not finite.
        """
        first = 0
        for part in self.parts(size, shape, preprocessing):
            after = first + len(part)
            yield part.images(), None if self.labels is None else self.labels[first:after]
            first = after

    def parts(
        self, size: int, shape: Sequence[Any] | None, preprocessing: Preprocessing | None = None
    ) -> Iterator[Part]:
        """The images of `batches` before they are made ready.

        Raises:
            DataError: the images do not fit the shape, or are not finite.
            UsageError: ``size`` is below 1.
        """
        if size < 1:
            raise UsageError(f"the batch size must be positive, not {size}")
        for stored, prepare in self._parts(size, model_shape(shape), preprocessing):
            yield Part(stored, prepare)

    def sha256(self) -> str:
        """Hash of the whole content, whatever the limit; computed once."""
        if self._digest is None:
            digest = hashlib.sha256()
            self._hash(digest.update)
            self._digest = digest.hexdigest()
        return self._digest

    def preprocessing_for_bytes(self, preprocessing: Preprocessing | None) -> Preprocessing:
        """What was asked for uint8 images, else division by 255 with a remark."""
        if preprocessing is None:
            self.note(
                "uint8 images without a known preprocessing: divided by 255; "
                "say what the network was trained on with --preprocess"
            )
            return UNIT
        return preprocessing

    @abstractmethod
    def as_array(self) -> Array:
        """All images as stored, without preprocessing, in memory."""

    @abstractmethod
    def _parts(
        self, size: int, shape: Shape | None, preprocessing: Preprocessing | None
    ) -> Iterator[tuple[Any, Prepare]]:
        """Batches as they are stored, and what makes network inputs of them."""

    @abstractmethod
    def _hash(self, update: Update) -> None:
        """Feed all the content to a hash."""


class ArrayDataset(Dataset):
    """Images in one array, in a file or in memory."""

    def __init__(
        self, name: str, array: Array | StoredArray, labels: Array | None, limit: int | None
    ) -> None:
        _refuse_type(array, name)
        if len(array.shape) < 2:
            raise DataError(
                f"{name}: images need a batch axis, found the shape {list(array.shape)}",
                advice="add it with images[None]",
            )
        if 0 in array.shape:
            raise DataError(f"{name} holds no images: its shape is {list(array.shape)}")
        count = array.shape[0]
        classes, remark = class_numbers(labels, count)
        super().__init__(name, count, classes, limit)
        self._array = array
        self._look()
        if remark:
            self.note(remark)

    def _look(self) -> None:
        """Remark on values that are unlikely for what they are."""
        first = next(self._slices(_PEEK))
        if first.dtype != np.uint8:
            first = _as_float32(first)
        low, high = float(first.min()), float(first.max())
        if low == high:
            self.note(f"the first {len(first)} images are constant: every value is {low:g}")
        elif first.dtype.kind == "f" and low >= 0 and high > _BYTE_RANGE_FROM:
            mean = first.mean(dtype=np.float64)
            self.note(
                f"float images with values from {low:g} to {high:g} (mean {mean:.3g}) "
                "look like 0..255 and are taken as they are; give uint8 images to have them "
                "preprocessed"
            )

    def _slices(self, size: int) -> Iterator[Array]:
        if isinstance(self._array, StoredArray):
            yield from self._array.batches(size, self.count)
            return
        for start in range(0, self.count, size):
            yield self._array[start : min(start + size, self.count)]

    def as_array(self) -> Array:
        """All images as stored, without preprocessing, in memory."""
        whole = self._array.read() if isinstance(self._array, StoredArray) else self._array
        return whole[: self.count]

    def _parts(
        self, size: int, shape: Shape | None, preprocessing: Preprocessing | None
    ) -> Iterator[tuple[Any, Prepare]]:
        found = self._array.shape[1:]
        if self._array.dtype != np.uint8:
            refuse_shape(found, shape)
            done = 0
            for images in self._slices(size):
                yield self._finite(images, done), _as_float32
                done += len(images)
            return
        steps = self.preprocessing_for_bytes(preprocessing)
        turn = find_turn(found, shape, steps.layout)
        axis = channel_axis(shape or found, steps.layout)
        prepare = partial(steps.apply, channel_axis=axis + 1 if axis >= 0 else axis)
        for images in self._slices(size):
            yield turn.of_batch(images), prepare

    def _finite(self, images: Array, start: int) -> NDArray[np.float32]:
        """Float images as float32."""
        values = _as_float32(images)
        is_finite = np.isfinite(values)
        if is_finite.all():
            return values
        index = np.unravel_index(int(np.argmin(is_finite)), values.shape)
        first = [start + int(index[0]), *map(int, index[1:])]
        total = sum(
            int(np.count_nonzero(~np.isfinite(_as_float32(part))))
            for part in self._slices(len(images))
        )
        raise DataError(
            f"{self.name}: {total:,} values are NaN or infinite, the first at {first}",
            advice="remove these images or repair the step that made them",
        )

    def _hash(self, update: Update) -> None:
        if isinstance(self._array, StoredArray):
            hash_file(self._array.path, update)
            return
        update(f"{self._array.dtype.str}{self._array.shape}".encode())
        for start in range(0, len(self._array), 64):
            update(np.ascontiguousarray(self._array[start : start + 64]).tobytes())
        if self._all_labels is not None:
            update(self._all_labels.tobytes())


def _as_float32(images: Array) -> NDArray[np.float32]:
    """What is too large becomes infinite, which is refused like any infinity."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(images, dtype=np.float32)


def _refuse_type(array: Array | StoredArray, name: str) -> None:
    if array.dtype == np.uint8 or array.dtype.kind == "f":
        return
    if array.dtype.hasobject:
        advice = "stack images of one size: np.stack(images)"
    elif array.dtype.kind in "iu":
        advice = (
            "pictures with values 0..255: images.astype(np.uint8); "
            "inputs of the network: images.astype(np.float32)"
        )
    else:
        advice = "images.astype(np.float32)"
    raise DataError(f"{name}: images are {array.dtype}, expected uint8 or float32", advice=advice)


def hash_file(path: Path, update: Update) -> None:
    """Feed a file to a hash, piece by piece.

    Raises:
        StorageError: the file cannot be read.
    """
    with open_regular(path, DataError) as stream:
        try:
            while piece := stream.read(_HASH_BYTES):
                update(piece)
        except OSError as problem:
            raise StorageError(f"cannot read {shown(path)}: {problem.strerror}") from problem
