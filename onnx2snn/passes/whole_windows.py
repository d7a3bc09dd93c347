"""Pooling whose last window reaches beyond the padding is padded for it."""

import numpy as np
import onnx_ir as ir

from onnx2snn.passes.base import Pass
from onnx2snn.passes.graph import dims, is_op, label, values
from onnx2snn.passes.infer_shapes import infer
from onnx2snn.passes.padding import POOLS, kernel_shape
from onnx2snn_runtime.ops import Call
from onnx2snn_runtime.ops.windows import make_windows

OPSET = 18  # whose attributes pools have here


class WholeWindows(Pass):
    """ceil_mode becomes pads: a window that starts in front of the end padding is a whole one.

    Along an axis of ``size`` elements behind ``front`` of padding there are
    ⌈(size + front + end − extent) / stride⌉ + 1 windows, without the last one if it would start in
    the padding behind; they need max(0, (windows − 1)·stride + extent − size − front) elements
    there. Padding takes part in no maximum and, if it is not counted, in no mean. (Shape inference
    before operator set 22 counts the last window even where it is left out.)
    """

    name = "whole-windows"

    def run(self, model: ir.Model) -> ir.Model:
        """Rewrite in place, from the input to the output, as sizes follow from earlier pools."""
        pools = [
            node for node in model.graph
            if is_op(node, *POOLS) and node.attributes.get_int("ceil_mode", 0) != 0
        ]  # fmt: skip
        for node in pools:
            forget_shapes(model)
            infer(model)
            reason = self.rewrite(node)
            if reason:
                self.note(node.name, f"ceil_mode of {label(node)} kept: {reason}")
        if pools:
            forget_shapes(model)
        return model

    def rewrite(self, node: ir.Node) -> str:
        """Pad one pool; returns why not, or an empty string."""
        mode = node.attributes.get_string("auto_pad", "NOTSET")
        if mode.startswith("SAME"):
            return "its padding is computed"
        kernel = kernel_shape(node) or []
        sizes = [size for size in (dims(node.inputs[0]) or [])[2:] if isinstance(size, int)]
        if len(sizes) != len(kernel):
            return "its size is unknown"
        given = {
            name: list(node.attributes.get_ints(name))
            for name in ("strides", "dilations", "pads") if name in node.attributes
        }  # fmt: skip
        try:
            windows = make_windows(Call(np, given, OPSET), sizes, kernel, ceil_mode=True)
        except ValueError as problem:
            return str(problem)
        needed = windows.behind(sizes)
        if any(end >= length for end, length in zip(needed, kernel, strict=True)):
            return "engines want less padding than the kernel is long"
        grows = any(end > before for end, before in zip(needed, windows.after, strict=True))
        if grows and node.attributes.get_int("count_include_pad", 0) != 0:
            return "it counts padding, but not what lies beyond"
        node.attributes.pop("ceil_mode")
        node.attributes.pop("auto_pad", None)
        pads = [*windows.before, *needed]
        node.attributes["pads"] = ir.AttrInt64s("pads", pads)
        self.note(node.name, f"ceil_mode of {label(node)} is pads {pads}")
        return ""


def forget_shapes(model: ir.Model) -> None:
    """What a file says of the tensors that nodes compute may come from wrong inference."""
    for value in values(model.graph):
        value.shape = None
