"""Attributes that libraries do not survive: windows of size zero, strides of zero, absurd sizes.

onnxruntime and shape inference divide by strides and loop over kernels before they doubt them.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Literal

import onnx
from onnx import AttributeProto, NodeProto

from onnx2snn_runtime.errors import Finding
from onnx2snn_runtime.files.disk import shown

MAX_SIZE = 65_535  # of a kernel, stride, dilation, padding along one axis
MAX_WINDOW = 2**24  # elements of one kernel
MAX_GROUPS = 2**20
MAX_INPUT_ELEMENTS = 2**30
MAX_EXPANDED_NODES = 1_000_000
_MESSAGES: dict[int, Literal["t", "g", "sparse_tensor", "tp"]] = {
    AttributeProto.TENSOR: "t",
    AttributeProto.GRAPH: "g",
    AttributeProto.SPARSE_TENSOR: "sparse_tensor",
    AttributeProto.TYPE_PROTO: "tp",
}
_AUTO_PAD = (b"NOTSET", b"SAME_UPPER", b"SAME_LOWER", b"VALID")
_ADVICE = "the file is damaged: export it again"
_SIZES = {"kernel_shape": 1, "strides": 1, "dilations": 1, "pads": 0, "output_padding": 0}
_WINDOWED = frozenset(
    (
        "AveragePool", "Conv", "ConvInteger", "ConvTranspose", "DeformConv", "LpPool", "MaxPool",
        "MaxUnpool", "QLinearConv", "LIPool",
    )
)  # fmt: skip


def attribute_findings(model: onnx.ModelProto) -> list[Finding]:
    """Windows of convolutions and poolings that cannot be, in the whole model."""
    findings: list[Finding] = []
    for nodes in (model.graph.node, *(function.node for function in model.functions)):
        for node in _with_subgraphs(nodes):
            findings += _twice(node)
            findings += _empty(node)
            if node.op_type in _WINDOWED:
                findings += _window_findings(node)
    return findings


def _with_subgraphs(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _with_subgraphs(graph.node)


OPEN = -1  # what some writers say of a size that is open


def _at(node: NodeProto, why: str) -> Finding:
    return Finding(why, _ADVICE, shown(node.name), shown(node.op_type))


def _twice(node: NodeProto) -> Iterator[Finding]:
    names = [attribute.name for attribute in node.attribute]
    if len(set(names)) < len(names):
        yield _at(node, "an attribute is stated twice")


def input_findings(model: onnx.ModelProto) -> Iterator[Finding]:
    """Inputs whose sizes no machine could hold, or that are below zero."""
    for value in model.graph.input:
        sizes = [
            size.dim_value
            for size in value.type.tensor_type.shape.dim
            if size.HasField("dim_value") and size.dim_value != OPEN
        ]
        if any(size < 0 for size in sizes):
            yield Finding(
                f"an input with a negative size: {sizes}", _ADVICE, tensor=shown(value.name)
            )
        elif math.prod(sizes) > MAX_INPUT_ELEMENTS:
            why = f"an input of {math.prod(sizes):,} elements; the limit is {MAX_INPUT_ELEMENTS:,}"
            yield Finding(why, tensor=shown(value.name))


def expansion_findings(model: onnx.ModelProto) -> list[Finding]:
    """Functions that call functions that …: so many nodes that no memory holds them.

    Args:
        model: its functions must not call each other in a circle.
    """
    bodies = {(item.domain, item.name): item.node for item in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Iterable[NodeProto]) -> int:
        total = 0
        for node in _with_subgraphs(nodes):
            key = (node.domain, node.op_type)
            if key in bodies and key not in sizes:
                sizes[key] = size(bodies[key])
            total = min(total + sizes.get(key, 1), MAX_EXPANDED_NODES + 1)
        return total

    try:
        is_large = size(model.graph.node) > MAX_EXPANDED_NODES
    except RecursionError:
        is_large = True
    if is_large:
        return [
            Finding(f"more than {MAX_EXPANDED_NODES:,} nodes when its functions are written out")
        ]
    return []


def _empty(node: NodeProto) -> Iterator[Finding]:
    for attribute in node.attribute:
        field = _MESSAGES.get(attribute.type)
        if field and not attribute.ref_attr_name and not attribute.HasField(field):
            yield _at(node, f"the attribute {shown(attribute.name, 60)} holds nothing")


def _window_findings(node: NodeProto) -> Iterator[Finding]:
    counts = {
        attribute.name: len(attribute.ints) // (2 if attribute.name == "pads" else 1)
        for attribute in node.attribute
        if attribute.name in _SIZES and attribute.ints
    }
    if len(set(counts.values())) > 1 or any(
        attribute.name == "pads" and len(attribute.ints) % 2 for attribute in node.attribute
    ):
        yield _at(node, "kernel, strides, dilations and pads are for different numbers of axes")
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            continue
        if attribute.name == "group":
            is_number = attribute.type == AttributeProto.INT
            if not is_number or not 1 <= attribute.i <= MAX_GROUPS:
                yield _at(node, f"group must lie in 1..{MAX_GROUPS:,}, found {attribute.i}")
        elif attribute.name == "auto_pad" and attribute.s not in _AUTO_PAD:
            yield _at(node, f"unknown auto_pad {shown(attribute.s, 40)}")
        elif attribute.name in _SIZES:
            yield from _size_findings(node, attribute, _SIZES[attribute.name])


def _size_findings(node: NodeProto, attribute: AttributeProto, lowest: int) -> Iterator[Finding]:
    sizes, name = list(attribute.ints), attribute.name
    if attribute.type != AttributeProto.INTS:
        yield _at(node, f"{name} must be a list of whole numbers")
    elif any(not lowest <= size <= MAX_SIZE for size in sizes):
        yield _at(node, f"{name} must lie in {lowest}..{MAX_SIZE}, found {sizes[:12]}")
    elif name == "kernel_shape" and math.prod(sizes) > MAX_WINDOW:
        yield _at(node, f"a kernel of {math.prod(sizes):,} elements; the limit is {MAX_WINDOW:,}")
