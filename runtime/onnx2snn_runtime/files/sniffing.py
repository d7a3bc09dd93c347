"""What a file is, from its first bytes, and how to get from there to ONNX."""

import re
from dataclasses import dataclass

HEAD_BYTES = 4096

_TORCH = (
    "load the network in PyTorch and export it: "
    'torch.onnx.export(model.eval(), example_input, "m.onnx", dynamo=True)'
)
_KERAS = (
    "load it in Keras and export it: "
    'keras.models.load_model(...).export("m.onnx", format="onnx"), or model.save("folder") and '
    "python -m tf2onnx.convert --saved-model folder --output m.onnx"
)
SAVED_MODEL_ADVICE = "python -m tf2onnx.convert --saved-model FOLDER --output m.onnx"
_NO_MODEL = "this is not a network: give the .onnx file that your framework exported"
_DATA = "this looks like data: give it as DATA (--calibration, eval, run), and a .onnx as the model"


@dataclass(frozen=True)
class FileKind:
    """What the first bytes of a file say.

    Attributes:
        name: stable short name, such as ``zip`` or ``pickle``.
        text: words for a message: "this is ...".
        advice: how to come to an ONNX file.
    """

    name: str
    text: str
    advice: str


PICTURES = frozenset({"png", "jpeg", "gif", "bmp", "webp", "tiff", "ppm"})
ARRAYS = frozenset({"npy", "npz", "zip"})

_MAGIC: tuple[tuple[bytes, FileKind], ...] = (
    (b"\x93NUMPY", FileKind("npy", "a NumPy array", _DATA)),
    (b"\x89HDF\r\n\x1a\n", FileKind("hdf5", "an HDF5 file, as Keras writes with .h5", _KERAS)),
    (b"\x89PNG\r\n\x1a\n", FileKind("png", "a PNG picture", _DATA)),
    (b"\xff\xd8\xff", FileKind("jpeg", "a JPEG picture", _DATA)),
    (b"GIF8", FileKind("gif", "a GIF picture", _DATA)),
    (b"II*\x00", FileKind("tiff", "a TIFF picture", _DATA)),
    (b"MM\x00*", FileKind("tiff", "a TIFF picture", _DATA)),
    (
        b"GGUF",
        FileKind(
            "gguf",
            "a GGUF file: weights of a language model",
            "onnx2snn converts CNNs: export the original network to ONNX from its framework",
        ),
    ),
    (b"\x1f\x8b", FileKind("gzip", "gzip-compressed", "decompress it first: gunzip FILE")),
    (b"\x28\xb5\x2f\xfd", FileKind("zstd", "zstd-compressed", "decompress it first: zstd -d FILE")),
    (b"\xfd7zXZ\x00", FileKind("xz", "xz-compressed", "decompress it first: xz -d FILE")),
    (b"BZh", FileKind("bzip2", "bzip2-compressed", "decompress it first: bunzip2 FILE")),
    (b"7z\xbc\xaf\x27\x1c", FileKind("7z", "a 7z archive", "unpack it first")),
    (b"%PDF", FileKind("pdf", "a PDF document", _NO_MODEL)),
    (b"\x7fELF", FileKind("elf", "a program or library", _NO_MODEL)),
)


def _of_zip(head: bytes) -> FileKind:
    if b"data.pkl" in head or b"/constants.pkl" in head or b"archive_format" in head:
        return FileKind("torch", "a PyTorch file (.pt, .pth): a zip archive with a pickle", _TORCH)
    if b"model.weights.h5" in head or b"metadata.json" in head or b"config.json" in head:
        return FileKind("keras", "a Keras file (.keras): a zip archive", _KERAS)
    name_length = int.from_bytes(head[26:28], "little")
    if head[30 : 30 + name_length].endswith(b".npy"):
        return FileKind("npz", "a NumPy archive (.npz)", _DATA)
    return FileKind("zip", "a zip archive", "unpack it first, and give the .onnx inside")


def _of_text(head: bytes, is_whole: bool) -> FileKind | None:
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if is_whole or error.start < len(head) - 3:
            return None
        text = head[: error.start].decode("utf-8-sig")
    if re.search(r"[\x00-\x08\x0e-\x1f\x7f]", text):
        return None
    start = text.lstrip().lower()
    if start.startswith("version https://git-lfs"):
        return FileKind("git-lfs", "a Git LFS pointer, not the file itself", "run: git lfs pull")
    if start.startswith(("<!doctype html", "<html")):
        return FileKind(
            "html",
            "a web page: a download saved the page instead of the file",
            'download the file itself (on GitHub: "Download raw file")',
        )
    if start.startswith(("{", "[")):
        return FileKind(
            "json",
            "JSON text",
            'if it is an ONNX model in JSON: onnx.save(onnx.load("m.json"), "m.onnx")',
        )
    if re.search(r"(?m)^\s*(ir_version|opset_import)\b", text):
        return FileKind(
            "onnx-text",
            "an ONNX model as text",
            'make it binary: onnx.save(onnx.load("m.textproto"), "m.onnx")',
        )
    return FileKind("text", "text", _NO_MODEL)


def describe(head: bytes, *, is_whole: bool = False) -> FileKind | None:
    """What the first bytes of a file say, or None if they say nothing (ONNX has no magic).

    Args:
        head: the first bytes, up to ``HEAD_BYTES``.
        is_whole: whether ``head`` is the whole file.

    >>> describe(b"GGUF....").name
    'gguf'
    """
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _of_zip(head)
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[4:8] == b"TFL3":
        advice = "python -m tf2onnx.convert --tflite m.tflite --output m.onnx"
        return FileKind("tflite", "a TensorFlow Lite model", advice)
    if head[4:8] == b"ORTM":
        advice = "give the .onnx file that it was made from"
        return FileKind("ort", "a model in onnxruntime's own format (.ort)", advice)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return FileKind("webp", "a WebP picture", _DATA)
    if head[:2] in (b"P4", b"P5", b"P6") and head[2:3].isspace():
        return FileKind("ppm", "a PPM or PGM picture", _DATA)
    if head.startswith(b"BM") and head[6:10] == b"\0\0\0\0":
        return FileKind("bmp", "a BMP picture", _DATA)
    if len(head) >= 2 and head[0] == 0x80 and 2 <= head[1] <= 5:
        text = "a pickle, as PyTorch (.pt, .pth) and scikit-learn write; it is never opened here"
        return FileKind("pickle", text, _TORCH)
    if len(head) > 9 and head[8:10] in (b'{"', b"{}", b"{ "):
        text = "a safetensors file: weights without the network"
        return FileKind("safetensors", text, f"load the weights into the network, then {_TORCH}")
    return _of_text(head, is_whole) if head else None
