"""Hostile models: what is given as ``MODEL.onnx`` and is none, or a broken one."""

import gzip
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from attacks.base import network, npz, put
from attacks.registry import attack, table

node = helper.make_node
Change = Callable[[onnx.ModelProto], Any]


def convert(folder: Path, content: bytes | onnx.ModelProto) -> Sequence[Any]:
    """Give this content as the model."""
    return ["convert", put(folder / "model.onnx", content), "-o", folder / "out.snn.onnx"]


def changed(folder: Path, change: Change) -> Sequence[Any]:
    """Give the network after a change."""
    model = network()
    result = change(model)
    return convert(folder, result if isinstance(result, onnx.ModelProto) else model)


def archive(**members: bytes) -> bytes:
    """A zip archive; ``__`` in a name is a dot."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        for name, content in members.items():
            target.writestr(name.replace("__", "."), content)
    return stream.getvalue()


WHOLE = network().SerializeToString()
NO_MODEL: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "tenth": (WHOLE[: len(WHOLE) // 10], "damaged"),
    "half": (WHOLE[: len(WHOLE) // 2], "damaged"),
    "last byte missing": (WHOLE[:-1], "damaged"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(20), "a PNG picture"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(20), "a JPEG picture"),
    "bmp": (b"BM" + bytes(40), "a BMP picture"),
    "webp": (b"RIFF\x10\0\0\0WEBPVP8 ", "a WebP picture"),
    "npy": (b"\x93NUMPY\x01\x00", "a NumPy array"),
    "npz": (npz(images=np.zeros((1, 2))), "a NumPy archive"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(20), 'format="onnx"'),
    "keras": (archive(metadata__json=b"{}", config__json=b"{}"),
              'export("m.onnx", format="onnx")'),
    "torch": (archive(data__pkl=b"x"), "torch.onnx.export"),
    "torch legacy": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "never opened"),
    "zip": (archive(readme__md=b"hello"), "unpack it first"),
    "pickle": (pickle.dumps({"a": 1}), "never opened"),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(20), "tf2onnx.convert --tflite"),
    "gguf": (b"GGUF\x03\0\0\0" + bytes(20), "language model"),
    "safetensors": (struct.pack("<Q", 30) + b'{"w":{"dtype":"F32"}}', "weights without"),
    "gzip": (gzip.compress(b"model"), "gunzip"),
    "ort": (b"\x1c\0\0\0ORTM" + bytes(20), "onnxruntime's own format"),
    "text": (b"hello, I am a model\n", "this is text"),
    "json": (b'{"model": 1}', "JSON text"),
    "onnx as text": (b"ir_version: 8\ngraph { }", "make it binary"),
    "html": (b"\n<!DOCTYPE html><html>", "web page"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "elf": (b"\x7fELF" + bytes(60), "program"),
    "noise": (bytes(range(200, 256)) * 4, "not an ONNX file"),
    "endless varint": (b"\x08" + b"\xff" * 40, "not an ONNX file"),
    "frozen TensorFlow graph": (b"\x0a\x05\x0a\x01x\x12\x00", "tf2onnx.convert --graphdef"),
}  # fmt: skip
table("no model", 3, NO_MODEL, convert)


def weight(model: onnx.ModelProto, name: str = "conv1.w") -> onnx.TensorProto:
    """A stored tensor."""
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def fill(value: float, dtype: type = np.float32, name: str = "conv1.w") -> Change:
    """Put a value into a weight."""

    def change(model: onnx.ModelProto) -> None:
        tensor = weight(model, name)
        array = numpy_helper.to_array(tensor).astype(dtype)
        array.reshape(-1)[:2] = value
        tensor.CopyFrom(numpy_helper.from_array(array, name))

    return change


def dims(*sizes: int) -> Change:
    """State other sizes of a weight."""

    def change(model: onnx.ModelProto) -> None:
        del weight(model).dims[:]
        weight(model).dims.extend(sizes)

    return change


def nodes(*new: onnx.NodeProto) -> Change:
    """Replace all nodes."""

    def change(model: onnx.ModelProto) -> None:
        del model.graph.node[:]
        model.graph.node.extend(new)

    return change


def attribute(name: str, key: str, value: Any) -> Change:
    """Set an attribute of a node."""

    def change(model: onnx.ModelProto) -> None:
        found = next(item for item in model.graph.node if item.name == name)
        kept = [item for item in found.attribute if item.name != key]
        del found.attribute[:]
        found.attribute.extend([*kept, helper.make_attribute(key, value)])

    return change


def renamed_bytes(before: bytes, after: bytes) -> Callable[[Path], Sequence[Any]]:
    """Replace bytes in the file."""
    return lambda folder: convert(folder, WHOLE.replace(before, after))


def function_circle(model: onnx.ModelProto) -> None:
    """Two functions that call each other."""
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    nodes(node("A", ["x"], ["y"], domain="mine"))(model)
    for name, other in (("A", "B"), ("B", "A")):
        inner = node(other, ["i"], ["o"], domain="mine")
        model.functions.append(helper.make_function("mine", name, ["i"], ["o"], [inner], opsets))
    model.opset_import.append(opsets[1])


def function_doubling(model: onnx.ModelProto) -> None:
    """Functions that call the one before twice: 2^40 nodes when inlined."""
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    nodes(node("F40", ["x"], ["y"], domain="mine"))(model)
    for level in range(41):
        op, domain = (f"F{level - 1}", "mine") if level else ("Relu", "")
        inner = [node(op, ["i"], ["m"], domain=domain), node(op, ["m"], ["o"], domain=domain)]
        model.functions.append(
            helper.make_function("mine", f"F{level}", ["i"], ["o"], inner, opsets)
        )
    model.opset_import.append(opsets[1])


def function_over_standard(model: onnx.ModelProto) -> None:
    """A function that takes the name of a standard operator."""
    opsets = [helper.make_opsetid("", 18)]
    inner = [node("Neg", ["i"], ["o"])]
    model.functions.append(helper.make_function("", "Relu", ["i"], ["o"], inner, opsets))


def nested(depth: int) -> bytes:
    """Subgraphs in subgraphs, deeper than a parser goes."""

    def field(number: int, content: bytes) -> bytes:
        size, prefix = len(content), b""
        while size > 127:
            prefix += bytes([size & 127 | 128])
            size >>= 7
        return bytes([number << 3 | 2]) + prefix + bytes([size]) + content

    content = b""
    for _ in range(depth):  # graph { node { attribute { g … } } }
        content = field(1, field(4, b"If") + field(5, field(6, content)))
    return b"\x08\x0a" + field(7, content)


def endless_loop(model: onnx.ModelProto) -> None:
    """A Loop with 2^62 steps."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [node("Identity", ["going"], ["on"]), node("Relu", ["v"], ["w"])],
        "body",
        [value("i", TensorProto.INT64, []), value("going", TensorProto.BOOL, []),
         value("v", TensorProto.FLOAT, None)],
        [value("on", TensorProto.BOOL, []), value("w", TensorProto.FLOAT, None)],
    )  # fmt: skip
    model.graph.initializer.append(numpy_helper.from_array(np.int64(2**62), "many"))
    model.graph.initializer.append(numpy_helper.from_array(np.bool_(True), "true"))
    model.graph.node[1].CopyFrom(node("Loop", ["many", "true", "a"], ["b"], "loop", body=body))


