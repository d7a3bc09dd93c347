"""Hostile data: arrays, archives, pictures and folders."""

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attacks.base import SHAPE, good_model, good_spiking, images, network, npz, put
from attacks.models import archive
from attacks.registry import attack, table

CANARY = "canary"


class Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (os.mkdir, (str(self.path),))


def as_file(folder: Path, content: bytes) -> Sequence[Any]:
    """Give this content as calibration data."""
    data = put(folder / "data.npz", content)
    return ["convert", good_model(folder), "--calibration", data, "-o", folder / "out.snn.onnx"]


def as_run(folder: Path, content: bytes) -> Sequence[Any]:
    """Give this content to a run."""
    return ["run", good_spiking(folder), put(folder / "data.npz", content)]


def as_eval(folder: Path, arrays: dict[str, Any]) -> Sequence[Any]:
    """Give these arrays to an evaluation."""
    data = put(folder / "data.npz", npz(**arrays))
    return ["eval", good_spiking(folder), data, "--timesteps", "1"]


def header(shape: str, descr: str = "'|u1'") -> bytes:
    """The header of an array, as it is stored."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def member(content: bytes) -> bytes:
    """An archive with this as its images."""
    return archive(images__npy=content)


def bomb() -> bytes:
    """200 MB of zeros in 200 kB."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as target:
        content = header("(200000000,)") + bytes(200_000_000)
        target.writestr("images.npy", content, compresslevel=9)
    return stream.getvalue()


def lying_size() -> bytes:
    """The directory of the archive states fewer bytes than unpack."""
    content = npz(images=np.zeros((4, 100), np.float32))
    size = struct.pack("<I", 4 * 400 + 128)
    return content.replace(size, struct.pack("<I", 4 * 400 + 127))


def objects(folder: Path) -> bytes:
    """An array of Python objects that act when they are loaded."""
    stream = io.BytesIO()
    array = np.empty(1, dtype=object)
    array[0] = Canary(folder / CANARY)
    np.savez(stream, images=array)
    return stream.getvalue()


