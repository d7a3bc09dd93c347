"""Files with QuantizeLinear and DequantizeLinear become the float network they stand for."""

import numpy as np
import onnx_ir as ir

from onnx2snn.passes.base import Array, Pass
from onnx2snn.passes.graph import (
    add_constant,
    constant,
    drop_unused,
    fresh_name,
    graph_of,
    input_at,
    is_op,
    label,
    redirect,
    remove,
    sole_reader,
    substitute,
)

NONNEGATIVE = ("Relu", "Abs", "Exp", "Softplus")
KEEPS_SIGN = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Concat", "ReduceMean",
              "Slice", "Split")  # fmt: skip
JOINS = ("Concat", "Slice", "Gather", "Tile", "Expand")
CLOSE = 0.01  # of a range: half a step of 6 bits
BOUNDED = ("Sigmoid", "Softmax", "HardSigmoid", "Tanh")
RECTIFIERS = ("Relu", "Clip")
MOVES = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity")
NUMBERS = {
    ir.DataType.UINT8: (0, 255), ir.DataType.INT8: (-128, 127),
    ir.DataType.UINT16: (0, 65535), ir.DataType.INT16: (-32768, 32767),
    ir.DataType.UINT4: (0, 15), ir.DataType.INT4: (-8, 7),
}  # fmt: skip


