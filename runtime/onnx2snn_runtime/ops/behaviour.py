"""What a node does with what moves: whether it meets weights, whether it is affine."""

from collections.abc import Callable, Sequence

from onnx import NodeProto

from onnx2snn_runtime.ops.registry import OPERATORS, Law

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum")
"""Operators whose inputs meet weights, one multiplication or one synaptic operation each."""


def is_affine(node: NodeProto, moving: Sequence[int], is_float: Callable[[str], bool]) -> bool:
    """Whether the mean over time passes through the node.

    Args:
        node: a stateless node.
        moving: indices of its inputs that depend on the image.
        is_float: tells of a tensor's name whether it is float32.
    """
    entry = OPERATORS.get(node.op_type)
    if entry is None:
        return False
    affine = {
        Law.SHAPE: True,  # a shape that depends on the batch only
        Law.AFFINE: True,
        Law.AFFINE_ONE: len(moving) == 1,
        Law.AFFINE_FIRST: tuple(moving) == (0,),
        Law.AFFINE_FLOATS: all(is_float(node.input[k]) for k in moving),
    }.get(entry.law, False)
    return affine and not any(
        a.name == "reduction" and a.s not in (b"none", b"add") for a in node.attribute
    )
