"""Inputs of whole numbers, which a file takes as its source does, and casts at once.

Here they are computed with as floats: what reads them are casts, and of floats these do nothing.
"""

from collections.abc import Mapping

import onnx
from onnx import TensorProto, helper

from onnx2snn_runtime.format import NEXT
from onnx2snn_runtime.naming import free_name

WHOLE = (
    TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT16, TensorProto.INT16,
    TensorProto.UINT32, TensorProto.INT32, TensorProto.UINT64, TensorProto.INT64,
)  # fmt: skip


def whole_inputs(model: onnx.ModelProto) -> dict[str, int]:
    """Inputs of whole numbers that only casts to float32 read, with their types; no states."""
    following = {value.name for value in model.graph.output}
    found = {
        value.name: value.type.tensor_type.elem_type
        for value in model.graph.input
        if value.type.tensor_type.elem_type in WHOLE and value.name + NEXT not in following
    }
    others = {
        name for node in model.graph.node for name in node.input
        if not (node.op_type == "Cast" and any(a.i == TensorProto.FLOAT for a in node.attribute))
    }  # fmt: skip
    return {name: kind for name, kind in found.items() if name not in others | following}


def with_float_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """A network whose inputs are float32: itself, or a copy."""
    whole = whole_inputs(model)
    if not whole:
        return model
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for value in changed.graph.input:
        if value.name in whole:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return changed


def take_whole(model: onnx.ModelProto, kinds: Mapping[str, int]) -> None:
    """Let inputs take whole numbers of these types, and cast them; the model is changed."""
    graph = model.graph
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken.update(node.name for node in graph.node)
    casts = []
    for value in graph.input:
        if value.name not in kinds:
            continue
        cast = free_name(f"{value.name}.float", taken.__contains__)
        for node in graph.node:
            node.input[:] = [cast if name == value.name else name for name in node.input]
        stated = graph.value_info.add()
        stated.CopyFrom(value)
        stated.name = cast
        value.type.tensor_type.elem_type = kinds[value.name]
        casts.append(helper.make_node("Cast", [value.name], [cast], cast, to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
