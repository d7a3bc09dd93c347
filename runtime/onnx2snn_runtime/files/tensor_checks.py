"""Checks of stored tensors: sizes before values, all in integers that cannot overflow."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto

from onnx2snn_runtime.errors import Finding
from onnx2snn_runtime.files.beside import array_of, is_beside
from onnx2snn_runtime.files.disk import shown

MAX_ELEMENTS = 2**40
_PIECE = 2**22  # values that are looked at together

# Bits per element in raw_data; strings have no raw form.
_BITS: dict[int, int] = {
    int(TensorProto.DataType.Value(name)): bits
    for bits, names in {
        2: ("UINT2", "INT2"),
        4: ("UINT4", "INT4", "FLOAT4E2M1"),
        8: (
            "UINT8",
            "INT8",
            "BOOL",
            "FLOAT8E4M3FN",
            "FLOAT8E4M3FNUZ",
            "FLOAT8E5M2",
            "FLOAT8E5M2FNUZ",
            "FLOAT8E8M0",
        ),
        16: ("UINT16", "INT16", "FLOAT16", "BFLOAT16"),
        32: ("FLOAT", "INT32", "UINT32"),
        64: ("DOUBLE", "INT64", "UINT64", "COMPLEX64"),
        128: ("COMPLEX128",),
    }.items()
    for name in names
    if name in TensorProto.DataType.keys()  # noqa: SIM118 - an enum wrapper, no dictionary
}
_FLOATING = frozenset(
    (
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
        TensorProto.DOUBLE,
        TensorProto.BFLOAT16,
        TensorProto.COMPLEX64,
        TensorProto.COMPLEX128,
    )
)
_TYPED_FIELDS: dict[int, str] = {
    int(TensorProto.FLOAT): "float_data",
    int(TensorProto.COMPLEX64): "float_data",
    int(TensorProto.DOUBLE): "double_data",
    int(TensorProto.COMPLEX128): "double_data",
    int(TensorProto.INT64): "int64_data",
    int(TensorProto.UINT32): "uint64_data",
    int(TensorProto.UINT64): "uint64_data",
    int(TensorProto.STRING): "string_data",
}
# A lone infinity is a bound or a filler here, not a weight.
_INFINITY_IS_A_BOUND = frozenset(
    {"Clip", "Pad", "Min", "Max", "Where", "ConstantOfShape", "Expand", "Equal", "Less", "Greater"}
)


def element_count(tensor: TensorProto) -> int:
    """Number of elements that the dimensions promise."""
    return math.prod(tensor.dims)


def byte_count(tensor: TensorProto) -> int:
    """Bytes of the raw form; 0 for types without one."""
    return -(-element_count(tensor) * _BITS.get(tensor.data_type, 0) // 8)


def is_external(tensor: TensorProto) -> bool:
    """Whether the values lie in another file."""
    return tensor.data_location == TensorProto.EXTERNAL


def is_elsewhere(tensor: TensorProto) -> bool:
    """Whether the values lie in a file that was not read."""
    return is_external(tensor) and not is_beside(tensor)


def type_name(data_type: int) -> str:
    """Name of an ONNX element type, or its number if there is none."""
    names: dict[int, str] = {int(value): name for name, value in TensorProto.DataType.items()}
    return names.get(data_type, f"type {data_type}")


class Stored(NamedTuple):
    """A tensor in a model, and where it is."""

    tensor: TensorProto
    place: Finding
    is_sparse: bool = False


def all_tensors(model: onnx.ModelProto) -> Iterator[Stored]:
    """Every stored tensor of a model with its place, subgraphs and functions included."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        yield from _node_tensors(function)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[Stored]:
    for tensor in graph.initializer:
        yield Stored(tensor, Finding("", tensor=shown(tensor.name)))
    for sparse in graph.sparse_initializer:
        yield from _sparse(sparse, Finding("", tensor=shown(sparse.values.name)))
    yield from _node_tensors(graph)


def _sparse(sparse: onnx.SparseTensorProto, place: Finding) -> Iterator[Stored]:
    yield Stored(sparse.values, place, is_sparse=True)
    yield Stored(sparse.indices, place, is_sparse=True)


def _node_tensors(holder: onnx.GraphProto | onnx.FunctionProto) -> Iterator[Stored]:
    for node in holder.node:
        for attribute in node.attribute:
            yield from _attribute_tensors(node, attribute)


def _attribute_tensors(node: onnx.NodeProto, attribute: AttributeProto) -> Iterator[Stored]:
    name = node.output[0] if node.op_type == "Constant" and node.output else attribute.name
    place = Finding("", node=shown(node.name), op=shown(node.op_type), tensor=shown(name))
    if attribute.HasField("t"):
        yield Stored(attribute.t, place)
    for tensor in attribute.tensors:
        yield Stored(tensor, place)
    if attribute.HasField("sparse_tensor"):
        yield from _sparse(attribute.sparse_tensor, place)
    for sparse in attribute.sparse_tensors:
        yield from _sparse(sparse, place)
    if attribute.HasField("g"):
        yield from _graph_tensors(attribute.g)
    for graph in attribute.graphs:
        yield from _graph_tensors(graph)