class StripQuantisation(Pass):
    """Weights are (q − zero)·scale; Dequantize(Quantize(x)) of an activation is x without rounding.

    The pair clips as well, to (lowest − zero)·scale … (highest − zero)·scale. At a rectifier, in
    front of one, at an input, and where zero is the lowest integer, so that the pair is a rectifier
    itself, this stays as Clip and costs no neuron of its own. A sum between layers, whose range
    calibration has chosen so that it hardly clips, would need one: there the range is dropped.
    """

    name = "strip-quantisation"

    dropped = 0  # ranges that are not kept

    def run(self, model: ir.Model) -> ir.Model:
        """Weights first, then activations in order."""
        self.dropped = 0
        self.move_in_floats(model)
        weights = sum(self.weight(node) for node in list(model.graph))
        pairs = sum(self.activation(node) for node in list(model.graph))
        if weights or pairs:
            ranges = f" and, in {self.dropped} places, what they clip" if self.dropped else ""
            self.note(
                "",
                f"{weights} quantised weights became float32 and {pairs} quantisations of "
                f"activations were removed: results differ from the file's by its rounding{ranges}",
            )
        for node in model.graph:
            if is_op(node, "QuantizeLinear", "DequantizeLinear"):
                self.note(node.name, f"{node.op_type} {label(node)} kept: no pair to remove")
        return model

    @staticmethod
    def move_in_floats(model: ir.Model) -> None:
        """Dequantize(move(q)) = move(Dequantize(q)): TFLite moves data as integers."""
        waiting = [node for node in model.graph if is_op(node, "DequantizeLinear")]
        while waiting:
            node = waiting.pop()
            source = node.inputs[0]
            mover = source.producer() if source is not None else None
            scales = [constant(value) for value in node.inputs[1:] if value is not None]
            if not is_op(mover, *MOVES, *JOINS) or mover is None:
                continue
            if any(scale is None or scale.size != 1 for scale in scales):
                continue
            graph, before = graph_of(node), list(mover.inputs)
            for index, value in enumerate(before):
                if value is None or (index and not is_op(mover, "Concat")):
                    continue
                real = ir.node("DequantizeLinear", [value, *node.inputs[1:]])
                (before[index],) = real.outputs
                real.name = fresh_name(graph, f"{label(value)}.dequantised")
                real.outputs[0].name = fresh_name(graph, f"{label(value)}.real")
                real.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
                real.outputs[0].shape = value.shape
                graph.insert_before(node, real)
                waiting.append(real)
            substitute(node, mover.op_type, before, mover.attributes)
            if not mover.outputs[0].uses() and not mover.outputs[0].is_graph_output():
                remove(mover)

    def weight(self, node: ir.Node) -> bool:
        """Evaluate QuantizeLinear and DequantizeLinear of constants, and Clip between them."""
        if is_op(node, "Clip") and constant(node.inputs[0]) is not None:
            return self.narrow_weight(node)
        if not is_op(node, "DequantizeLinear", "QuantizeLinear"):
            return False
        array, scale = constant(node.inputs[0]), constant(node.inputs[1])
        zero_value = input_at(node, 2)
        zero = constant(zero_value)
        if array is None or scale is None or (zero_value is not None and zero is None):
            return False
        scale, shift = _aligned(node, array, scale), np.asarray(0.0)
        if zero is not None:
            shift = _aligned(node, array, zero.astype(np.float64))
        result = node.outputs[0]
        name = label(node.inputs[0]).removesuffix("_quantized")
        if node.op_type == "DequantizeLinear":
            numbers: Array = ((array.astype(np.float64) - shift) * scale).astype(np.float32)
        else:
            kind = zero_value.dtype if zero_value is not None else result.dtype
            if kind not in NUMBERS:
                return False
            low, high = NUMBERS[kind]
            rounded = np.clip(np.rint(array / scale) + shift, low, high)
            numbers = rounded.astype(kind.numpy())
        graph = graph_of(node)
        if result.is_graph_output():
            return False
        source = node.inputs[0]
        replaced = add_constant(graph, f"{name}.float" if name == label(source) else name, numbers)
        result.replace_all_uses_with(replaced)
        remove(node)
        drop_unused(source)
        return node.op_type == "DequantizeLinear"

    @staticmethod
    def narrow_weight(node: ir.Node) -> bool:
        """Clip whole numbers that are constants."""
        numbers = constant(node.inputs[0])
        ends = [constant(input_at(node, index)) for index in (1, 2)]
        if numbers is None or numbers.dtype.kind not in "iu" or node.outputs[0].is_graph_output():
            return False
        clipped = numbers
        for end, clip in zip(ends, (np.maximum, np.minimum), strict=True):
            clipped = clipped if end is None else clip(clipped, end)
        added = add_constant(graph_of(node), f"{label(node.inputs[0])}.clipped", clipped)
        node.outputs[0].replace_all_uses_with(added)
        remove(node)
        return False

    def activation(self, node: ir.Node) -> bool:
        """Remove a QuantizeLinear whose readers are all DequantizeLinear."""
        if not is_op(node, "QuantizeLinear") or node.inputs[0] is None:
            return False
        numbers = node.outputs[0]
        narrow = sole_reader(numbers)
        if is_op(narrow, "Clip") and narrow is not None:  # fewer bits than the type has
            numbers = narrow.outputs[0]
        pairs = [usage.node for usage in numbers.uses()]
        if not pairs or not all(is_op(pair, "DequantizeLinear") for pair in pairs):
            return False
        if numbers.is_graph_output():
            return False
        source = node.inputs[0]
        bounds = self.bounds(node, narrow)
        place = before_moves(source)
        if bounds is None:
            self.dropped += 1
        elif self.read_alike(place, bounds):
            clipped = self.clip(node, place, bounds)
            source = clipped if place is source else source
        elif self.clips_for_free(source, pairs, bounds):
            source = self.clip(node, source, bounds)
        elif not stays_within(place, bounds):
            self.dropped += 1
        for pair in pairs:
            if redirect(pair.outputs[0], source):
                remove(pair)
        for useless in (numbers.producer(), node):
            if useless is not None and useless.graph and not useless.outputs[0].uses():
                remove(useless)
        return True

    def read_alike(self, place: ir.Value, bounds: tuple[float, float]) -> bool:
        """Whether a rectifier can clip to these bounds, as all that reads it does so."""
        if not is_op(place.producer(), *RECTIFIERS) or stays_within(place, bounds):
            return False
        readers = [usage.node for usage in place.uses()]
        return not place.is_graph_output() and all(
            is_op(reader, *MOVES)  # alone, on the way to the quantisation
            or (
                is_op(reader, "QuantizeLinear")
                and self.bounds(reader, sole_reader(reader.outputs[0])) == bounds
            )
            for reader in readers
        )

    @staticmethod
    def clips_for_free(source: ir.Value, pairs: list[ir.Node], bounds: tuple[float, float]) -> bool:
        """Whether a Clip here is no neuron more than there are anyhow."""
        readers = [usage.node for pair in pairs for usage in pair.outputs[0].uses()]
        return (
            source.producer() is None
            or (bounds[0] == 0.0 and may_be_negative(source))
            or (bool(readers) and all(is_op(reader, *RECTIFIERS) for reader in readers))
        )

    @staticmethod
    def bounds(node: ir.Node, narrow: ir.Node | None) -> tuple[float, float] | None:
        """What a quantisation and the Clip behind it clip to, the widest range of all channels."""
        scale, zero_value = constant(node.inputs[1]), input_at(node, 2)
        zero = constant(zero_value)
        kind = zero_value.dtype if zero_value is not None else ir.DataType.UINT8
        if scale is None or kind not in NUMBERS:
            return None
        low, high = NUMBERS[kind]
        if is_op(narrow, "Clip") and narrow is not None:
            ends = [constant(input_at(narrow, index)) for index in (1, 2)]
            low = low if ends[0] is None else max(low, int(ends[0].max()))
            high = high if ends[1] is None else min(high, int(ends[1].min()))
        numbers = np.zeros(1) if zero is None else zero.astype(np.float64)
        return float(((low - numbers) * scale).min()), float(((high - numbers) * scale).max())

    def clip(self, node: ir.Node, source: ir.Value, bounds: tuple[float, float]) -> ir.Value:
        """A Clip of a value for all that read it on the way to the quantisation."""
        graph = graph_of(node)
        limits = [
            add_constant(graph, f"{label(node)}.{side}", np.array(number, np.float32))
            for side, number in zip(("min", "max"), bounds, strict=True)
        ]
        clip = ir.node("Clip", [source, *limits], name=f"{label(node)}.clip")
        clip.outputs[0].name = f"{label(node.outputs[0])}.clip"
        clip.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        producer = source.producer()
        if producer is not None and is_op(producer, *RECTIFIERS):
            readers = [usage for usage in source.uses() if usage.node is not clip]
            graph.insert_after(producer, clip)
            for reader, index in readers:
                reader.replace_input_with(index, clip.outputs[0])
        else:
            graph.insert_before(node, clip)
        self.note(
            node.name, f"QuantizeLinear {label(node)} clips: Clip({bounds[0]:g}, {bounds[1]:g})"
        )
        return clip.outputs[0]


