"""Padding is written in the operator that needs it, as numbers."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnx2snn.passes.base import Pass
from onnx2snn.passes.graph import bypass, constant, dims, input_at, is_op, label, sole_reader
from onnx2snn_runtime.ops.windows import same_padding

POOLS = ("MaxPool", "AveragePool", "LpPool")


class ExplicitPadding(Pass):
    """auto_pad and output_shape become pads.

    SAME: output ⌈size / stride⌉, hence max((⌈size/stride⌉ − 1)·stride + extent − size, 0) elements
    of padding, the odd one at the end (SAME_UPPER) or the start (SAME_LOWER); VALID: none.
    """

    name = "explicit-padding"

    def run(self, model: ir.Model) -> ir.Model:
        """Rewrite the attributes of convolutions and pools."""
        for node in model.graph:
            if not is_op(node, "Conv", "ConvTranspose", *POOLS):
                continue
            if "output_shape" in node.attributes:
                self.size_to_pads(node)
            mode = node.attributes.get_string("auto_pad", "NOTSET")
            if mode == "NOTSET":
                node.attributes.pop("auto_pad", None)
                continue
            pads = self.pads(node, mode)
            if pads is None:
                self.note(node.name, f"auto_pad of {label(node)} kept: its size is unknown")
                continue
            node.attributes.pop("auto_pad")
            node.attributes["pads"] = ir.AttrInt64s("pads", pads)
            if mode != "VALID" and is_op(node, *POOLS):
                node.attributes.pop("ceil_mode", None)
            self.note(node.name, f"auto_pad {mode} of {label(node)} is pads {pads}")
        return model

    def size_to_pads(self, node: ir.Node) -> None:
        """The size that a ConvTranspose states becomes the padding that makes it so."""
        kernel, sizes = kernel_shape(node), (dims(node.inputs[0]) or [])[2:]
        if kernel is None or len(sizes) != len(kernel):
            return
        axes = len(kernel)
        strides = node.attributes.get_ints("strides", [1] * axes)
        dilations = node.attributes.get_ints("dilations", [1] * axes)
        extra = list(node.attributes.get_ints("output_padding", [0] * axes))
        wanted = list(node.attributes.get_ints("output_shape"))[-axes:]
        upper = node.attributes.get_string("auto_pad", "NOTSET") == "SAME_UPPER"
        start, end = [], []
        for axis, size in enumerate(sizes):
            if not isinstance(size, int):
                return
            full = strides[axis] * (size - 1) + (kernel[axis] - 1) * dilations[axis] + 1
            total = full + extra[axis] - wanted[axis]
            if total < 0:  # nothing is cut off: the rest is added at the end
                extra[axis], total = extra[axis] - total, 0
            front, back = same_padding(total, upper)
            start.append(front)
            end.append(back)
        for name in ("output_shape", "auto_pad"):
            node.attributes.pop(name, None)
        node.attributes["pads"] = ir.AttrInt64s("pads", start + end)
        node.attributes["output_padding"] = ir.AttrInt64s("output_padding", extra)
        self.note(node.name, f"output_shape of {label(node)} is pads {start + end}")

    def pads(self, node: ir.Node, mode: str) -> list[int] | None:
        """Padding at the start of every axis, then at the end."""
        kernel = kernel_shape(node)
        if kernel is None:
            return None
        if mode == "VALID":
            return [0] * (2 * len(kernel))
        sizes = (dims(node.inputs[0]) or [])[2:]
        if len(sizes) != len(kernel):
            return None
        strides = node.attributes.get_ints("strides", [1] * len(kernel))
        dilations = node.attributes.get_ints("dilations", [1] * len(kernel))
        extra = node.attributes.get_ints("output_padding", [0] * len(kernel))
        start, end = [], []
        for size, length, stride, dilation, more in zip(
            sizes, kernel, strides, dilations, extra, strict=True
        ):
            if not isinstance(size, int):
                return None
            extent = (length - 1) * dilation + 1
            if node.op_type == "ConvTranspose":
                total = stride * (size - 1) + more + extent - size * stride
                if total < 0:
                    return None
            else:
                total = max((-(-size // stride) - 1) * stride + extent - size, 0)
            front, back = same_padding(total, mode == "SAME_UPPER")
            start.append(front)
            end.append(back)
        return start + end


def kernel_shape(node: ir.Node) -> list[int] | None:
    """Kernel sizes from the attribute or the weights."""
    if "kernel_shape" in node.attributes:
        return list(node.attributes.get_ints("kernel_shape"))
    shape = dims(input_at(node, 1))
    if node.op_type not in ("Conv", "ConvTranspose") or shape is None:
        return None
    numbers: list[int] = [size for size in shape[2:] if isinstance(size, int)]
    return numbers if len(numbers) == len(shape) - 2 else None


class FoldPad(Pass):
    """Pad with zeros, then Conv = Conv with pads; the same for AveragePool that counts padding.

    Not for MaxPool: there zeros take part, while its own padding is −∞.
    """

    name = "fold-pad"

    def run(self, model: ir.Model) -> ir.Model:
        """Fold each Pad into the one operator that reads it."""
        for node in list(model.graph):
            if is_op(node, "Pad"):
                reason = self.fold(node)
                if reason:
                    self.note(node.name, f"Pad {label(node)} not folded: {reason}")
        return model

    def fold(self, node: ir.Node) -> str:
        """Fold one Pad; returns why not, or an empty string."""
        pads = spatial_pads(node)
        if isinstance(pads, str):
            return pads
        reader = sole_reader(node.outputs[0])
        source = node.inputs[0]
        if reader is None or source is None or reader.inputs[0] is not node.outputs[0]:
            return "its output has several readers"
        if is_op(reader, "MaxPool"):
            return f"zeros take part in the maximum of {label(reader)}"
        if not is_op(reader, "Conv", "AveragePool"):
            return f"its reader {label(reader)} has no padding"
        if reader.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
            return f"its reader {label(reader)} computes its own padding"
        own = list(reader.attributes.get_ints("pads", [0] * len(pads)))
        if is_op(reader, "AveragePool"):
            reason = self.average(reader, own, pads)
            if reason:
                return reason
        total = [first + second for first, second in zip(own, pads, strict=True)]
        reader.attributes["pads"] = ir.AttrInt64s("pads", total)
        bypass(node, source)
        self.note(node.name, f"Pad {label(node)} folded into {label(reader)}")
        return ""

    @staticmethod
    def average(reader: ir.Node, own: Sequence[int], pads: Sequence[int]) -> str:
        """Whether an AveragePool can count these zeros itself; it is told to if so."""
        kernel = kernel_shape(reader) or []
        counts = bool(reader.attributes.get_int("count_include_pad", 0))
        if reader.attributes.get_int("ceil_mode", 0):
            return f"its reader {label(reader)} has partial windows (ceil_mode)"
        if any(own) and not counts:
            return f"its reader {label(reader)} does not count its own padding"
        total = [first + second for first, second in zip(own, pads, strict=True)]
        if any(pad >= size for pad, size in zip(total, kernel + kernel, strict=True)):
            return f"it is wider than the kernel of its reader {label(reader)}"
        reader.attributes["count_include_pad"] = ir.AttrInt64("count_include_pad", 1)
        return ""


def spatial_pads(node: ir.Node) -> list[int] | str:
    """Constant zeros around the spatial axes, starts then ends, or why it is something else."""
    mode = node.attributes.get_string("mode", "constant")
    rank = len(dims(node.inputs[0]) or [])
    pads, axes = constant(input_at(node, 1)), input_at(node, 3)
    if mode != "constant":
        return f"its mode is {mode}"
    if pads is None or rank < 3:
        return "its padding is computed"
    value = input_at(node, 2)
    fill = np.zeros(1) if value is None else constant(value)
    if fill is None or np.any(fill != 0):
        return "it pads with another value than zero"
    chosen = np.arange(rank) if axes is None else constant(axes)
    if chosen is None:
        return "its axes are computed"
    full = np.zeros((2, rank), np.int64)
    full[:, chosen % rank] = pads.reshape(2, -1)
    if full[:, :2].any():
        return "it pads the batch or the channels"
    if (full < 0).any():
        return "it cuts off"
    return [int(number) for number in full[:, 2:].reshape(-1)]
