"""Constant folding by onnxscript, without its rewrite rules: folding of weights is ours."""

import logging

import onnx_ir as ir
from onnxscript.optimizer import fold_constants

from onnx2snn.passes.base import Pass
from onnx2snn.passes.graph import is_op, label
from onnx2snn.passes.infer_shapes import infer

INPUT_LIMIT = 2**27
OUTPUT_LIMIT = 2**18
GROWING = ("ConstantOfShape", "Expand", "Tile", "Range", "OneHot", "EyeLike")


class FoldConstants(Pass):
    """A node whose inputs are constants is a constant, an If on a constant is its branch.

    Nodes that would make a small constant large stay.
    """

    name = "fold-constants"

    def run(self, model: ir.Model) -> ir.Model:
        """Fold in place."""
        before = sum(1 for _ in model.graph)
        infer(model)
        fold(model, shape_inference=True)
        after = sum(1 for _ in model.graph)
        if after < before:
            self.note("", f"{before - after} nodes with constant results folded")
        for node in model.graph:
            if is_op(node, "If"):
                self.note(node.name, f"If {label(node)} not folded: its condition is computed")
        return model


def fold(model: ir.Model, *, shape_inference: bool) -> None:
    """Evaluate constant nodes; with shape inference also Shape of what has a known shape."""
    logger = logging.getLogger("onnxscript.optimizer._constant_folding")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of every node that it leaves to us
    try:
        fold_constants(
            model,
            onnx_shape_inference=shape_inference,
            input_size_limit=INPUT_LIMIT,
            output_size_limit=OUTPUT_LIMIT,
            should_fold=_should_fold,
        )
    finally:
        logger.setLevel(level)


def _should_fold(node: ir.Node) -> bool | None:
    """Leave what grows to the limits of the optimiser; fold all else."""
    return None if is_op(node, *GROWING) else True
