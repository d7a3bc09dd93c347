"""Images and labels from files, folders and arrays."""

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from onnx2snn_runtime.arrays import MAX_DATA_BYTES, StoredArray, open_arrays
from onnx2snn_runtime.dataset import Array, ArrayDataset, Dataset, Update, hash_file
from onnx2snn_runtime.disk import shown, sniff, stat_path
from onnx2snn_runtime.errors import DataError
from onnx2snn_runtime.labels import Labels, check_labels
from onnx2snn_runtime.picture_dataset import PictureDataset
from onnx2snn_runtime.pictures import PictureFolder, list_folder, read_picture
from onnx2snn_runtime.preprocessing import Preprocessing
from onnx2snn_runtime.sniffing import PICTURES

__all__ = ["Dataset", "input_batches", "open_data", "open_inputs"]

_IMAGE_NAMES = ("images", "x")
_LABEL_NAMES = ("labels", "y")
_SAVE_ADVICE = 'np.savez("data.npz", images=images, labels=labels)'


def open_data(source: Any, *, limit: int | None = None, max_bytes: int = MAX_DATA_BYTES) -> Dataset:
    """Open images for calibration, evaluation or a run.

    Args:
        source: path of an ``.npz`` (``images`` or ``x``, with ``labels`` or ``y``; or ``jpeg`` and
            ``offsets``), of an ``.npy``, of a folder of pictures (see `list_folder`) or of one
            picture; or an array, a tuple (images, labels) or a dict with the same names.
        limit: take the first so many images.
        max_bytes: limit on what a file unpacks to.

    Raises:
        DataError: missing, damaged, empty or of an unknown form.
        StorageError: the disk fails.

    >>> open_data(np.zeros((4, 3, 8, 8), np.uint8)).count
    4
    """
    if isinstance(source, Dataset):
        return source
    if isinstance(source, str | os.PathLike):
        return _open_path(Path(source), limit, max_bytes)
    if isinstance(source, tuple) and len(source) == 2:
        source = {"images": source[0], "labels": source[1]}
    if isinstance(source, Mapping):
        arrays = {str(k): _as_array(v, str(k)) for k, v in source.items() if v is not None}
        return _from_named(arrays, "the data", limit)
    return ArrayDataset("the data", _as_array(source, "the data"), None, limit)


def open_inputs(
    source: Any, names: Sequence[str], *, max_bytes: int = MAX_DATA_BYTES
) -> dict[str, Dataset]:
    """Open data for every input of a network.

    Args:
        source: for one input what `open_data` takes; for several an ``.npz`` or a mapping with an
            array [N,*] under the name of each input.
        names: the names of the inputs.
        max_bytes: limit on what a file unpacks to.

    Raises:
        DataError: an input has no data, or the inputs differ in their number of images.
        StorageError: the disk fails.
    """
    if len(names) == 1:
        return {names[0]: open_data(source, max_bytes=max_bytes)}
    arrays: Mapping[str, Array | StoredArray] = {}
    if isinstance(source, Mapping):
        arrays = {str(key): _as_array(value, str(key)) for key, value in source.items()}
    elif isinstance(source, str | os.PathLike) and not Path(source).is_dir():
        stat_path(Path(source), DataError)
        arrays = open_arrays(Path(source), max_bytes=max_bytes)
    missing = [name for name in names if name not in arrays]
    if missing:
        raise DataError(
            f"the network has {len(names)} inputs and there is no data for "
            f"{', '.join(map(repr, missing))}; found {', '.join(map(repr, arrays)) or 'no names'}",
            advice="give an .npz with one array under the name of each input",
        )
    datasets: dict[str, Dataset] = {
        name: ArrayDataset(f"input {name!r}", arrays[name], None, None) for name in names
    }
    counts = {name: dataset.count for name, dataset in datasets.items()}
    if len(set(counts.values())) > 1:
        raise DataError(f"the inputs differ in their number of images: {counts}")
    return datasets


def input_batches(
    datasets: Mapping[str, Dataset],
    size: int,
    shapes: Mapping[str, Sequence[Any]],
    preprocessing: Preprocessing | None = None,
) -> Iterator[dict[str, Array]]:
    """Walk through the data of all inputs together; ``shapes`` are without the batch."""
    parts = [
        dataset.batches(size, shapes[name], preprocessing) for name, dataset in datasets.items()
    ]
    for batch in zip(*parts, strict=True):
        yield {name: images for name, (images, _) in zip(datasets, batch, strict=True)}


def _as_array(value: Any, name: str) -> Array:
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


def _open_path(path: Path, limit: int | None, max_bytes: int) -> Dataset:
    stat_path(path, DataError)
    if path.is_dir():
        return _from_folder(list_folder(path), limit)
    kind = sniff(path, DataError)
    if kind is not None and kind.name in PICTURES:
        return _from_files(shown(path.name), (path,), path.parent, limit)
    return _from_named(open_arrays(path, max_bytes=max_bytes), shown(path.name), limit)


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

    return PictureDataset(name, len(paths), contents, hash_content, labels, limit)


def _from_folder(folder: PictureFolder, limit: int | None) -> Dataset:
    dataset = _from_files(shown(folder.root), folder.paths, folder.root, limit, folder.labels)
    dataset.class_names = folder.class_names
    dataset.notes.extend(folder.notes)
    if folder.class_names and limit is not None and limit < len(folder.paths):
        dataset.note("the first images of a folder are all of the first classes")
    return dataset


def _from_named(arrays: Mapping[str, Array | StoredArray], name: str, limit: int | None) -> Dataset:
    """Images and labels by their names."""
    images = next((arrays[key] for key in _IMAGE_NAMES if key in arrays), None)
    labels = next((_in_memory(arrays[key]) for key in _LABEL_NAMES if key in arrays), None)
    dataset: Dataset
    if images is not None:
        dataset = ArrayDataset(name, images, labels, limit)
    elif "jpeg" in arrays and "offsets" in arrays:
        dataset = _from_packed(arrays["jpeg"], _in_memory(arrays["offsets"]), labels, name, limit)
    else:
        found = ", ".join(f"{shown(key, 40)} {list(a.shape)}" for key, a in arrays.items())
        raise DataError(
            f"{name} holds no array named images or x, nor jpeg and offsets; it holds: {found}",
            advice=_SAVE_ADVICE,
        )
    classes = arrays.get("classes")
    if classes is not None and classes.dtype.kind == "U" and len(classes.shape) == 1:
        dataset.class_names = tuple(_in_memory(classes).tolist())
    return dataset


def _in_memory(array: Array | StoredArray) -> Array:
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

    checked = None if labels is None else check_labels(labels, count)
    return PictureDataset(name, count, contents, hash_content, checked, limit)
