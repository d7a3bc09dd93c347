"""What no later pass can do anything with, found before anything is executed."""

from collections.abc import Sequence

import onnx
import onnx_ir as ir

from onnx2snn.passes.base import Pass
from onnx2snn.passes.graph import label
from onnx2snn.passes.probe import moving_values
from onnx2snn_runtime.errors import Finding, UnsupportedError

RECURRENT = ("RNN", "LSTM", "GRU")
LOOPS = ("Loop", "Scan", "SequenceMap")
FOLDABLE = ("SplitToSequence", "SequenceConstruct", "SequenceAt", "ConcatFromSequence")
"""Sequence operators that constant folding removes where it can."""
WITHOUT_LOOPS = "export the model without data-dependent control flow"


class CheckOperators(Pass):
    """Every operator is a standard one that can be part of a spiking network.

    No control flow that depends on the data, no recurrence, no sequences or optional values, no
    indices of maxima, no statistics of the batch.
    """

    name = "check-operators"

    def run(self, model: ir.Model) -> ir.Model:
        """Refuse with all nodes that stand in the way."""
        opset = model.graph.opset_imports[""]
        moving = moving_values(model.graph)
        findings = []
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            why, advice = problem(node, opset, moving)
            if why:
                findings.append(Finding(why, advice, node=label(node), op=node.op_type))
        if findings:
            raise unsupported(findings)
        return model


def unsupported(findings: Sequence[Finding]) -> UnsupportedError:
    """The error that lists these nodes."""
    count = f"{len(findings)} operator{'s' if len(findings) > 1 else ''}"
    return UnsupportedError(f"{count} cannot be converted", findings)


def problem(node: ir.Node, opset: int, moving: set[ir.Value]) -> tuple[str, str]:
    """What is wrong with one node and what to do; empty strings where nothing is."""
    op = node.op_type
    if node.domain not in ("", "ai.onnx"):
        return (
            f"unknown operator domain {node.domain!r}",
            "express it in standard operators or as an ONNX function",
        )
    try:
        onnx.defs.get_schema(op, opset, "")
    except onnx.defs.SchemaError:
        return f"no operator of operator set {opset}", "check the name, or update onnx"
    if op == "BatchNormalization" and node.attributes.get_int("training_mode", 0) == 1:
        return "BatchNormalization in training mode", "export after model.eval()"
    if op in LOOPS:
        return "a loop over steps of its own", WITHOUT_LOOPS
    if op == "If" and any(value in moving for value in node.inputs):
        return "control flow that depends on the data", WITHOUT_LOOPS
    if op in RECURRENT:
        return "a recurrent operator", "convert the convolutional part only"
    if op.startswith("Optional"):
        return "an optional value", "export without optional inputs and outputs"
    if "Sequence" in op and op not in FOLDABLE and op != "ReverseSequence":
        return "a sequence of tensors", "export with tensors: torch.stack or torch.cat"
    if op == "MaxPool" and len(node.outputs) > 1 and _is_read(node.outputs[1]):
        return "MaxPool with Indices", "use a pooling without indices"
    if op == "MaxUnpool":
        return "it needs the indices of maxima", "use Resize or ConvTranspose instead"
    return "", ""


def _is_read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()
