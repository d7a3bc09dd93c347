"""Which stateful operators may write their outputs over their inputs."""

from onnx2snn_runtime.planning.blocks import moving_inputs
from onnx2snn_runtime.planning.plan import Plan, Segment

# operators whose results are never views of what they are given
NEW_MEMORY = frozenset(
    {"Add", "AveragePool", "BatchNormalization", "Concat", "Conv", "ConvTranspose", "Div", "Gemm",
     "GlobalAveragePool", "MatMul", "Mul", "Sub"}
)  # fmt: skip


def last_readers(plan: Plan) -> set[int]:
    """Indices of the stateful units that are the last to read their first input.

    It must not be a view, and no segment may read it, whose outputs could be views of it: its
    memory would be that of a tensor which others may read.
    """
    made: set[str] = set()
    shared: set[str] = set(plan.answers)
    last: dict[str, int] = {}
    for index, unit in enumerate(plan.units):
        if isinstance(unit, Segment):
            nodes = (node for node in unit.model.graph.node if node.op_type in NEW_MEMORY)
            made.update(name for node in nodes for name in node.output)
            shared.update(unit.reads)
        else:
            made.add(unit.written)
            last.update(dict.fromkeys(moving_inputs(unit), index))
    return {
        last[name]
        for name in made - shared
        if name in last and plan.units[last[name]].reads[0] == name
    }
