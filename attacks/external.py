"""External data that points where it must not."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from attacks.base import network, put
from attacks.registry import attack, table


def model(location: str, **entries: Any) -> onnx.ModelProto:
    """The network with its first weight in another file."""
    made = network()
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return made


def sparse() -> onnx.ModelProto:
    """A sparse tensor with external data, which onnx.load does not look at."""
    made = network()
    tensor = made.graph.sparse_initializer.add(dims=[27])
    tensor.values.CopyFrom(model("../secret").graph.initializer[0])
    tensor.values.name = "sparse"
    tensor.indices.CopyFrom(numpy_helper.from_array(np.arange(27), "indices"))
    return made


def write(folder: Path, hostile: onnx.ModelProto | bytes) -> Sequence[Any]:
    """A folder with every kind of trap, and a secret outside of it."""
    content = numpy_helper.to_array(network().graph.initializer[0]).tobytes()
    inside = folder / "model"
    inside.mkdir(exist_ok=True)
    put(folder / "secret", content)
    put(inside / "w.bin", content)
    put(inside / "short.bin", content[:-4])
    for name, make in {
        "soft.bin": lambda path: path.symlink_to(inside / "w.bin"),
        "out.bin": lambda path: path.symlink_to(folder / "secret"),
        "hard.bin": lambda path: path.hardlink_to(folder / "secret"),
        "linked": lambda path: path.symlink_to(folder),
        "pipe": os.mkfifo,
        "dir": Path.mkdir,
    }.items():
        if not os.path.lexists(inside / name):
            make(inside / name)
    return ["convert", put(inside / "m.onnx", hostile), "-o", folder / "out.snn.onnx"]


EXTERNAL: dict[str, tuple[onnx.ModelProto, str]] = {
    "parent": (model("../secret"), "must lie in the folder"),
    "detour": (model("sub/../../secret"), "must lie in the folder"),
    "absolute": (model("/etc/hostname"), "must lie in the folder"),
    "file URL": (model("file:///etc/hostname"), "conv1.w"),
    "missing": (model("gone.bin"), "gone.bin"),
    "symbolic link": (model("soft.bin"), "cp -L"),
    "symbolic link to outside": (model("out.bin"), "cp -L"),
    "hard link": (model("hard.bin"), "cp -L"),
    "linked folder": (model("linked/secret"), "conv1.w"),
    "pipe": (model("pipe"), "not regular file"),
    "folder": (model("dir"), "conv1.w"),
    "negative offset": (model("w.bin", offset=-1), "non-negative"),
    "offset too far": (model("w.bin", offset=10**6), "exceeds"),
    "offset overflows": (model("w.bin", offset=2**63), "conv1.w"),
    "huge length": (model("w.bin", length=10**15), "need 108 bytes"),
    "negative length": (model("w.bin", length=-108), "need 108 bytes"),
    "length is no number": (model("w.bin", length="many"), "is no number"),
    "file too short": (model("short.bin"), "exceeds available"),
    "unknown key": (model("w.bin", __class__="x"), "unknown key"),
    "sparse": (sparse(), "sparse tensor"),
    "no place": (model(""), "conv1.w"),
    "NUL in the place": (model("w.bin\0/../../secret"), "conv1.w"),
}
table("external", 3, EXTERNAL, write)
NOT_UTF_8 = model("w.bin").SerializeToString().replace(b"w.bin", b"w\xff.bi")
attack("external: place not UTF-8", 3, "external_data[0].value", lambda f: write(f, NOT_UTF_8))
