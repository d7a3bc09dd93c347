"""How many weights each element of a tensor meets in one node.

The node is transposed, its weights are replaced by (weight ≠ 0), and it is applied to ones.
"""

from string import ascii_letters
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper

from onnx2snn_runtime.files.beside import array_of
from onnx2snn_runtime.nodes import attributes_of, run_node
from onnx2snn_runtime.planning.weighted import sides

Array = NDArray[np.float64]
OPSET = 18  # of the convolutions that count weights


def weights_met(
    node: NodeProto, weights: dict[str, onnx.TensorProto], shapes: dict[str, tuple[int, ...]]
) -> Array:
    """Number of nonzero weights that each input element of a weighted node meets, [1,*]."""
    found = sides(node, weights)
    assert found is not None
    signal, stored = found
    attributes = attributes_of(node)
    shape, out = shapes[node.input[signal]], shapes[node.output[0]]
    mask = (array_of(weights[node.input[stored]]) != 0).astype(np.float64)
    ones = np.ones(out)
    if node.op_type == "Gemm":
        return _matrices_met(mask.T if attributes.get("transB", 0) else mask, 0, ones, shape)
    if node.op_type == "MatMul":
        return _matrices_met(mask, signal, ones, shape)
    if node.op_type == "Einsum":
        return _products_met(attributes["equation"].decode(), found, mask, ones, shape)
    if node.op_type == "Conv":
        return transposed(mask, attributes, int(attributes.get("group", 1)), shape, ones)
    allowed = ("strides", "pads", "dilations", "group", "kernel_shape")
    kept = {name: value for name, value in attributes.items() if name in allowed}
    forward = helper.make_node("Conv", ["x", "w"], ["y"], **kept)
    result: Array = run_node(forward, {"x": ones, "w": mask}, OPSET)[0]
    return result


def _matrices_met(mask: Array, signal: int, ones: Array, shape: tuple[int, ...]) -> Array:
    """Transpose of a product with matrices ``mask`` on the other side, applied to ``ones``."""
    if mask.ndim == 1:  # a vector is a matrix of one column, or of one row on the left
        mask = mask[:, np.newaxis] if signal == 0 else mask[np.newaxis]
        ones = np.expand_dims(ones, -1 if signal == 0 else -2)
    back = mask.swapaxes(-1, -2)
    met: Array = ones @ back if signal == 0 else back @ ones
    return _summed_to(met, shape)


def _summed_to(array: Array, shape: tuple[int, ...]) -> Array:
    """Sum over the axes that broadcasting has added or stretched."""
    array = array.sum(axis=tuple(range(array.ndim - len(shape))))
    stretched = [axis for axis, size in enumerate(shape) if size == 1 != array.shape[axis]]
    return np.broadcast_to(array.sum(axis=tuple(stretched), keepdims=True), shape)


def _products_met(
    equation: str, found: tuple[int, int], mask: Array, ones: Array, shape: tuple[int, ...]
) -> Array:
    """Transpose of an Einsum of two inputs, applied to ``ones``."""
    signal, stored = found
    ranks = {signal: len(shape), stored: mask.ndim}
    *terms, result = einsum_terms(equation, [ranks[0], ranks[1]])
    letters = "".join(dict.fromkeys(terms[signal]))
    met = np.zeros(shape)
    back = f"{result},{terms[stored]},{terms[signal]}->{letters}"
    diagonal = np.einsum(f"{terms[signal]}->{letters}", met)  # a view; a letter may stand twice
    diagonal[...] = np.einsum(back, ones, mask, np.ones(shape))
    return met


def einsum_terms(equation: str, ranks: list[int]) -> list[str]:
    """Indices of the inputs and of the result, with letters instead of dots.

    >>> einsum_terms("...c, cd -> ...d", [3, 2]), einsum_terms("ij,jk", [2, 2])
    (['YZc', 'cd', 'YZd'], ['ij', 'jk', 'ik'])
    """
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow:
        once = sorted(c for c in set(left) - {",", "."} if left.count(c) == 1)
        result = ("..." if "..." in left else "") + "".join(once)
    spare = [letter for letter in reversed(ascii_letters) if letter not in equation]
    hidden = max(
        rank - len(term.replace("...", "")) if "..." in term else 0
        for term, rank in zip(terms, ranks, strict=True)
    )
    dots = "".join(reversed(spare[:hidden]))
    found = [
        term.replace("...", dots[hidden - (rank - len(term.replace("...", ""))) :])
        for term, rank in zip(terms, ranks, strict=True)
    ]
    return [*found, result.replace("...", dots)]


def transposed(
    mask: Array, attributes: dict[str, Any], group: int, shape: tuple[int, ...], after: Array
) -> Array:
    """Transpose of a convolution with weights ``mask``, applied to ``after``."""
    rank = len(shape) - 2
    kernel = mask.shape[2:]
    strides = list(attributes.get("strides", [1] * rank))
    dilations = list(attributes.get("dilations", [1] * rank))
    pads = list(attributes.get("pads", [0] * 2 * rank))
    padded = [shape[2 + i] + pads[i] + pads[rank + i] for i in range(rank)]
    reach = [
        (after.shape[2 + i] - 1) * strides[i] + dilations[i] * (kernel[i] - 1) + 1
        for i in range(rank)
    ]
    node = helper.make_node(
        "ConvTranspose", ["x", "w"], ["y"], strides=strides, dilations=dilations, group=group
    )
    (full,) = run_node(node, {"x": after, "w": mask}, OPSET)
    extra = [max(0, padded[i] - reach[i]) for i in range(rank)]
    full = np.pad(full, [(0, 0), (0, 0), *((0, e) for e in extra)])
    window = tuple(slice(pads[i], pads[i] + shape[2 + i]) for i in range(rank))
    return full[(slice(None), slice(None), *window)]
