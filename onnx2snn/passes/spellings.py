"""One spelling for linear operators that files write in several ways."""

import onnx_ir as ir

from onnx2snn.passes.base import Pass
from onnx2snn.passes.graph import (
    constant,
    dims,
    fresh_name,
    graph_of,
    input_at,
    is_op,
    label,
    substitute,
)


class LinearSpellings(Pass):
    """MatMul of rank 2 by weights = Gemm; ReduceMean over all of space = GlobalAveragePool.

    ReduceMean without keepdims is GlobalAveragePool and Flatten.
    """

    name = "linear-spellings"

    def run(self, model: ir.Model) -> ir.Model:
        """Rewrite in place."""
        for node in list(model.graph):
            if is_op(node, "MatMul"):
                self.matmul(node)
            elif is_op(node, "ReduceMean"):
                self.mean(node)
        return model

    def matmul(self, node: ir.Node) -> None:
        """x @ W is Gemm(x, W)."""
        weight = constant(node.inputs[1])
        rank = len(dims(node.inputs[0]) or [])
        if weight is None:
            return
        if rank != 2 or weight.ndim != 2:
            self.note(node.name, f"MatMul {label(node)} is no Gemm: its input has rank {rank}")
            return
        substitute(node, "Gemm", [node.inputs[0], node.inputs[1]])

    def mean(self, node: ir.Node) -> None:
        """A mean over all spatial axes pools globally."""
        axes = constant(input_at(node, 1))
        source = node.inputs[0]
        shape = dims(source) or []
        if axes is None or source is None or len(shape) < 3:
            return
        found = sorted(int(axis) % len(shape) for axis in axes.reshape(-1))
        if found != list(range(2, len(shape))):
            return
        if node.attributes.get_int("keepdims", 1):
            substitute(node, "GlobalAveragePool", [source])
            return
        graph = graph_of(node)
        pooled = ir.node("GlobalAveragePool", [source], name=f"{label(node)}.pool")
        output = pooled.outputs[0]
        output.name = fresh_name(graph, f"{label(node.outputs[0])}.pool")
        output.type = node.outputs[0].type
        output.shape = ir.Shape([*shape[:2], *[1] * (len(shape) - 2)])
        graph.insert_before(node, pooled)
        substitute(node, "Flatten", [output], {"axis": 1})
