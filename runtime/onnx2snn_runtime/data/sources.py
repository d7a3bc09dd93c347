"""Images and labels from files, folders and arrays."""

import os
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from onnx2snn_runtime.data.dataset import Array, ArrayDataset, Dataset, Update, hash_file
from onnx2snn_runtime.data.labels import Labels, class_numbers
from onnx2snn_runtime.data.picture_dataset import PictureDataset
from onnx2snn_runtime.data.pictures import PictureFolder, list_folder, read_picture
from onnx2snn_runtime.errors import DataError
from onnx2snn_runtime.files.arrays import StoredArray, open_arrays
from onnx2snn_runtime.files.disk import shown, sniff, stat_path
from onnx2snn_runtime.files.sniffing import PICTURES

__all__ = ["Dataset", "open_data"]

_IMAGE_NAMES = ("images", "x")
LABEL_NAMES = ("labels", "y")
_SAVE_ADVICE = 'np.savez("data.npz", images=images, labels=labels)'


def open_data(
    source: Any,
    *,
    limit: int | None = None,
    input_name: str | None = None,
    max_bytes: int | None = None,
) -> Dataset:
    """Open images for calibration, evaluation or a run.

    Args:
        source: path of an ``.npz`` (``images`` or ``x``, with ``labels`` or ``y``; or ``jpeg`` and
            ``offsets``), of an ``.npy``, of a folder of pictures (see `list_folder`) or of one
            picture; or an array, a tuple (images, labels) or a dict with the same names.
        limit: take the first so many images.
        input_name: another name under which the images may be found.
        max_bytes: limit on what a file unpacks to; default: see `limits`.

    Raises:
        DataError: missing, damaged, empty or of an unknown form.
        StorageError: the disk fails.

    >>> open_data(np.zeros((4, 3, 8, 8), np.uint8)).count
    4
    """
    if isinstance(source, Dataset):
        return source
    if isinstance(source, str | os.PathLike):
        return _open_path(Path(source), limit, input_name, max_bytes)
    if isinstance(source, tuple) and len(source) == 2:
        source = {"images": source[0], "labels": source[1]}
    if isinstance(source, Mapping):
        arrays = {str(k): as_array(v, str(k)) for k, v in source.items() if v is not None}
        return _from_named(arrays, "the data", limit, input_name)
    return ArrayDataset("the data", as_array(source, "the data"), None, limit)


def as_array(value: Any, name: str) -> Array:
    """What can be an array as one.

    Raises:
        DataError: it is something else.
    """
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "__array__") or isinstance(value, list):
        try:
            return np.asarray(value)
        except (ValueError, TypeError, RuntimeError) as problem:
            raise DataError(f"{name} cannot be made an array: {problem}") from problem
    raise DataError(
        f"{name} is {type(value).__name__}: expected a path, an array, (images, labels) or a dict"
    )


def _open_path(
    path: Path, limit: int | None, input_name: str | None, max_bytes: int | None
) -> Dataset:
    stat_path(path, DataError)
    if path.is_dir():
        return _from_folder(list_folder(path), limit)
    kind = sniff(path, DataError)
    if kind is not None and kind.name in PICTURES:
        return _from_files(shown(path.name), (path,), path.parent, limit)
    arrays = open_arrays(path, max_bytes=max_bytes)
    return _from_named(arrays, shown(path.name), limit, input_name)


def _from_files(
    name: str, paths: tuple[Path, ...], root: Path, limit: int | None, labels: Labels | None = None
) -> Dataset:
    def contents() -> Iterator[tuple[str, bytes]]:
        for path in paths:
            yield shown(path.relative_to(root)), read_picture(path)

    def hash_content(update: Update) -> None:
        for path in paths:
            update(os.fsencode(path.relative_to(root)) + b"\0")
            hash_file(path, update)

    dataset = PictureDataset(name, len(paths), contents, hash_content, labels, limit)
    dataset.image_names = tuple(shown(path.relative_to(root)) for path in paths[: dataset.count])
    return dataset


def _from_folder(folder: PictureFolder, limit: int | None) -> Dataset:
    dataset = _from_files(shown(folder.root), folder.paths, folder.root, limit, folder.labels)
    dataset.class_names = folder.class_names
    dataset.notes.extend(folder.notes)
    if folder.class_names and limit is not None and limit < len(folder.paths):
        dataset.note("the first images of a folder are all of the first classes")
    return dataset


def _from_named(
    arrays: Mapping[str, Array | StoredArray],
    name: str,
    limit: int | None,
    input_name: str | None = None,
) -> Dataset:
    """Images and labels by their names."""
    found = next((key for key in (*_IMAGE_NAMES, input_name) if key in arrays), None)
    keys = [key for key in LABEL_NAMES if key in arrays and key != found]
    labels = in_memory(arrays[keys[0]]) if keys else None
    dataset: Dataset
    if found is not None:
        dataset = ArrayDataset(name, arrays[found], labels, limit)
    elif "jpeg" in arrays and "offsets" in arrays:
        dataset = _from_packed(arrays["jpeg"], in_memory(arrays["offsets"]), labels, name, limit)
    else:
        held = ", ".join(f"{shown(key, 40)} {list(a.shape)}" for key, a in arrays.items())
        raise DataError(
            f"{name} holds no array named images or x, nor jpeg and offsets; it holds: {held}",
            advice=_SAVE_ADVICE,
        )
    classes = arrays.get("classes")
    if classes is not None and classes.dtype.kind == "U" and len(classes.shape) == 1:
        dataset.class_names = tuple(in_memory(classes).tolist())
    return dataset


def in_memory(array: Array | StoredArray) -> Array:
    """The array, read if it lies in a file."""
    return array.read() if isinstance(array, StoredArray) else array


def _from_packed(
    content: Array | StoredArray,
    offsets: Array,
    labels: Array | None,
    name: str,
    limit: int | None,
) -> Dataset:
    """Pictures one behind the other: picture i is content[offsets[i]:offsets[i+1]]."""
    if content.dtype != np.uint8 or len(content.shape) != 1:
        raise DataError(f"{name}: jpeg must be uint8 [bytes], not {content.dtype} {content.shape}")
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or len(offsets) < 1:
        raise DataError(f"{name}: offsets must be integers [N+1], not {offsets.dtype}")
    limits = [int(offset) for offset in offsets]
    sizes = [after - before for before, after in pairwise(limits)]
    if limits[0] < 0 or limits[-1] > content.shape[0] or min(sizes, default=1) < 1:
        raise DataError(
            f"{name}: offsets must grow from 0 to at most {content.shape[0]:,}, the length of jpeg"
        )
    count = len(sizes)

    def contents() -> Iterator[tuple[str, bytes]]:
        if isinstance(content, StoredArray):
            pieces = content.chunks(iter([limits[0], *sizes]))
            next(pieces)
        else:
            bounds = pairwise(limits)
            pieces = (content[before:after].tobytes() for before, after in bounds)
        for index, piece in enumerate(pieces):
            yield f"picture {index} of {name}", piece

    def hash_content(update: Update) -> None:
        if isinstance(content, StoredArray):
            hash_file(content.path, update)
        else:
            update(np.ascontiguousarray(content).tobytes())
            update(np.array(limits, np.int64).tobytes())

    classes, remark = class_numbers(labels, count)
    dataset = PictureDataset(name, count, contents, hash_content, classes, limit)
    if remark:
        dataset.note(remark)
    return dataset