GOOD = npz(images=images())
MIDDLE = len(GOOD) // 3
DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "text": (b"1,2,3\n4,5,6\n", "this is text"),
    "junk": (bytes(range(128, 256)), "no format that is known"),
    "pickle": (pickle.dumps([1]), "a pickle"),
    "hdf5": (b"\x89HDF\r\n\x1a\n", "HDF5"),
    "onnx": (network().SerializeToString(), "not a NumPy file"),
    "truncated": (GOOD[:-40], "damaged"),
    "half": (GOOD[: len(GOOD) // 2], "damaged"),
    "flipped": (GOOD[:MIDDLE] + bytes([GOOD[MIDDLE] ^ 255]) + GOOD[MIDDLE + 1 :], "damaged"),
    "torch": (archive(data__pkl=b"x"), "PyTorch"),
    "no arrays": (archive(readme__md=b"hello"), "no NumPy array"),
    "no header": (member(b"nothing"), "no NumPy array"),
    "lying header": (member(header("(10000000000000,)") + b"abc"), "but 3 are"),
    "lying header of an npy": (header("(10000000000000,)") + b"abc", "but 3 are there"),
    "header overflows": (member(header(f"({2**62}, 4)") + b"abc"), "but 3 are"),
    "negative size": (member(header("(-1, -3)") + b"abc"), "negative size"),
    "code in the header": (member(header("__import__('os')") + b"abc"), "header of the array"),
    "open bracket": (member(header("(" * 90) + b"abc"), "header of the array"),
    "long header": (member(b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"x"), "too long"),
    "unknown version": (member(b"\x93NUMPY\x09\x00xx"), "unknown version"),
    "structured": (member(header("(1,)", "[('a', '<u4')]") + b"abcd"), "structured array"),
    "unknown compression": (GOOD.replace(b"\x08\x00", b"\x0e\x00"), "damaged"),
    "lying member size": (lying_size(), ""),
}
table("data", 6, DAMAGED, as_file)

UNFIT: dict[str, tuple[bytes, str]] = {
    "no images": (npz(images=np.zeros((0, *SHAPE), np.float32)), "no images"),
    "NaN": (npz(images=np.full((4, *SHAPE), np.nan, np.float32)), "NaN"),
    "infinite": (npz(images=np.full((4, *SHAPE), np.inf, np.float32)), "infinite"),
    "beyond float32": (npz(images=np.full((4, *SHAPE), 1e300)), "infinite"),
    "int64": (npz(images=np.zeros((4, *SHAPE), np.int64)), "int64"),
    "complex": (npz(images=np.zeros((4, *SHAPE), np.complex64)), "complex64"),
    "wrong size": (npz(images=np.zeros((4, 1, 9, 9), np.float32)), "9"),
    "transposed": (npz(images=np.zeros((4, 8, 8, 1), np.float32)), "transpose"),
    "no batch axis": (npz(images=np.zeros(SHAPE, np.float32)), "images[None]"),
    "other names": (npz(x_train=images()), "x_train"),
    "scalar": (npz(images=np.float32(1)), "batch axis"),
    "offsets fall": (
        npz(jpeg=np.zeros(9, np.uint8), offsets=np.array([5, 2, 9])), "offsets must grow"),
    "offsets beyond": (
        npz(jpeg=np.zeros(9, np.uint8), offsets=np.array([0, 10**12])), "offsets must grow"),
    "packed pictures of zeros": (
        npz(jpeg=np.zeros(9, np.uint8), offsets=np.array([0, 9])), "not a picture"),
}  # fmt: skip
table("data", 6, UNFIT, as_file)
FEW = {"half": DAMAGED["half"], "NaN": UNFIT["NaN"], "wrong size": UNFIT["wrong size"]}
table("run data", 6, FEW, as_run)
attack("data: compression bomb", 6, "compression bomb", lambda f: as_file(f, bomb()))
attack("data: Python objects", 6, "never loaded", lambda f: as_file(f, objects(f)))

LABELS: dict[str, tuple[dict[str, Any], str]] = {
    "too few": ({"images": images(), "labels": np.zeros(7, int)}, "8 images but 7 labels"),
    "out of range": ({"images": images(), "labels": np.full(8, 4)}, "out of range"),
    "out of range by far": ({"images": images(), "labels": np.full(8, 2**62)}, "out of range"),
    "negative": ({"images": images(), "labels": np.full(8, -1)}, "negative"),
    "text": ({"images": images(), "labels": np.full(8, "cat")}, "one number for each image"),
}
table("labels", 6, LABELS, as_eval)


def png(width: int, height: int) -> bytes:
    """A PNG that states this size and holds nothing."""
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    size = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + pixels + chunk(b"IEND", b"")


def picture(folder: Path, content: bytes) -> Sequence[Any]:
    """Give this content as a picture."""
    return ["run", good_spiking(folder), put(folder / "picture.png", content)]


PICTURES: dict[str, tuple[bytes, str]] = {
    "decompression bomb": (png(60_000, 60_000), "decompression bomb"),
    "size zero": (png(0, 0), "not a picture"),
    "truncated": (png(8, 8)[:40], "not a picture"),
    "pixels missing": (png(500, 500), "not a picture"),
    "signature only": (b"\x89PNG\r\n\x1a\n", "not a picture"),
    "gif header": (b"GIF89a" + b"\xff" * 30, "not a picture"),
    "program in PostScript": (b"\xff\xd8\xff%!PS-Adobe-3.0 EPSF", "not a picture"),
}
table("picture", 6, PICTURES, picture)


def _folder_of(folder: Path, *names: str) -> Sequence[Any]:
    for name in names:
        path = folder / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, png(8, 8))
    (folder / "set").mkdir(exist_ok=True)
    return ["run", good_spiking(folder), folder / "set"]


def _pipe(folder: Path) -> Sequence[Any]:
    if not (folder / "data.npz").exists():
        os.mkfifo(folder / "data.npz")
    return ["run", good_spiking(folder), folder / "data.npz"]


attack("folder: empty", 6, "no pictures", _folder_of)
attack("folder: mixed", 6, "which are the classes", lambda f: _folder_of(f, "a.png", "cat/b.png"))
attack("data: a pipe", 6, "named pipe", _pipe)
attack("data: missing", 6, "no file", lambda f: ["run", good_spiking(f), f / "none.npz"])
attack("data: /dev/zero", 6, "device", lambda f: ["run", good_spiking(f), "/dev/zero"])
