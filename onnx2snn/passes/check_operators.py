"""What no later pass can do anything with, found before anything is executed."""

import onnx
import onnx_ir as ir

from onnx2snn.passes.base import Pass
from onnx2snn.passes.graph import is_op, label
from onnx2snn_runtime.errors import Finding, UnsupportedError


class CheckOperators(Pass):
    """Every operator is a standard one, and none computes statistics of its batch."""

    name = "check-operators"

    def run(self, model: ir.Model) -> ir.Model:
        """Refuse with all nodes that stand in the way."""
        opset = model.graph.opset_imports[""]
        findings = []
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            why, advice = self.problem(node, opset)
            if why:
                findings.append(Finding(why, advice, node=label(node), op=node.op_type))
        if findings:
            count = f"{len(findings)} operator{'s' if len(findings) > 1 else ''}"
            raise UnsupportedError(f"{count} cannot be converted", findings)
        return model

    @staticmethod
    def problem(node: ir.Node, opset: int) -> tuple[str, str]:
        """What is wrong with one node and what to do; empty strings where nothing is."""
        if node.domain not in ("", "ai.onnx"):
            return (
                f"unknown operator domain {node.domain!r}",
                "express it in standard operators or as an ONNX function",
            )
        try:
            onnx.defs.get_schema(node.op_type, opset, "")
        except onnx.defs.SchemaError:
            return f"no operator of operator set {opset}", "check the name, or update onnx"
        if is_op(node, "BatchNormalization") and node.attributes.get_int("training_mode", 0) == 1:
            return "BatchNormalization in training mode", "export after model.eval()"
        return "", ""
