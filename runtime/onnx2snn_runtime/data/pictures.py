"""Pictures as data: listing a folder, decoding, scaling to the size of a model."""

import io
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx2snn_runtime.data.labels import MOST_CLASSES, Labels, labels_from_names, names_by_number
from onnx2snn_runtime.errors import DataError, Onnx2SnnError, StorageError
from onnx2snn_runtime.files.disk import read_bytes_checked, shown

Picture = NDArray[np.uint8]

SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm",
)  # fmt: skip
MAX_PICTURE_BYTES = 256 * 2**20
# Decoders that read pictures only; some of Pillow's others start programs.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")


@dataclass(frozen=True)
class PictureFolder:
    """The pictures of a folder, in a fixed order.

    Attributes:
        root: the folder.
        paths: files, sorted.
        labels: class number per file, or None.
        class_names: names by class number, or None.
        notes: what the reader should know about the labels.
    """

    root: Path
    paths: tuple[Path, ...]
    labels: Labels | None
    class_names: tuple[str, ...] | None
    notes: tuple[str, ...]


def list_folder(root: Path) -> PictureFolder:
    """Find the pictures of a folder and their classes.

    Subfolders with pictures are classes, numbered in the sorted order of their names as PyTorch and
    Keras number them (see `_folder_numbers` for names that are numbers). Without subfolders the
    file names may tell, see `labels_from_names`. Hidden files are left out, links to folders are
    not followed.

    Raises:
        StorageError: the folder cannot be read.
        DataError: there are no pictures, or pictures both beside and inside class folders.
    """
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
        flat = [root / entry.name for entry in entries if _is_picture(entry)]
        folders = [
            root / entry.name
            for entry in entries
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith((".", "__"))
        ]
    except OSError as problem:
        raise StorageError(f"cannot read {shown(root)}: {problem.strerror}") from problem
    inside = [sorted(_walk(folder)) for folder in folders]
    if flat and any(inside):
        raise DataError(
            f"{shown(root)} holds pictures both directly and in subfolders: which are the classes?",
            advice="give one subfolder per class, or all pictures in one folder",
        )
    if any(inside):
        return _by_subfolder(root, folders, inside)
    if not flat:
        arrays = sorted(entry.name for entry in entries if entry.name.endswith((".npz", ".npy")))
        advice = f"it holds {shown(arrays[0])}: give that file" if arrays else ""
        raise DataError(f"{shown(root)} holds no pictures ({', '.join(SUFFIXES)})", advice=advice)
    found = labels_from_names([path.stem for path in flat])
    if found is None:
        return PictureFolder(root, tuple(flat), None, None, ())
    labels, names = found
    used = {int(label): names[label] for label in sorted(set(labels.tolist()))}
    note = f"labels from the file names: {_numbered(used)}"
    return PictureFolder(root, tuple(flat), labels, names, (note,))


def _numbered(names: Mapping[int, str]) -> str:
    """The first class names with their numbers, for people."""
    text = ", ".join(f"{shown(name, 40)}={number}" for number, name in list(names.items())[:12])
    return text + (", …" if len(names) > 12 else "")


def _is_picture(entry: "os.DirEntry[str]") -> bool:
    is_named_so = entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".")
    return is_named_so and entry.is_file()


def _walk(folder: Path) -> Iterator[Path]:
    for here, folders, names in os.walk(folder, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield Path(here) / name


def _by_subfolder(root: Path, folders: list[Path], inside: list[list[Path]]) -> PictureFolder:
    names = tuple(folder.name for folder in folders)
    notes = []
    empty = [shown(name, 40) for name, paths in zip(names, inside, strict=True) if not paths]
    if empty:
        notes.append(f"classes without pictures: {', '.join(empty[:12])}")
    numbers, note = _folder_numbers(names)
    if note:
        notes.append(note)
    labels = np.repeat(np.array(numbers, np.int64), [len(paths) for paths in inside])
    paths = tuple(path for group in inside for path in group)
    all_names = names_by_number(dict(zip(numbers, names, strict=True)))
    return PictureFolder(root, paths, labels, all_names, tuple(notes))


def _folder_numbers(names: tuple[str, ...]) -> tuple[list[int], str]:
    """Class number of each class folder, and what the reader should know about it.

    Their order counts, unless they are numbers from 0 with some left out: those are the classes.
    """
    order = list(range(len(names)))
    if not all(name.isascii() and name.isdecimal() for name in names):
        return order, (
            f"labels from the class folders in the order of their names: "
            f"{_numbered(dict(enumerate(names)))}"
        )
    numbers = [int(name) for name in names]
    if min(numbers) == 0 and len(set(numbers)) == len(numbers) <= max(numbers) < MOST_CLASSES:
        return numbers, "class folders are numbers with gaps: each number is taken for the class"
    if numbers != sorted(numbers):
        return order, (
            "class folders are numbered in the order of their names as text "
            f"({', '.join(names[:4])}, …), as PyTorch and Keras do; pad the numbers with zeros "
            "if the model counts otherwise"
        )
    if numbers != order:
        return order, f"class folders are numbered from 0: folder {names[0]} is class 0"
    return order, ""


def read_picture(path: Path) -> bytes:
    """The bytes of a picture file.

    Raises:
        DataError: missing, empty, or too large to be a picture.
    """
    return read_bytes_checked(path, DataError, max_bytes=MAX_PICTURE_BYTES)


def decode(
    content: bytes, name: str, channels: int, size: tuple[int, int] | None
) -> Picture:  # [H,W,C]
    """A picture in the colours and the size of a model.

    The short side is scaled to the model's (bilinear), then the centre is cut out; a picture that
    has the size already is not touched. The orientation noted by cameras is not applied, as
    training pipelines do not.

    Args:
        content: the file.
        name: how to call it in a message.
        channels: 3 for RGB, 1 for grey.
        size: height and width, or None to keep the picture's own.

    Raises:
        DataError: not a picture, damaged, or so large that it looks like a decompression bomb.
    """
    try:
        from PIL import Image
    except ImportError as problem:
        raise DataError("reading pictures needs pillow", advice="pip install pillow") from problem
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=_FORMATS) as opened:
                image = _in_colours(opened, channels)
            if size is not None and image.size != (size[1], size[0]):
                image = _scaled(image, size, Image.Resampling.BILINEAR)
            pixels = np.asarray(image)
    except Onnx2SnnError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as problem:
        raise DataError(
            f"{shown(name)} is refused as a decompression bomb: {problem}",
            advice="scale the picture down before",
        ) from problem
    except Exception as problem:  # decoders meet hostile bytes and raise what they like
        said = re.sub(r" <\S+ object at 0x\w+>", "", str(problem))
        raise DataError(
            f"{shown(name)} is not a picture that can be read: {shown(said, 200)}",
            advice=f"readable are {', '.join(_FORMATS)}",
        ) from problem
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _in_colours(image: Any, channels: int) -> Any:
    """RGB or grey with 8 bits; 16 bits keep their upper half."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise DataError(f"pictures of mode {image.mode} have no range that is known")
        image = Image.fromarray((values >> 8 if values.max() > 255 else values).astype(np.uint8))
    return image.convert("RGB" if channels == 3 else "L")


def _scaled(image: Any, size: tuple[int, int], method: Any) -> Any:
    """The short side to the model's size, then the centre."""
    height, width = size
    scale = max(height / image.height, width / image.width)
    new = (max(width, int(image.width * scale)), max(height, int(image.height * scale)))
    if new != image.size:
        image = image.resize(new, method)
    left, top = round((new[0] - width) / 2), round((new[1] - height) / 2)
    return image.crop((left, top, left + width, top + height))
