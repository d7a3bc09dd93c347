"""Executing parts of a model at two batch sizes to learn what depends on the batch.

A value is *moving* if it depends on the numbers fed to the model, *static* if only on constants and
on shapes. What a static value is at N = 2 and N = 3 tells how it depends on N.
"""

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir

from onnx2snn.passes.base import Array, Run, as_array
from onnx2snn.passes.graph import BATCH, dims, is_op, label
from onnx2snn.passes.protos import to_proto

PROBES = (2, 3)
SEED = 20260101


def feeds(model: ir.Model, batch: int, seed: int = SEED) -> dict[str, Array]:
    """Random inputs: normal floats, small integers, booleans; row i never depends on ``batch``."""
    result = {}
    for position, value in enumerate(model.graph.inputs):
        shape = [batch if dim == BATCH else dim for dim in dims(value) or []]
        rows = shape[0] if shape else 1
        sizes = tuple(int(dim or 1) for dim in shape[1:])
        kind = value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)
        drawn: list[Array] = []
        for row in range(int(rows or 1)):
            generator = np.random.default_rng([seed, position, row])
            if np.issubdtype(kind, np.floating):
                drawn.append(generator.standard_normal(sizes))
            else:
                drawn.append(generator.integers(0, 2, sizes))
        result[label(value)] = np.stack(drawn).astype(kind).reshape([int(d or 1) for d in shape])
    return result


def moving_values(graph: ir.Graph) -> set[ir.Value]:
    """All values that depend on what is fed."""
    moving = set(graph.inputs)
    for node in graph:
        if is_op(node, "Shape", "Size"):
            continue
        random = is_op(node, *RANDOM)
        if random or any(value in moving for value in sources(node)):
            moving.update(node.outputs)
    return moving


RANDOM = (
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli",
    "Multinomial",
)  # fmt: skip


def sources(node: ir.Node) -> list[ir.Value]:
    """What the node reads, with what its subgraphs read from outside."""
    found = [value for value in node.inputs if value is not None]
    for attribute in node.attributes.values():
        if isinstance(attribute, ir.Attr) and attribute.type == ir.AttributeType.GRAPH:
            for inner in ir.traversal.RecursiveGraphIterator(attribute.as_graph()):
                found.extend(value for value in inner.inputs if value is not None)
            found.extend(attribute.as_graph().outputs)
    return found


def exposing(model: ir.Model, wanted: Sequence[ir.Value]) -> onnx.ModelProto:
    """The part of the model that computes these values, with them as outputs."""
    needed = {label(value) for value in wanted}
    proto = to_proto(model)
    graph = proto.graph
    for position in reversed(range(len(graph.node))):
        node = graph.node[position]
        if needed.intersection(node.output):
            needed.update(node.input)
            needed.update(_captured(node))
        else:
            del graph.node[position]
    for position in reversed(range(len(graph.initializer))):
        if graph.initializer[position].name not in needed:
            del graph.initializer[position]
    del graph.output[:]
    del graph.value_info[:]
    for value in wanted:
        output = graph.output.add()
        output.name = label(value)
        if value.dtype is not None:
            output.type.tensor_type.elem_type = int(value.dtype)
    return proto


def _captured(node: onnx.NodeProto) -> set[str]:
    found: set[str] = set()
    for attribute in node.attribute:
        if attribute.HasField("g"):
            found.update(output.name for output in attribute.g.output)
            for inner in attribute.g.node:
                found.update(inner.input)
                found.update(_captured(inner))
    return found


def probe(run: Run, model: ir.Model, wanted: Sequence[ir.Value]) -> list[tuple[Array, ...]]:
    """Each wanted value at N = 2 and N = 3."""
    if not wanted:
        return []
    runner = run(exposing(model, wanted))
    results = [runner(feeds(model, batch)) for batch in PROBES]
    return [tuple(as_array(result[label(value)]) for result in results) for value in wanted]
