"""One operator set: the newest of 18 and what the file says."""

import onnx
import onnx_ir as ir
from onnx import version_converter
from onnx_ir.passes import common

from onnx2snn.passes.base import Pass
from onnx2snn_runtime.errors import UnsupportedError

OPSET = 18


class Opset(Pass):
    """Operator set k < 18 of the default domain becomes 18; newer ones stay.

    Domains that no node uses are dropped, and the IR version is what the operator set asks for.
    """

    name = "opset"

    def run(self, model: ir.Model) -> ir.Model:
        """Convert; returns a new model where the operator set changed."""
        graph = model.graph
        if "ai.onnx" in graph.opset_imports:
            graph.opset_imports[""] = graph.opset_imports.pop("ai.onnx")
        common.RemoveUnusedOpsetsPass()(model)
        version = graph.opset_imports.setdefault("", OPSET)
        if version < OPSET:
            model = self.convert(model, version)
        wanted = onnx.helper.find_min_ir_version_for(
            [onnx.helper.make_opsetid("", model.graph.opset_imports[""])], ignore_unknown=True
        )
        model.ir_version = max(model.ir_version or 0, wanted)
        return model

    def convert(self, model: ir.Model, version: int) -> ir.Model:
        """Let onnx convert every node."""
        model.ir_version = max(model.ir_version or 0, 4)
        for value in model.graph.outputs:
            value.shape = None
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            for output in node.outputs:
                output.shape = None
        try:
            converted = version_converter.convert_version(ir.to_proto(model), OPSET)
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UnsupportedError(
                f"operator set {version} cannot be brought to {OPSET}: {reason}",
                advice=f"export the model with opset {OPSET} or newer",
            ) from error
        self.note("", f"operator set {version} converted to {OPSET}")
        return ir.from_proto(converted)
