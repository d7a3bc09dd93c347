"""Types and shapes of every value."""

import onnx_ir as ir
from onnx_ir.passes import common

from onnx2snn.passes.base import Array, Pass
from onnx2snn.passes.graph import BATCH, dims, is_known, is_op, label, values
from onnx2snn.passes.probe import PROBES, probe

SEQUENCES = (
    "SplitToSequence", "SequenceConstruct", "SequenceInsert", "SequenceErase", "SequenceEmpty",
    "SequenceMap",
)  # fmt: skip


def infer(model: ir.Model) -> None:
    """What onnx can infer; outputs are taken from the graph, not from their declaration."""
    for value in values(model.graph):
        if not is_known(value):
            value.shape = None
    common.ShapeInferencePass(check_type=True, strict_mode=True, data_prop=True)(model)
    for node in model.graph:
        if is_op(node, *SEQUENCES):
            for output in node.outputs:
                output.type = output.shape = None  # inference writes the type of the elements


class InferShapes(Pass):
    """Every value has a type and a shape: [N, numbers…].

    What onnx cannot infer is measured at N = 2 and N = 3: equal sizes are numbers, 2 and 3 are N.
    """

    name = "infer-shapes"

    def run(self, model: ir.Model) -> ir.Model:
        """Infer, then measure what is left."""
        infer(model)
        holes = [
            value
            for value in values(model.graph)
            if not is_known(value) and not is_op(value.producer(), *SEQUENCES)
        ]
        for value, measured in zip(holes, probe(self.session.run, model, holes), strict=True):
            self.fill(value, measured)
        return model

    def fill(self, value: ir.Value, measured: tuple[Array, ...]) -> None:
        """Set type and shape from the value at both batches."""
        value.dtype = ir.DataType.from_numpy(measured[0].dtype)
        ranks = {array.ndim for array in measured}
        if len(ranks) != 1:
            self.note(value.name, f"the rank of {label(value)} depends on the batch")
            return
        sizes = zip(*(array.shape for array in measured), strict=True)
        value.shape = ir.Shape([dimension(pair) for pair in sizes])
        odd = [dim for dim in dims(value) or [] if not isinstance(dim, int) and dim != BATCH]
        if odd:
            self.note(value.name, f"{label(value)} has sizes other than N: {odd}")


def dimension(measured: tuple[int, ...]) -> int | str | None:
    """What a size is that was measured at N = 2 and N = 3."""
    first, second = measured
    if first == second:
        return first
    if measured == PROBES:
        return BATCH
    slope, offset = second - first, first - PROBES[0] * (second - first)
    if offset == 0:
        return f"{slope}*{BATCH}"
    return None
