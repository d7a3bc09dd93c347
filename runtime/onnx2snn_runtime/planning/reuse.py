"""Which stateful operators may write their outputs over their inputs."""

from collections import Counter

from onnx2snn_runtime.planning.blocks import moving_inputs
from onnx2snn_runtime.planning.plan import Plan, Segment, Stateful

# operators whose results are never views of what they are given
NEW_MEMORY = frozenset(
    {"Add", "AveragePool", "BatchNormalization", "Concat", "Conv", "ConvTranspose", "Div", "Gemm",
     "GlobalAveragePool", "MatMul", "Mul", "Sub"}
)  # fmt: skip


def sole_readers(plan: Plan) -> set[int]:
    """Indices of the stateful units whose input no other unit and no answer reads.

    It must not be a view either: its memory would be that of a tensor which others may read.
    """
    made: set[str] = set()
    readers: Counter[str] = Counter(plan.answers)
    for unit in plan.units:
        if isinstance(unit, Segment):
            nodes = (node for node in unit.model.graph.node if node.op_type in NEW_MEMORY)
            made.update(name for node in nodes for name in node.output)
        else:
            made.add(unit.written)
        readers.update(unit.reads if isinstance(unit, Segment) else moving_inputs(unit))
    return {
        index
        for index, unit in enumerate(plan.units)
        if isinstance(unit, Stateful)
        and all(name in made and readers[name] == 1 for name in moving_inputs(unit))
    }
