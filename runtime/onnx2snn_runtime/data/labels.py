"""Labels of images: what forms are taken, and where they come from in a folder of pictures."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx2snn_runtime.errors import DataError

Labels = NDArray[np.int64]

_NUMBER_FIRST = re.compile(r"(\d+)[_\- ](.*\D.*)")
_NUMBER_LAST = re.compile(r"(.*\D)[_\- ](\d+)")
_NUMBERS = re.compile(r"(\d+)[_\- ](\d+)")
MOST_CLASSES = 100_000
LARGEST_NUMBER = 2.0**53


def class_numbers(labels: NDArray[Any] | None, count: int) -> tuple[Labels | None, str]:
    """Class numbers, from whole numbers [N] or [N,1] or from a one-hot matrix [N,classes].

    Args:
        labels: as stored, or None.
        count: number of images.

    Returns:
        The numbers, [N]; or None and a remark where labels are those of another task, such as
        targets of a regression, label maps or several labels for an image.

    Raises:
        DataError: another length, no numbers, or a negative number.
    """
    if labels is None:
        return None, ""
    if labels.ndim == 0 or len(labels) != count:
        found = "one value" if labels.ndim == 0 else f"{len(labels):,} labels"
        raise DataError(f"there are {count:,} images but {found}")
    if labels.dtype.kind not in "biuf":
        raise DataError(
            f"labels are {labels.dtype}: expected one number for each image, its class",
            advice="numpy.unique(labels, return_inverse=True)[1] numbers names",
        )
    if labels.ndim == 2 and labels.shape[1] > 1:
        is_one_hot = ((labels == 0) | (labels == 1)).all() and (
            (labels != 0).sum(axis=1) == 1
        ).all()
        if is_one_hot:
            return np.asarray(labels.argmax(axis=1), np.int64), ""
    if labels.size != count or not _are_whole(labels):
        shape = ",".join(map(str, ("N", *labels.shape[1:])))
        return None, (
            f"labels ({labels.dtype} [{shape}]) are no class numbers and are not used: the error "
            "of the outputs is measured without them"
        )
    if labels.dtype == np.uint64:  # what is beyond is out of range in any case
        labels = np.minimum(labels, np.uint64(np.iinfo(np.int64).max))
    numbers = labels.reshape(count).astype(np.int64)
    if count and numbers.min() < 0:
        index = int(np.argmin(numbers))
        raise DataError(f"label {numbers[index]} of image {index} is negative")
    return numbers, ""


def _are_whole(labels: NDArray[Any]) -> bool:
    """Whether labels are whole numbers, as floats of a size that is one."""
    if labels.dtype.kind != "f":
        return True
    return bool(((labels == np.rint(labels)) & (np.abs(labels) < LARGEST_NUMBER)).all())


def labels_from_names(stems: Sequence[str]) -> tuple[Labels, tuple[str, ...]] | None:
    """Class numbers from the names of picture files without their endings.

    Four forms, which all the files must share:

    - ``3_cat``: the number is the label, if every number goes with one name and every name with one
      number (``3_cat_001`` is the same class);
    - ``017_cat`` with running numbers: the names, sorted, are numbered from 0;
    - ``cat_001``: the same;
    - ``3_001`` or ``0017_3``: the number that repeats is the label, the first if both do.

    Separators are ``_``, ``-`` and blank.

    Args:
        stems: one per picture.

    Returns:
        Labels and names by label, or None if the names tell no classes (fewer than two).

    >>> labels, names = labels_from_names(["dog_1", "cat_1", "dog_2"])
    >>> labels.tolist(), names
    ([1, 0, 1], ('cat', 'dog'))
    """
    matches = [_NUMBER_FIRST.fullmatch(stem) for stem in stems]
    first = [(int(match[1]), _without_number(match[2])) for match in matches if match]
    if first and len(first) == len(stems):
        pairs = set(first)
        names = {name for _, name in pairs}
        if len(names) < 2:
            return None
        if len(pairs) == len(names) == len({number for number, _ in pairs}):
            by_number = dict(pairs)
            largest = max(by_number)
            labels = np.array([number for number, _ in first], np.int64)
            if largest < MOST_CLASSES:
                return labels, names_by_number(by_number)
        return _numbered([name for _, name in first])
    last = [match[1] for match in map(_NUMBER_LAST.fullmatch, stems) if match]
    if last and len(last) == len(stems) and len(set(last)) > 1:
        return _numbered(last)
    pairs_of_numbers = [match.groups() for match in map(_NUMBERS.fullmatch, stems) if match]
    if pairs_of_numbers and len(pairs_of_numbers) == len(stems):
        return _repeating(np.array(pairs_of_numbers, object).astype(np.int64))
    return None


def _repeating(numbers: NDArray[np.int64]) -> tuple[Labels, tuple[str, ...]] | None:
    """Of pairs of numbers [N,2] the column that repeats, and its numbers as names."""
    for column in numbers.T:
        if 1 < len(np.unique(column)) < len(column) and column.max() < MOST_CLASSES:
            return column, names_by_number({number: str(number) for number in column.tolist()})
    return None


def names_by_number(known: Mapping[int, str]) -> tuple[str, ...]:
    """Names of the classes 0 to the largest; one without a name is called by its number.

    >>> names_by_number({0: "cat", 2: "dog"})
    ('cat', '1', 'dog')
    """
    return tuple(known.get(number, str(number)) for number in range(max(known) + 1))


def _without_number(name: str) -> str:
    match = _NUMBER_LAST.fullmatch(name)
    return match[1] if match else name


def _numbered(names: Sequence[str]) -> tuple[Labels, tuple[str, ...]]:
    """Labels by the sorted distinct names."""
    classes = tuple(sorted(set(names)))
    index = {name: number for number, name in enumerate(classes)}
    return np.array([index[name] for name in names], np.int64), classes
