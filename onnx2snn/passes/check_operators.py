"""What no later pass can do anything with, found before anything is executed."""

from collections.abc import Sequence

import onnx
import onnx_ir as ir

from onnx2snn.passes.base import Pass
from onnx2snn.passes.graph import is_op, label
from onnx2snn.passes.probe import RANDOM, moving_values
from onnx2snn_runtime.errors import Finding, UnsupportedError

RECURRENT = ("RNN", "LSTM", "GRU")
LOOPS = ("Loop", "Scan", "SequenceMap")
FOLDABLE = ("SplitToSequence", "SequenceConstruct", "SequenceAt", "ConcatFromSequence")
"""Sequence operators that constant folding removes where it can."""
ORIGINAL = (
    "convert the float model from before optimising or quantising, or one in the QDQ format "
    "(QuantizeLinear and DequantizeLinear), which is understood"
)
TRAINED = ("BatchNormalization in training mode", "export after model.eval()")
COUNTING = ("NonZero", "Compress", "Unique", "NonMaxSuppression")
LABELS = (
    "export the scores as a tensor: skl2onnx with options={'zipmap': False}, or cut the labels off "
    "with onnx.utils.extract_model"
)
CUT = "cut the model in front of it, and do it on the answers: onnx.utils.extract_model"
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
            if is_op(node, *RANDOM):
                self.note(
                    node.name,
                    f"{node.op_type} {label(node)} draws new numbers in every run: SNN and ANN "
                    "cannot agree; export the network without it",
                    is_warning=True,
                )
        if findings:
            raise unsupported(findings)
        return model


def refuse_other_types(model: onnx.ModelProto) -> None:
    """Refuse text, sequences and maps, which no network computes with.

    Raises:
        UnsupportedError: with all inputs, outputs and weights that are such.
    """
    findings = []
    for value in [*model.graph.input, *model.graph.output]:
        kind = value.type.WhichOneof("value")
        if kind == "tensor_type" and value.type.tensor_type.elem_type == onnx.TensorProto.STRING:
            kind = "text"
        if kind not in (None, "tensor_type", "sparse_tensor_type"):
            what = f"it is {kind.removesuffix('_type')}, not a tensor of numbers"
            findings.append(Finding(what, LABELS, tensor=value.name))
    findings += [
        Finding("it holds text", LABELS, tensor=item.name)
        for item in model.graph.initializer if item.data_type == onnx.TensorProto.STRING
    ]  # fmt: skip
    if findings:
        raise UnsupportedError("the model has parts that are no tensors of numbers", findings)


def unsupported(findings: Sequence[Finding]) -> UnsupportedError:
    """The error that lists these nodes."""
    count = f"{len(findings)} operator{'s' if len(findings) > 1 else ''}"
    return UnsupportedError(f"{count} cannot be converted", findings)


def problem(node: ir.Node, opset: int, moving: set[ir.Value]) -> tuple[str, str]:
    """What is wrong with one node and what to do; empty strings where nothing is."""
    op = node.op_type
    if node.domain.startswith("com.microsoft"):
        return f"{node.domain} is a domain of onnxruntime alone", ORIGINAL
    if node.domain not in ("", "ai.onnx"):
        return (
            f"unknown operator domain {node.domain!r}",
            "express it in standard operators or as an ONNX function",
        )
    try:
        onnx.defs.get_schema(op, opset, "")
    except onnx.defs.SchemaError:
        return f"no operator of operator set {opset}", "check the name, or update onnx"
    trains = op == "BatchNormalization" and node.attributes.get_int("training_mode", 0) == 1
    if trains and node.inputs[0] in moving:  # of weights: a standardisation, which folds
        return TRAINED
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
    if op in COUNTING and any(value in moving for value in node.inputs):
        return "the size of its result depends on the data", CUT
    if op == "MaxPool" and len(node.outputs) > 1 and _is_read(node.outputs[1]):
        return "MaxPool with Indices", "use a pooling without indices"
    if op == "MaxUnpool":
        return "it needs the indices of maxima", "use Resize or ConvTranspose instead"
    return "", ""


def _is_read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()