def constant_bomb(op: str) -> Change:
    """A constant of 10^12 elements, made by folding."""

    def change(model: onnx.ModelProto) -> None:
        shape = numpy_helper.from_array(np.array([10**6, 10**6], np.int64), "shape")
        model.graph.initializer.append(shape)
        if op == "ConstantOfShape":
            made = node(op, ["shape"], ["huge"], "bomb")
        else:
            one = numpy_helper.from_array(np.ones((1, 1), np.float32), "one")
            model.graph.initializer.append(one)
            made = node(op, ["one", "shape"], ["huge"], "bomb")
        model.graph.node.insert(0, made)
        model.graph.node.insert(1, node("ReduceMax", ["huge"], ["top"], "top", keepdims=0))
        model.graph.node[2].input[0] = "shifted"
        model.graph.node.insert(2, node("Add", ["x", "top"], ["shifted"], "shift"))

    return change


def flat_variance(model: onnx.ModelProto) -> None:
    """A BatchNormalization that divides by zero."""
    for name, value in (("s", 1.0), ("v", 0.0)):
        array = np.full(3, value, np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    bn = node("BatchNormalization", ["a", "s", "s", "s", "v"], ["n"], "bn", epsilon=0.0)
    model.graph.node.insert(1, bn)
    model.graph.node[2].input[0] = "n"


def input_sizes(*sizes: int | str) -> Change:
    """Other sizes of the input."""

    def change(model: onnx.ModelProto) -> None:
        value = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(sizes))
        model.graph.input[0].CopyFrom(value)

    return change


def bfloat16_weight(model: onnx.ModelProto) -> None:
    """A type that NumPy does not have, full of NaN."""
    made = helper.make_tensor("conv1.w", TensorProto.BFLOAT16, [3, 1, 3, 3], [float("nan")] * 27)
    weight(model).CopyFrom(made)


def in_subgraph(*inner: onnx.NodeProto) -> Change:
    """Nodes that make ``inner`` in both branches of an If."""

    def change(model: onnx.ModelProto) -> None:
        value = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
        body = helper.make_graph(inner, "body", [], [value])
        nodes(node("If", ["x"], ["y"], "if", then_branch=body, else_branch=body))(model)

    return change


