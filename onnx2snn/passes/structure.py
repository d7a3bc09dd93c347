"""The first passes: one flat graph, in order, whose weights are constants."""

import onnx_ir as ir
from onnx_ir.passes import common

from onnx2snn.passes.base import Pass
from onnx2snn.passes.graph import label
from onnx2snn_runtime.errors import ModelError


class InitializersOutOfInputs(Pass):
    """A weight that is also listed as a graph input (IR version 3) is a constant.

    ``f(x, W = W0)`` with a default that nobody overrides is ``f(x)``.
    """

    name = "initializers-out-of-inputs"

    def run(self, model: ir.Model) -> ir.Model:
        """Remove the inputs that have a default."""
        listed = [value for value in model.graph.inputs if value.is_initializer()]
        common.RemoveInitializersFromInputsPass()(model)
        if listed:
            self.note("", f"{len(listed)} weights were graph inputs; they are constants now")
        if not model.graph.inputs:
            raise ModelError("the model has no inputs", advice="export it with its image input")
        return model


class InlineFunctions(Pass):
    """A call of a model-local function is the body of the function."""

    name = "inline-functions"

    def run(self, model: ir.Model) -> ir.Model:
        """Inline every call."""
        count = len(model.functions)
        if count:
            common.InlinePass()(model)
            self.note("", f"{count} model-local functions inlined")
        return model


class SortNodes(Pass):
    """Every node stands behind the nodes that it reads; a cycle is an error."""

    name = "sort-nodes"

    def run(self, model: ir.Model) -> ir.Model:
        """Sort topologically, stable where the order is right already."""
        before = list(model.graph)
        try:
            model.graph.sort()
        except ValueError as error:
            raise ModelError("the graph has a cycle", advice="export the model again") from error
        if list(model.graph) != before:
            self.note("", "the nodes were not topologically sorted; they are now")
        unknown = sorted(
            label(value)
            for node in model.graph
            for value in node.inputs
            if value is not None
            and value.producer() is None
            and not value.is_graph_input()
            and not value.is_initializer()
        )
        if unknown:
            raise ModelError(f"nothing computes these tensors: {', '.join(unknown)}")
        return model