def at(place: Finding, why: str, advice: str = "") -> Finding:
    """A finding at a known place."""
    return Finding(why, advice, place.node, place.op, place.tensor)


def tensor_findings(tensor: TensorProto, place: Finding) -> Iterator[Finding]:
    """Dimensions, type and stored values that do not belong together."""
    dims = list(tensor.dims)
    kind = type_name(tensor.data_type)
    if tensor.data_type != TensorProto.STRING and tensor.data_type not in _BITS:
        yield at(place, f"unknown element type {kind}", "export with a newer exporter")
        return
    if any(size < 0 for size in dims):
        yield at(place, f"negative dimension in {dims}", "export the model again")
        return
    if tensor.HasField("segment"):
        yield at(place, "a tensor stored in segments, which nothing writes", "export it again")
        return
    count = element_count(tensor)
    if count > MAX_ELEMENTS:
        yield at(place, f"dimensions {dims} mean {count:,} elements: more than can be stored")
        return
    if is_external(tensor):
        return
    if tensor.HasField("raw_data"):
        found, expected = len(tensor.raw_data), byte_count(tensor)
        if tensor.data_type == TensorProto.STRING:
            yield at(place, "strings cannot be stored as raw data")
        elif found != expected:
            yield at(
                place,
                f"dimensions {dims} of {kind} need {expected:,} bytes, the file holds {found:,}",
                "the file is damaged: export or download it again",
            )
        return
    field = _TYPED_FIELDS.get(tensor.data_type, "int32_data")
    found = len(getattr(tensor, field))
    per_value = 2 if tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128) else 1
    bits = _BITS.get(tensor.data_type, 8)
    expected = count * per_value if bits >= 8 else -(-count * bits // 8)
    if found != expected:
        yield at(
            place,
            f"dimensions {dims} of {kind} need {expected:,} values, the file holds {found:,}",
            "the file is damaged: export or download it again",
        )


def _bounds(graph: onnx.GraphProto) -> set[str]:
    """Names of tensors that are used only where an infinity is a bound."""
    good: set[str] = set()
    bad = {value.name for value in graph.output}
    for node in graph.node:
        (good if node.op_type in _INFINITY_IS_A_BOUND else bad).update(node.input)
    return good - bad


def value_findings(model: onnx.ModelProto) -> list[Finding]:
    """NaN and infinity in stored tensors, each tensor with its counts."""
    findings = []
    bounds = _bounds(model.graph)
    for tensor, place, _ in all_tensors(model):
        if tensor.data_type not in _FLOATING or is_elsewhere(tensor):
            continue
        values = array_of(tensor)
        nan, infinite = _not_finite(values)
        if not nan and not infinite:
            continue
        is_bound = values.size == 1 and (place.op in _INFINITY_IS_A_BOUND or place.tensor in bounds)
        if nan or not is_bound:
            findings.append(
                at(
                    place,
                    f"{nan} NaN and {infinite} infinite of {values.size:,} values",
                    "the training diverged or the export is damaged: use an earlier checkpoint",
                )
            )
    return findings


def _not_finite(values: NDArray[Any]) -> tuple[int, int]:
    """How many values are NaN, and how many infinite; looked at piece by piece."""
    flat, nan, infinite = values.reshape(-1), 0, 0
    for start in range(0, flat.size, _PIECE):
        part = flat[start : start + _PIECE]
        if part.dtype.kind not in "fc":  # bfloat16 comes as a type of its own
            part = part.astype(np.float32)
        finite = np.isfinite(part)
        if not finite.all():
            found = int(np.count_nonzero(np.isnan(part)))
            nan += found
            infinite += part.size - int(np.count_nonzero(finite)) - found
    return nan, infinite


def variance_findings(model: onnx.ModelProto) -> list[Finding]:
    """BatchNormalization whose variance plus epsilon is not positive."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    findings = []
    for node in model.graph.node:
        if node.op_type != "BatchNormalization" or len(node.input) < 5:
            continue
        tensor = stored.get(node.input[4])
        if tensor is None or tensor.data_type not in _FLOATING or is_elsewhere(tensor):
            continue
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        bad = int(np.count_nonzero(array_of(tensor).astype(np.float64) + epsilon <= 0))
        if bad:
            findings.append(
                Finding(
                    f"variance + epsilon ({epsilon:g}) is not positive in {bad} of "
                    f"{element_count(tensor)} channels: the outputs would be infinite or NaN",
                    "use another checkpoint",
                    shown(node.name),
                    node.op_type,
                    shown(tensor.name),
                )
            )
    return findings