def _aligned(node: ir.Node, array: Array, parameter: Array) -> Array:
    """Scale or zero point, broadcast along its axis; blocks are repeated."""
    if parameter.size == 1:
        return parameter.reshape(()).astype(np.float64)
    axis = node.attributes.get_int("axis", 1) % array.ndim
    if parameter.ndim == 1:
        return parameter.astype(np.float64).reshape(
            [-1 if k == axis else 1 for k in range(array.ndim)]
        )
    block = node.attributes.get_int("block_size", 0) or 1
    repeated = np.repeat(parameter.astype(np.float64), block, axis=axis)
    return repeated.take(range(array.shape[axis]), axis=axis)


def before_moves(value: ir.Value) -> ir.Value:
    """The value that is only moved, or pooled to its largest, to become this one."""
    node = value.producer()
    while is_op(node, *MOVES) and node is not None and node.inputs[0] is not None:
        if sole_reader(node.inputs[0]) is not node:
            break
        value = node.inputs[0]
        node = value.producer()
    return value


def stays_within(value: ir.Value, bounds: tuple[float, float]) -> bool:
    """Whether a value cannot leave these bounds."""
    node = value.producer()
    if is_op(node, *BOUNDED):
        return bounds[1] >= 1.0 - CLOSE and (bounds[0] <= 0.0 or may_be_negative(value))
    if node is None or not is_op(node, "Clip"):
        return False
    ends = [constant(input_at(node, index)) for index in (1, 2)]
    if ends[0] is None or ends[1] is None:
        return False
    slack = CLOSE * (bounds[1] - bounds[0])
    return bool((ends[0] >= bounds[0] - slack).all() and (ends[1] <= bounds[1] + slack).all())


def may_be_negative(value: ir.Value) -> bool:
    """Whether a value that is computed can be below zero."""
    node = value.producer()
    if node is None or is_op(node, *NONNEGATIVE, *BOUNDED):
        return is_op(node, "Tanh")
    if is_op(node, "Clip"):
        low = constant(input_at(node, 1))
        return low is None or bool((low < 0).any())
    if is_op(node, "QuantizeLinear", "DequantizeLinear"):
        return node.inputs[0] is None or may_be_negative(node.inputs[0])
    if is_op(node, *MOVES, *KEEPS_SIGN):
        moving = node.inputs if node.op_type == "Concat" else node.inputs[:1]
        return any(item is not None and may_be_negative(item) for item in moving)
    return True
