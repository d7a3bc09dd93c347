"""Operators of a framework that an exporter leaves in the file, as ONNX has them."""

import numpy as np
import onnx_ir as ir

from onnx2snn.passes.base import Pass
from onnx2snn.passes.graph import add_constant, is_op, label, substitute


class FrameworkOperators(Pass):
    """Erfc(x) = 1 + Erf(−x): tf2onnx leaves TensorFlow's Erfc, as in every Gelu of Keras."""

    name = "framework-operators"

    def run(self, model: ir.Model) -> ir.Model:
        """Rewrite in place; ONNX has no operator of that name."""
        for node in list(model.graph):
            if is_op(node, "Erfc") and node.inputs[0] is not None:
                self.erfc(model.graph, node, node.inputs[0])
        return model

    def erfc(self, graph: ir.Graph, node: ir.Node, x: ir.Value) -> None:
        """Put the sum in the place of the node."""
        name = label(node.outputs[0])
        negative = ir.node("Neg", [x], name=f"{name}.negative")
        erf = ir.node("Erf", [negative.outputs[0]], name=f"{name}.erf")
        for step in (negative, erf):
            step.outputs[0].name = step.name
            step.outputs[0].type, step.outputs[0].shape = x.type, x.shape
            graph.insert_before(node, step)
        dtype = (x.dtype or ir.DataType.FLOAT).numpy()
        one = add_constant(graph, f"{name}.one", np.ones((), dtype))
        substitute(node, "Add", [one, erf.outputs[0]])
        self.note(node.name, f"{name} is Erfc, which ONNX lacks: 1 + Erf(-x)")
