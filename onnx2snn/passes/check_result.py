"""The proof of the pudding: the normal form computes what the file computes."""

import numpy as np
import onnx_ir as ir

from onnx2snn.passes.base import Array, Pass, as_array
from onnx2snn.passes.batch import agree
from onnx2snn.passes.probe import PROBES, feeds
from onnx2snn.passes.protos import to_proto
from onnx2snn_runtime.errors import Finding, Onnx2SnnError


class CheckResult(Pass):
    """Outputs on random samples are those of the model before folding, up to rounding.

    Outputs that are no floats (classes, indices) may change with a rounding; they only get a note.
    """

    name = "check-result"

    def run(self, model: ir.Model) -> ir.Model:
        """Run the normal form and compare; the model is not changed."""
        expected = self.session.expected
        found = self.session.run(to_proto(model))(feeds(model, PROBES[0]))
        if expected is None:
            self.note("", "not compared: the model could not be run before normalisation")
            return model
        findings = []
        for name, array in expected.items():
            before = as_array(array)
            if agree(as_array(found[name]), before):
                continue
            if self.is_amplified_rounding(name, as_array(found[name]), before):
                self.note(name, f"output {name} differs by what the network makes of roundings")
                continue
            if before.dtype.kind == "f":
                findings.append(Finding("it changed under normalisation", tensor=name))
            else:
                self.note(name, f"output {name} changed on random samples (rounding)")
        if findings:
            raise Onnx2SnnError(
                "the normalised model does not compute what the file computes",
                findings,
                advice="this is an error of the converter; please report it with the model",
            )
        return model

    def is_amplified_rounding(self, name: str, found: Array, before: Array) -> bool:
        """Whether the file's own output moves as much when its input moves by roundings."""
        if self.session.nearby is None or before.dtype.kind != "f" or found.shape != before.shape:
            return False
        moved = np.abs(as_array(self.session.nearby[name]) - before).max(initial=0)
        scale = np.abs(before).max(initial=0)
        return bool(np.abs(found - before).max(initial=0) <= min(AMPLIFIED * moved, scale))


AMPLIFIED = 10.0
