"""Data for all inputs of a network, walked through together."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx2snn_runtime.data.dataset import ArrayDataset, Dataset, Part
from onnx2snn_runtime.data.input_preprocessing import Preprocessings, by_input
from onnx2snn_runtime.data.labels import Labels, class_numbers
from onnx2snn_runtime.data.pictures import SUFFIXES
from onnx2snn_runtime.data.sources import LABEL_NAMES, as_array, in_memory, open_data
from onnx2snn_runtime.errors import DataError, Finding, StorageError
from onnx2snn_runtime.files.arrays import StoredArray, open_arrays
from onnx2snn_runtime.files.disk import shown, stat_path

Feeds = dict[str, NDArray[np.float32]]

_ARRAY_SUFFIXES = (".npy", ".npz")
_ADVICE = (
    "give an .npz with one array [N,…] under the name of each input and labels under 'labels', "
    "or a folder with a file or a folder of pictures under each of these names"
)


@dataclass(frozen=True)
class Piece:
    """Some images of all inputs as they are stored; it can be sent to another process.

    Attributes:
        first: index of its first image.
        parts: the images by input name.
        labels: their labels, int64 [n], or None.
    """

    first: int
    parts: Mapping[str, Part]
    labels: Labels | None

    def __len__(self) -> int:
        """Number of images."""
        return len(next(iter(self.parts.values())))

    def feeds(self) -> Feeds:
        """The images by input name as the network takes them, float32 [n,*].

        Raises:
            DataError: a picture is damaged.
        """
        return {name: part.images() for name, part in self.parts.items()}


class InputData:
    """A data set for each input of a network, and labels if there are any.

    Attributes:
        datasets: the data sets by input name, all of one length.
        count: number of images.
        labels: class number per image, int64 [N], or None.
    """

    def __init__(self, datasets: Mapping[str, Dataset], labels: Labels | None) -> None:
        self.datasets = dict(datasets)
        self.count = next(iter(self.datasets.values())).count
        self.labels = labels

    @property
    def image_names(self) -> tuple[str, ...] | None:
        """What each image is called, [N], by the first data set that tells."""
        return next((data.image_names for data in self.datasets.values() if data.image_names), None)

    @property
    def notes(self) -> list[str]:
        """Warnings and remarks for the reader, without repetition."""
        return list(dict.fromkeys(note for data in self.datasets.values() for note in data.notes))

    def batches(
        self,
        size: int,
        shapes: Mapping[str, Sequence[Any]],
        preprocessing: Preprocessings | None = None,
    ) -> Iterator[Feeds]:
        """Walk through the images as the network takes them, see `pieces`."""
        for piece in self.pieces(size, shapes, preprocessing):
            yield piece.feeds()

    def pieces(
        self,
        size: int,
        shapes: Mapping[str, Sequence[Any]],
        preprocessing: Preprocessings | None = None,
        limit: int | None = None,
    ) -> Iterator[Piece]:
        """Walk through the images before they are made ready.

        Args:
            size: images per piece; the last may have fewer.
            shapes: shape of each input of the network with its batch, unknown sizes as text or
                None.
            preprocessing: for uint8 images and pictures; float arrays are taken as they are.
            limit: end after so many images.

        Raises:
            DataError: the images do not fit their shapes, are damaged or not finite.
            UsageError: ``size`` is below 1, or a preprocessing is for no input.
        """
        steps = by_input(preprocessing, self.datasets)
        walks = {
            name: dataset.parts(size, shapes[name][1:], steps.get(name))
            for name, dataset in self.datasets.items()
        }
        left = self.count if limit is None else min(limit, self.count)
        first = 0
        parts = self._first_parts(walks)
        while left > 0:
            parts = {name: part.first(left) for name, part in parts.items()}
            count = len(next(iter(parts.values())))
            labels = None if self.labels is None else self.labels[first : first + count]
            yield Piece(first, parts, labels)
            first, left = first + count, left - count
            if left > 0:
                parts = {name: next(walk) for name, walk in walks.items()}

    def _first_parts(self, walks: Mapping[str, Iterator[Part]]) -> dict[str, Part]:
        """The first part of each input; what does not fit is said of all of them at once."""
        if len(walks) == 1:
            return {name: next(walk) for name, walk in walks.items()}
        parts, findings = {}, []
        for name, walk in walks.items():
            try:
                parts[name] = next(walk)
            except DataError as problem:
                findings.append(_finding(name, problem))
        if findings:
            raise DataError("the data does not fit the inputs of the network", findings)
        return parts

    def sha256(self) -> str:
        """Hash of all content."""
        if len(self.datasets) == 1:
            return next(iter(self.datasets.values())).sha256()
        digest = hashlib.sha256()
        for name, dataset in self.datasets.items():
            digest.update(f"{name}\0{dataset.sha256()}\0".encode())
        if self.labels is not None:
            digest.update(self.labels.tobytes())
        return digest.hexdigest()


def open_inputs(source: Any, names: Sequence[str], *, max_bytes: int | None = None) -> InputData:
    """Open data for every input of a network.

    Args:
        source: for one input what `open_data` takes, or a mapping or an ``.npz`` with its name.
            For several: an ``.npz`` with an array [N,*] under the name of each input, and
            ``labels`` or ``y``; a mapping with the same names, whose values may also be what
            `open_data` takes; or a folder that holds an ``.npy``, an ``.npz`` or a folder of
            pictures of each name.
        names: the names of the inputs.
        max_bytes: limit on what a file unpacks to; default: see `limits`.

    Raises:
        DataError: with all that is missing, unknown, of another length or cannot be read.
        StorageError: the disk fails.

    >>> arrays = {"left": np.zeros((4, 3)), "right": np.ones((4, 2)), "labels": np.arange(4)}
    >>> open_inputs(arrays, ["left", "right"]).count
    4
    """
    if isinstance(source, InputData):
        return source
    if len(names) == 1:
        dataset = open_data(source, input_name=names[0], max_bytes=max_bytes)
        return InputData({names[0]: dataset}, dataset.labels)
    return _Opening(_sources(source, max_bytes), names, max_bytes).result()


class _Opening:
    """Opens what is given for each of several inputs, and gathers what is wrong with it."""

    def __init__(
        self, sources: Mapping[str, Any], names: Sequence[str], max_bytes: int | None
    ) -> None:
        self.sources, self.names, self.max_bytes = sources, names, max_bytes
        self.findings: list[Finding] = []

    def result(self) -> InputData:
        """The data of all inputs.

        Raises:
            DataError: with everything that is wrong.
        """
        self.compare_names()
        opened = {
            name: self.attempt(name, self.open) for name in self.names if name in self.sources
        }
        datasets = {name: dataset for name, dataset in opened.items() if dataset is not None}
        counts = {name: dataset.count for name, dataset in datasets.items()}
        labels = None
        if len(set(counts.values())) > 1:
            each = ", ".join(f"{shown(name)!r} {count:,}" for name, count in counts.items())
            self.findings.append(Finding(f"the inputs differ in their number of images: {each}"))
        elif datasets:
            labels = self.labels(list(datasets.values()))
        if self.findings:
            wanted = ", ".join(repr(shown(name)) for name in self.names)
            raise DataError(
                f"the data does not hold what the network takes, which has the inputs {wanted}",
                self.findings,
                advice=_ADVICE,
            )
        return InputData(datasets, labels)

    def compare_names(self) -> None:
        """Inputs without data, and data without an input."""
        for name in self.names:
            if name not in self.sources:
                self.findings.append(Finding("there is no data for this input", tensor=shown(name)))
        for name in self.sources:
            if name not in (*self.names, *LABEL_NAMES, "classes"):
                self.findings.append(Finding("no input has this name", tensor=shown(name)))

    def attempt(self, name: str, work: Any) -> Any:
        """The result for one name, or None and a finding."""
        try:
            return work(name)
        except DataError as problem:
            self.findings.append(_finding(name, problem))
            return None

    def open(self, name: str) -> Dataset:
        """The data set of one input."""
        value, title = self.sources[name], f"input {shown(name)!r}"
        if isinstance(value, StoredArray):
            return ArrayDataset(title, value, None, None)
        if isinstance(value, str | os.PathLike | Dataset):
            return open_data(value, max_bytes=self.max_bytes)
        return ArrayDataset(title, as_array(value, name), None, None)

    def labels(self, datasets: Sequence[Dataset]) -> Labels | None:
        """Labels under their own name, else those that folders of pictures tell."""
        for name in LABEL_NAMES:
            if name in self.sources and name not in self.names:
                found, remark = self.attempt(
                    name, lambda key: self.read(key, datasets[0].count)
                ) or (None, "")
                if remark:
                    datasets[0].note(remark)
                return found
        told = [dataset.labels for dataset in datasets if dataset.labels is not None]
        if any(not np.array_equal(other, told[0]) for other in told):
            datasets[0].note("the inputs tell different labels: none are used; add labels.npy")
            return None
        return told[0] if told else None

    def read(self, name: str, count: int) -> tuple[Labels | None, str]:
        """The labels of so many images, and a remark."""
        value = self.sources[name]
        if isinstance(value, str | os.PathLike):
            (value, *more) = open_arrays(Path(value), max_bytes=self.max_bytes).values()
            if more:
                raise DataError("expected one array, as np.save writes it")
        stored = value if isinstance(value, StoredArray) else as_array(value, name)
        return class_numbers(in_memory(stored), count)


def _sources(source: Any, max_bytes: int | None) -> dict[str, Any]:
    """What is given under each name."""
    if isinstance(source, Mapping):
        return {str(key): value for key, value in source.items() if value is not None}
    if not isinstance(source, str | os.PathLike):
        kind = type(source).__name__
        raise DataError(f"the network has several inputs, got {kind} for all", advice=_ADVICE)
    path = Path(source)
    stat_path(path, DataError)
    return _entries(path) if path.is_dir() else dict(open_arrays(path, max_bytes=max_bytes))


def _entries(folder: Path) -> dict[str, Path]:
    """Folders, arrays and pictures in a folder by their names without endings."""
    found: dict[str, Path] = {}
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as problem:
        raise StorageError(f"cannot read {shown(folder)}: {problem.strerror}") from problem
    for path in entries:
        if path.suffix.lower() not in (*_ARRAY_SUFFIXES, *SUFFIXES) and not path.is_dir():
            continue
        name = path.name if path.is_dir() else path.stem
        if name in found:
            raise DataError(
                f"{shown(folder)} holds both {shown(found[name].name)} and {shown(path.name)}"
            )
        found[name] = path
    return found


def _finding(name: str, problem: DataError) -> Finding:
    """What is wrong with the data of one name."""
    details = "; ".join(map(str, problem.findings))
    text = f"{problem.message}: {details}" if details else problem.message
    return Finding(text, problem.advice, tensor=shown(name))
