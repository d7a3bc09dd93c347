"""Models that read and write tensors in channel blocks, for onnxruntime on a CPU.

onnxruntime itself convolves in blocks and rearranges what goes in and out. Where a tensor shall lie
in blocks outside too, a pooling over single pixels is put there as a door: onnxruntime's optimiser
moves the door into the blocked part, and door and rearrangement are then taken off together.
"""

import tempfile
from collections.abc import Collection
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnx2snn_runtime.errors import BackendError
from onnx2snn_runtime.nodes import attributes_of
from onnx2snn_runtime.planning.blocks import NotBlockedError

BLOCKED_DOMAIN = "com.microsoft.nchwc"
PROBE_CHANNELS = 64
DOOR = ".door"


@cache
def channel_block() -> int:
    """Channels of a block on this machine; 1 where onnxruntime has no blocked layout."""
    import onnxruntime

    shape: list[str | int | None] = ["N", PROBE_CHANNELS, 1, 2]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "probe", [value], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    try:
        blocked = with_blocks(model, {"y"})
    except BackendError:
        return 1
    session = onnxruntime.InferenceSession(
        blocked.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    channels_first = np.arange(2 * PROBE_CHANNELS, dtype=np.float32)
    (moved,) = session.run(None, {"x": channels_first.reshape(1, PROBE_CHANNELS, 1, 2)})
    # the second pixel of the first channel follows the first pixel of the whole block
    return int(np.flatnonzero(moved.reshape(-1) == 1)[0])


def with_blocks(model: onnx.ModelProto, names: Collection[str]) -> onnx.ModelProto:
    """The model with those of its inputs and outputs that are in ``names`` in channel blocks."""
    at_border = {value.name for value in (*model.graph.input, *model.graph.output)}
    chosen = at_border & set(names)
    if not chosen:
        return model
    return _without_doors(_optimised(_with_doors(model, chosen)), chosen)


def _with_doors(model: onnx.ModelProto, chosen: set[str]) -> onnx.ModelProto:
    """Every chosen border tensor behind a pooling over single pixels."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    nodes = list(graph.node)
    inner = {name: name + DOOR for name in chosen}
    for node in nodes:
        for names in (node.input, node.output):
            names[:] = [inner.get(name, name) for name in names]

    def door(source: str, target: str) -> onnx.NodeProto:
        name = f"{target}{DOOR}"  # node names are a namespace of their own
        return helper.make_node("MaxPool", [source], [target], name, kernel_shape=[1, 1])

    first = [door(v.name, inner[v.name]) for v in graph.input if v.name in chosen]
    last = [door(inner[v.name], v.name) for v in graph.output if v.name in chosen]
    del graph.node[:]
    graph.node.extend([*first, *nodes, *last])
    return result


def _optimised(model: onnx.ModelProto) -> onnx.ModelProto:
    """What onnxruntime makes of the model on this machine."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        options.optimized_model_filepath = str(file)
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return onnx.load(file)


def _without_doors(model: onnx.ModelProto, chosen: set[str]) -> onnx.ModelProto:
    """Doors and the rearrangements outside them taken off.

    Raises:
        NotBlockedError: onnxruntime has left a door outside the blocked part.
    """
    graph = model.graph
    nodes = list(graph.node)
    makers = {name: node for node in nodes for name in node.output}
    inputs = chosen & {value.name for value in graph.input}
    renamed: dict[str, str] = {}
    removed: set[int] = set()  # by identity: the list above keeps the nodes alive
    opened: set[str] = set()
    for door in (node for node in nodes if _is_door(node)):
        before = makers.get(door.input[0])
        if before and before.op_type == "ReorderInput" and before.input[0] in inputs:
            renamed[door.output[0]] = before.input[0]
            removed |= {id(before), id(door)}
            opened.add(before.input[0])
    for name in chosen - inputs:
        last = makers[name]
        door = makers[last.input[0]]
        if last.op_type != "ReorderOutput" or not _is_door(door):
            continue
        if door.input[0] in renamed:  # nothing but doors on the way: one of them stays
            renamed[door.output[0]] = name
            removed.add(id(last))
        else:
            renamed[door.input[0]] = name
            removed |= {id(door), id(last)}
        opened.add(name)
    if opened != chosen:
        raise NotBlockedError(chosen - opened)
    kept = [node for node in nodes if id(node) not in removed]
    for node in kept:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    del graph.node[:]
    graph.node.extend(kept)
    return model


def _is_door(node: onnx.NodeProto) -> bool:
    if node.domain != BLOCKED_DOMAIN or node.op_type != "MaxPool":
        return False
    attributes = attributes_of(node)
    return list(attributes.get("kernel_shape", ())) == [1, 1]