BROKEN: dict[str, tuple[Change, str]] = {
    "IR version 99": (lambda m: network(ir_version=99), "IR version 99"),
    "IR version missing": (lambda m: m.ClearField("ir_version"), "IR version is 0"),
    "opset 99": (lambda m: network(opset=99), "opset 99"),
    "opset 0": (lambda m: network(opset=0), "opset 0"),
    "opset negative": (lambda m: network(opset=-(2**62)), "does not exist"),
    "opset missing": (lambda m: m.ClearField("opset_import"), "imports no operator set"),
    "two opsets": (lambda m: m.opset_import.add(domain="ai.onnx", version=9), "imported as"),
    "no graph": (lambda m: onnx.ModelProto(ir_version=9), "no graph"),
    "NaN weight": (fill(np.nan), "2 NaN"),
    "NaN float16 weight": (fill(np.nan, np.float16), "2 NaN"),
    "NaN float64 weight": (fill(np.nan, np.float64), "2 NaN"),
    "NaN bfloat16 weight": (bfloat16_weight, "27 NaN"),
    "infinite weight": (fill(np.inf), "2 infinite"),
    "variance zero": (flat_variance, "variance + epsilon"),
    "raw data too short": (dims(3, 1, 3, 4), "the file holds 108"),
    "dims overflow": (dims(2**31, 2**31), "more than can be stored"),
    "dims wrap to the right size": (dims(2**62, 108 // 4), "more than can be stored"),
    "negative dims": (dims(-3, -1, 3, 3), "negative dimension"),
    "unknown element type": (lambda m: setattr(weight(m), "data_type", 77), "unknown element type"),
    "duplicate initializer": (lambda m: m.graph.initializer.append(weight(m)), "2 × initializer"),
    "duplicate output": (lambda m: m.graph.node.append(node("Relu", ["a"], ["b"])), "2 × node"),
    "undefined tensor": (lambda m: m.graph.node[1].input.__setitem__(0, "ghost"), "ghost"),
    "two undefined tensors": (
        nodes(node("Relu", ["ghost"], ["h"], "a"), node("Add", ["h", "spook"], ["y"], "b")),
        "2 faults",
    ),
    "undefined tensor in a subgraph": (
        in_subgraph(node("Relu", ["ghost"], ["inner"])), "undefined tensor"),
    "undefined output": (lambda m: setattr(m.graph.output[0], "name", "ghost"), "ghost"),
    "cycle": (lambda m: m.graph.node[0].input.__setitem__(0, "e"), "form a cycle"),
    "cycle of three": (
        nodes(
            node("Add", ["x", "c"], ["a"], "first"),
            node("Relu", ["a"], ["b"], "second"),
            node("Relu", ["b"], ["c"], "third"),
            node("Relu", ["c"], ["y"]),
        ),
        "first -> a, second -> b, third -> c, and back",
    ),
    "cycle in a subgraph": (
        in_subgraph(node("Relu", ["q"], ["inner"], "p"), node("Relu", ["inner"], ["q"], "o")),
        "form a cycle",
    ),
    "self loop": (lambda m: m.graph.node[1].input.__setitem__(0, "b"), "form a cycle"),
    "function circle": (function_circle, "functions call each other"),
    "tensor in segments": (lambda m: weight(m).segment.SetInParent(), "stored in segments"),
    "no inputs": (lambda m: m.graph.ClearField("input"), "undefined tensor"),
}  # fmt: skip
table("broken", 3, BROKEN, changed)


def training(model: onnx.ModelProto) -> None:
    """A BatchNormalization that still learns."""
    flat_variance(model)
    ones = numpy_helper.from_array(np.ones(3, np.float32), "v")
    weight(model, "v").CopyFrom(ones)
    model.graph.node[1].attribute.append(helper.make_attribute("training_mode", 1))


UNSUPPORTED: dict[str, tuple[Change, str]] = {
    "unknown operator": (lambda m: setattr(m.graph.node[1], "op_type", "Frob"), "Frob"),
    "three unknown operators": (
        lambda m: [setattr(m.graph.node[i], "op_type", f"Frob{i}") for i in (1, 4, 5)],
        "Frob5",
    ),
    "custom domain": (lambda m: setattr(m.graph.node[1], "domain", "evil.corp"), "evil.corp"),
    "endless loop": (endless_loop, "Loop"),
    "nothing spikes": (lambda m: [m.graph.node[i].CopyFrom(
        node("Identity", list(m.graph.node[i].input), list(m.graph.node[i].output), f"i{i}"))
        for i in (1, 2, 4)], "--allow-analog"),
    "training mode": (training, "training mode"),
}  # fmt: skip
table("unsupported", 4, UNSUPPORTED, changed)

WRONG_NUMBERS: dict[str, tuple[Change, str]] = {
    "stride zero": (attribute("conv1", "strides", [0, 0]), ""),
    "stride negative": (attribute("conv1", "strides", [-1, -1]), ""),
    "stride of 2^62": (attribute("conv1", "strides", [2**62, 2**62]), ""),
    "dilation zero": (attribute("conv1", "dilations", [0, 0]), ""),
    "group zero": (attribute("conv1", "group", 0), ""),
    "group negative": (attribute("conv1", "group", -1), ""),
    "pads of 2^40": (attribute("conv1", "pads", [2**40] * 4), ""),
    "negative pads": (attribute("conv1", "pads", [-9] * 4), ""),
    "pads of the wrong length": (attribute("conv1", "pads", [1, 1, 1]), ""),
    "pool kernel zero": (attribute("pool", "kernel_shape", [0, 0]), ""),
    "pool kernel of 2^40": (attribute("pool", "kernel_shape", [2**40, 2**40]), ""),
    "pool stride zero": (attribute("pool", "strides", [0, 0]), ""),
    "auto_pad nonsense": (attribute("pool", "auto_pad", "SOMEHOW"), ""),
    "attribute of the wrong type": (attribute("pool", "kernel_shape", "two"), ""),
    "input of 2^31": (input_sizes("N", 1, 2**31, 2**31), ""),
    "input size zero": (input_sizes("N", 1, 0, 0), ""),
    "input size negative": (input_sizes("N", 1, -8, 8), ""),
    "input without rank": (lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"), ""),
    "input of strings": (
        lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", TensorProto.STRING),
        "",
    ),
    "input without type": (lambda m: m.graph.input[0].ClearField("type"), ""),
    "ConstantOfShape bomb": (constant_bomb("ConstantOfShape"), ""),
    "Expand bomb": (constant_bomb("Expand"), ""),
    "Tile bomb": (constant_bomb("Tile"), ""),
    "function doubling": (function_doubling, ""),
    "function over a standard operator": (function_over_standard, ""),
    "axis out of range": (attribute("flatten", "axis", 77), ""),
}
table("numbers", -1, WRONG_NUMBERS, changed)

# found when the network first runs: shape inference of onnx does not look at these
UNFIT: dict[str, tuple[Change, str]] = {
    "kernel_shape that lies": (attribute("conv1", "kernel_shape", [7, 7]), ""),
    "channels that lie": (input_sizes("N", 2, 8, 8), ""),
    "Gemm that does not fit": (dims(1, 3, 3, 3), ""),
}
table("unfit", 3, UNFIT, changed)

attack("broken: not UTF-8", 3, "636ff66e31", renamed_bytes(b"conv1", b"co\xf6n1"))
attack("broken: nested subgraphs", 3, "damaged", lambda folder: convert(folder, nested(60)))


def _folder(folder: Path) -> Sequence[Any]:
    (folder / "model.onnx").mkdir(exist_ok=True)
    return ["convert", folder / "model.onnx"]


def _saved_model(folder: Path) -> Sequence[Any]:
    (folder / "saved").mkdir(exist_ok=True)
    put(folder / "saved" / "saved_model.pb", b"\x08\x01")
    return ["convert", folder / "saved", "-o", folder / "out.onnx"]


def _pipe(folder: Path) -> Sequence[Any]:
    if not (folder / "model.onnx").exists():
        os.mkfifo(folder / "model.onnx")
    return ["convert", folder / "model.onnx"]


def _loop(folder: Path) -> Sequence[Any]:
    link = folder / "model.onnx"
    if not link.is_symlink():
        link.symlink_to(link)
    return ["convert", link]


attack("path: a folder", 3, "is a folder", _folder)
attack("path: a SavedModel", 3, "--saved-model", _saved_model)
attack("path: a pipe", 3, "named pipe", _pipe)
attack("path: /dev/zero", 3, "device", lambda f: ["convert", "/dev/zero", "-o", f / "out.onnx"])
attack("path: /dev/null", 3, "device", lambda f: ["convert", "/dev/null", "-o", f / "out.onnx"])
attack("path: a link to itself", 3, "", _loop)
attack("path: missing", 3, "no file", lambda f: ["convert", f / "none.onnx"])
attack("path: below a file", 3, "", lambda f: ["convert", put(f / "a", b"x") / "b.onnx"])
attack("path: a NUL in the name", 3, "", lambda f: ["convert", "a\0b.onnx"])
attack("path: 5,000 letters", 3, "", lambda f: ["convert", "a" * 5000])
attack("path: control codes", 3, "\\x1b[31m", lambda f: ["convert", f / "\x1b[31mred.onnx"])
