"""What exporters leave behind and no computation needs."""

import onnx_ir as ir
from onnx_ir.passes import common

from onnx2snn.passes.base import Pass
from onnx2snn.passes.graph import bypass, constant, input_at, is_op, label, remove
from onnx2snn_runtime.naming import free_name


class Tidy(Pass):
    """Identity(x) = x, Dropout(x) = x at inference, a Constant is an initialiser.

    Unused nodes and weights, documentation strings and stack traces go. Every node has a name of
    its own.
    """

    name = "tidy"

    def run(self, model: ir.Model) -> ir.Model:
        """Remove clutter; what stays keeps its name."""
        common.ClearMetadataAndDocStringPass()(model)
        model.doc_string = None
        model.metadata_props.clear()
        for value in _all_values(model.graph):
            value.metadata_props.clear()
            value.doc_string = None
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
            if is_op(node, "Identity") and node.graph is model.graph:  # else a branch may be empty
                self.identity(node)
            elif is_op(node, "Dropout"):
                self.dropout(node)
        common.RemoveUnusedNodesPass()(model)
        common.RemoveUnusedFunctionsPass()(model)  # type: ignore[no-untyped-call]
        common.RemoveUnusedOpsetsPass()(model)
        common.NameFixPass()(model)
        self.name_nodes(model)
        return model

    def identity(self, node: ir.Node) -> None:
        """Remove it unless it is all there is between an input and an output."""
        source = node.inputs[0]
        if source is None or not bypass(node, source):
            self.note(node.name, f"Identity {label(node)} kept: it feeds a graph output")

    def dropout(self, node: ir.Node) -> None:
        """Remove it, also where the exporter left it in training mode."""
        source = node.inputs[0]
        if len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
            self.note(node.name, f"Dropout {label(node)} kept: its mask is used")
            return
        training = constant(input_at(node, 2))
        if training is not None and training.any():
            self.note(node.name, f"Dropout {label(node)} was in training mode; removed")
        if source is not None:
            bypass(node, source)

    def name_nodes(self, model: ir.Model) -> None:
        """Unnamed nodes get operator and number; of equal names the later ones get a suffix."""
        taken: set[str] = set()
        for number, node in enumerate(ir.traversal.RecursiveGraphIterator(model.graph)):
            stem = node.name or f"{node.op_type}_{number}"
            node.name = free_name(stem, taken.__contains__)
            taken.add(node.name)


class DropDeadCode(Pass):
    """What no output depends on is not part of the function."""

    name = "drop-dead-code"

    def run(self, model: ir.Model) -> ir.Model:
        """Remove unused nodes, weights and domains."""
        common.RemoveUnusedNodesPass()(model)
        for value in list(model.graph.initializers.values()):
            if not value.uses() and not value.is_graph_output():
                model.graph.initializers.pop(value.name or "")
        for node in list(model.graph):
            if not any(output.uses() or output.is_graph_output() for output in node.outputs):
                remove(node)
        common.RemoveUnusedOpsetsPass()(model)
        return model


def _all_values(graph: ir.Graph) -> list[ir.Value]:
    found = [*graph.inputs, *graph.initializers.values()]
    for node in ir.traversal.RecursiveGraphIterator(graph):
        found.extend(node.outputs)
    return found
