"""The spiking file stepped by plain onnxruntime, and its pooling replaced by rules of others."""

from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

Array = NDArray[np.float32]
NEXT = ".next"
GEOMETRY = ("kernel_shape", "strides", "pads", "dilations", "ceil_mode")


def steps(model: onnx.ModelProto, images: Array, last: int) -> Iterator[dict[str, Array]]:
    """All outputs and states (by their names) after each step, from zero states."""
    session = onnxruntime.InferenceSession(model.SerializeToString())
    outputs = [value.name for value in session.get_outputs()]
    feeds: dict[str, Array] = {}
    for value in session.get_inputs():
        if value.name + NEXT in outputs:
            shape = [size if isinstance(size, int) else len(images) for size in value.shape]
            kind = np.int64 if "int64" in value.type else np.float32
            feeds[value.name] = np.zeros(shape, kind)
        else:
            feeds[value.name] = images
    for _ in range(last):
        results = dict(zip(outputs, session.run(outputs, feeds), strict=True))
        feeds.update({name: results[name + NEXT] for name in feeds if name + NEXT in results})
        yield {name.removesuffix(NEXT): value for name, value in results.items()}


def neurons(model: onnx.ModelProto) -> dict[str, NodeProto]:
    """The BurstIF nodes by the name of the tensor that they send."""
    return {n.output[0]: n for n in model.graph.node if n.op_type.startswith("BurstIF")}


def membrane(model: onnx.ModelProto, node: NodeProto, values: dict[str, Array]) -> Array:
    """V / θ of a neuron layer of rectifiers, v0 = 0: what was received less what was sent."""
    _, threshold, received, sent = node.input
    arrays = {item.name: item for item in model.graph.initializer}
    return values[received] / numpy_helper.to_array(arrays[threshold]) - values[sent]


def with_pooling(model: onnx.ModelProto, rule: str) -> onnx.ModelProto:
    """The network with another rule for its 2-D MaxPools.

    Args:
        model: a network of recipe ``paper``.
        rule: ``spike max``: the largest spike of the step. ``gate``: of each window the spike of
            the neuron that has sent most so far (Rueckauer et al. 2017). ``lateral inhibition``:
            as it is (Li & Zeng 2022).
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    nodes: list[NodeProto] = []
    for node in changed.graph.node:
        if not node.op_type.startswith("LIPool") or rule == "lateral inhibition":
            nodes.append(node)
            continue
        geometry = [attribute for attribute in node.attribute if attribute.name in GEOMETRY]
        x, total, held = node.input
        y, total_next, held_next = node.output
        if rule == "spike max":
            nodes += [
                helper.make_node("MaxPool", [x], [y]),
                helper.make_node("Identity", [total], [total_next]),
            ]
            nodes[-2].attribute.extend(geometry)
        else:
            winner = f"{y}.winner"
            nodes += [
                helper.make_node("Add", [x, total], [total_next]),
                helper.make_node("MaxPool", [total_next], [f"{y}.most", winner]),
                helper.make_node("Reshape", [x, "flat"], [f"{y}.flat"]),
                helper.make_node("Gather", [f"{y}.flat", winner], [y]),
            ]
            nodes[-3].attribute.extend(geometry)
        nodes.append(helper.make_node("Identity", [held], [held_next]))
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    if rule == "gate":
        changed.graph.initializer.append(numpy_helper.from_array(np.array([-1]), "flat"))
    return changed
