"""One floating-point type."""

import ml_dtypes  # noqa: F401  registers bfloat16 with NumPy
import numpy as np
import onnx_ir as ir

from onnx2snn.passes.base import Pass
from onnx2snn.passes.graph import (
    add_constant,
    bypass,
    constant,
    fresh_name,
    graph_of,
    input_at,
    is_op,
    label,
    readers,
    substitute,
)
from onnx2snn.passes.infer_shapes import infer
from onnx2snn_runtime.errors import Finding, UnsupportedError

INTEGERS = (
    ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.UINT16, ir.DataType.INT16,
    ir.DataType.UINT32, ir.DataType.INT32, ir.DataType.UINT64, ir.DataType.INT64,
)  # fmt: skip
OTHER = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
TYPE_ATTRIBUTES = ("to", "dtype")


class Float32(Pass):
    """float16, bfloat16 and double become float32: inputs, outputs, weights, casts, all between.

    Exact for the 16-bit types' values; their arithmetic gains precision. double loses precision.
    An input of whole numbers that is only cast to floats, or dequantised, takes the same numbers as
    floats.
    """

    name = "float32"

    def run(self, model: ir.Model) -> ir.Model:
        """Change every type in place."""
        graph = model.graph
        changed: dict[str, int] = {}
        for inner in [graph, *graph.subgraphs()]:
            for value in list(inner.initializers.values()):
                self.tensor(value, changed)
            for value in [*inner.inputs, *inner.outputs]:
                self.declare(value, outside=inner is graph)
        for node in list(ir.traversal.RecursiveGraphIterator(graph)):
            for output in node.outputs:
                self.declare(output)
            self.attributes(node)
        for value in graph.inputs:
            if value.dtype in INTEGERS:
                self.integers(value)
        infer(model)
        for node in list(graph):
            source = node.inputs[0] if node.inputs else None
            if is_op(node, "Cast") and source is not None and self.is_no_cast(node, source):
                bypass(node, source)
        for kind, count in sorted(changed.items()):
            self.note("", f"{count} {kind} weights became float32")
        return model

    def integers(self, value: ir.Value) -> None:
        """Let floats come in where casts make them of whole numbers.

        Raises:
            UnsupportedError: something else reads the whole numbers.
        """
        kind = value.dtype.name.lower() if value.dtype is not None else ""
        for node in readers(value):
            if is_op(node, "DequantizeLinear"):
                self.spell_out(node)
        others = [
            node for node in readers(value)
            if not is_op(node, "Cast") or node.attributes.get_int("to") != ir.DataType.FLOAT
        ]  # fmt: skip
        if others or value.is_graph_output():
            why = f"it takes the numbers of input {label(value)} as {kind}"
            advice = "export the network with an input of floats"
            raise UnsupportedError(
                f"input {label(value)} is of whole numbers ({kind})",
                [Finding(why, advice, label(node), node.op_type) for node in others],
                advice=advice,
            )
        value.dtype = ir.DataType.FLOAT
        self.note(value.name, f"input {label(value)} of {kind} is cast to float32 at once")

    @staticmethod
    def spell_out(node: ir.Node) -> None:
        """Dequantize of an input, as TFLite has it, is (Cast(q) − zero) · scale."""
        scale, zero = (constant(input_at(node, index)) for index in (1, 2))
        if scale is None or scale.size != 1 or (zero is not None and zero.size != 1):
            return
        graph, name, value = graph_of(node), label(node), node.inputs[0]
        shift, factor = (
            add_constant(graph, f"{name}.{part}", np.asarray(number, np.float32).reshape(()))
            for part, number in (("zero", 0.0 if zero is None else zero), ("scale", scale))
        )
        cast = ir.node("Cast", [value], attributes={"to": ir.DataType.FLOAT}, name=f"{name}.cast")
        shifted = ir.node("Sub", [cast.outputs[0], shift], name=f"{name}.shifted")
        for step in (cast, shifted):
            step.outputs[0].name = fresh_name(graph, f"{step.name}.result")
            step.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
            graph.insert_before(node, step)
        substitute(node, "Mul", [shifted.outputs[0], factor])

    def tensor(self, value: ir.Value, changed: dict[str, int]) -> None:
        """Convert one weight."""
        tensor = value.const_value
        if tensor is None or tensor.dtype not in OTHER:
            return
        kind = tensor.dtype.name.lower()
        with np.errstate(over="ignore"):
            array = tensor.numpy().astype(np.float32)
        value.const_value = ir.tensor(array, name=value.name)
        value.dtype = ir.DataType.FLOAT
        changed[kind] = changed.get(kind, 0) + 1

    def declare(self, value: ir.Value, *, outside: bool = False) -> None:
        """Convert one declared type; say so where users of the model see it."""
        if value.dtype not in OTHER or value.const_value is not None:
            return
        if outside:
            kind = value.dtype.name.lower() if value.dtype is not None else ""
            side = "input" if value.is_graph_input() else "output"
            self.note(value.name, f"{side} {label(value)} was {kind} and is float32 now")
        value.dtype = ir.DataType.FLOAT

    def attributes(self, node: ir.Node) -> None:
        """Convert the types and tensors that nodes name."""
        for name in TYPE_ATTRIBUTES:
            if node.attributes.get_int(name) in [int(kind) for kind in OTHER]:
                node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT))
        for name, attribute in list(node.attributes.items()):
            if attribute.type != ir.AttributeType.TENSOR:
                continue
            tensor = attribute.as_tensor()
            if tensor.dtype in OTHER:
                array = tensor.numpy().astype(np.float32)
                node.attributes[name] = ir.AttrTensor(name, ir.tensor(array))

    @staticmethod
    def is_no_cast(node: ir.Node, source: ir.Value) -> bool:
        """Whether a Cast to float32 reads float32."""
        to_float = node.attributes.get_int("to") == int(ir.DataType.FLOAT)
        return to_float and source.dtype == ir.DataType.FLOAT
