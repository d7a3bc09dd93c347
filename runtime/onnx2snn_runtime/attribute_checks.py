"""Attributes that libraries do not survive: windows of size zero, strides of zero, absurd sizes.

onnxruntime and shape inference divide by strides and loop over kernels before they doubt them.
"""

import math
from collections.abc import Iterable, Iterator

import onnx
from onnx import AttributeProto, NodeProto

from onnx2snn_runtime.disk import shown
from onnx2snn_runtime.errors import Finding

MAX_SIZE = 65_535  # of a kernel, stride, dilation, padding along one axis
MAX_WINDOW = 2**24  # elements of one kernel
MAX_GROUPS = 2**20
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
            if node.op_type in _WINDOWED:
                findings += _window_findings(node)
    return findings


def _with_subgraphs(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _with_subgraphs(graph.node)


def _at(node: NodeProto, why: str) -> Finding:
    return Finding(why, _ADVICE, shown(node.name), shown(node.op_type))


def _twice(node: NodeProto) -> Iterator[Finding]:
    names = [attribute.name for attribute in node.attribute]
    if len(set(names)) < len(names):
        yield _at(node, "an attribute is stated twice")


def _window_findings(node: NodeProto) -> Iterator[Finding]:
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            continue
        if attribute.name == "group":
            is_number = attribute.type == AttributeProto.INT
            if not is_number or not 1 <= attribute.i <= MAX_GROUPS:
                yield _at(node, f"group must lie in 1..{MAX_GROUPS:,}, found {attribute.i}")
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
