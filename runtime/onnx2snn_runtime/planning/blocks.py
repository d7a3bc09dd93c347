"""Channel blocks: the memory layout in which a CPU convolves fastest.

In blocks of b channels, [N,C,H,W] lies in memory as [N,C/b,H,W,b]; the shape that an array shows
stays [N,C,H,W]. A tensor can lie so from one part of the network to the next if every stateful
operator at it treats each neuron by itself, or pools in this layout: then nothing is rearranged
between two convolutions.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import onnx

from onnx2snn_runtime.errors import BackendError
from onnx2snn_runtime.files.beside import is_beside
from onnx2snn_runtime.neurons.graded import pools_pictures
from onnx2snn_runtime.planning.plan import Plan, Segment, Shape, Stateful

IMAGE_RANK = 4  # N, C, H, W


class NotBlockedError(BackendError):
    """A backend does not lay out the channels of some tensors in blocks.

    Attributes:
        names: of these tensors.
    """

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(f"the channels of {', '.join(sorted(names))} cannot lie in blocks")
        self.names = frozenset(names)


def blocked_tensors(
    plan: Plan, block: int, refused: Collection[str] = frozenset()
) -> frozenset[str]:
    """Names of the tensors of a plan that can lie in blocks of ``block`` channels.

    Args:
        plan: the parts of the network.
        block: channels in a block.
        refused: tensors that the backend has refused to lay out so.
    """
    sent = {name for unit in plan.stateful for name in (unit.output, unit.written)}
    found = {name for name in sent if _divides(plan.shapes.get(name), block)}
    segments = [unit for unit in (plan.head, *plan.units) if isinstance(unit, Segment)]
    for segment in segments:
        found.update(
            value.name for value in segment.model.graph.output
            if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
            and _divides(plan.shapes.get(value.name), block)
        )  # fmt: skip
    found -= {*plan.outputs, *refused}
    for segment in segments:
        if any(is_beside(weight) for weight in segment.model.graph.initializer):
            found -= {*segment.inputs, *segment.outputs}  # its weights stay as they are
    changed = True
    while changed:
        changed = False
        for unit in plan.stateful:
            touched = {unit.output, unit.written, *moving_inputs(unit)}
            if found & touched and not (touched <= found and _ignores_layout(unit)):
                found -= touched
                changed = True
    return frozenset(found)


def moving_inputs(unit: Stateful) -> set[str]:
    """What a stateful operator reads besides constants."""
    return {name for index, name in enumerate(unit.reads) if index not in unit.constants}


def _divides(shape: Shape | None, block: int) -> bool:
    """Whether a tensor of this shape holds whole blocks of channels."""
    if shape is None or len(shape) != IMAGE_RANK:
        return False
    return all(isinstance(size, int) for size in shape[1:]) and int(shape[1]) % block == 0


def _ignores_layout(unit: Stateful) -> bool:
    if any(np.size(array) > 1 for array in unit.constants.values()):
        return False
    return unit.operator.elementwise or pools_pictures(unit.operator)


def to_blocks(array: Any, block: int) -> Any:
    """[N,C,H,W] rearranged into blocks; the shape shown stays."""
    n, c, h, w = array.shape
    split = array.reshape(n, c // block, block, h, w).transpose(0, 1, 3, 4, 2)
    return np.ascontiguousarray(split).reshape(array.shape)


def from_blocks(array: Any, block: int) -> Any:
    """The inverse of ``to_blocks``, for [N,C,H,W] or [T,N,C,H,W]."""
    *lead, c, h, w = array.shape
    split = np.moveaxis(array.reshape(*lead, c // block, h, w, block), -1, -3)
    return np.ascontiguousarray(split).reshape(array.shape)
