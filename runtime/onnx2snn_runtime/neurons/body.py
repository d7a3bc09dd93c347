"""A small builder for bodies of model-local functions in standard operators."""

from collections.abc import Iterable, Sequence
from typing import Any

import onnx
from onnx import AttributeProto, FunctionProto, NodeProto, helper

from onnx2snn_runtime.format import DOMAIN


def operator_attributes(op: str, opset: int) -> dict[str, int]:
    """Attribute names and types of a standard operator at this opset, empty if it is not one."""
    try:
        schema = onnx.defs.get_schema(op, opset, "")
    except onnx.defs.SchemaError:
        return {}
    return {name: _type_number(attribute.type) for name, attribute in schema.attributes.items()}


def input_type(op: str, index: int, opset: int) -> int:
    """Element type of an input: float32 wherever the operator takes it, else the one it asks for.

    >>> input_type("ReduceMax", 1, 18) == onnx.TensorProto.INT64  # the axes
    True
    """
    try:
        schema = onnx.defs.get_schema(op, opset, "")
    except onnx.defs.SchemaError:
        return onnx.TensorProto.FLOAT
    allowed = schema.inputs[min(index, len(schema.inputs) - 1)].types  # the last may repeat
    if "tensor(float)" in allowed or "tensor(int64)" not in allowed:
        return onnx.TensorProto.FLOAT
    return onnx.TensorProto.INT64


def _type_number(kind: Any) -> int:
    return int(kind.value)  # an enumeration of the compiled library, typed without its value


class Body:
    """Collects nodes; every method returns the name of the tensor it makes."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[NodeProto] = []

    def call(
        self,
        op: str,
        *inputs: str,
        output: str = "",
        references: Iterable[str] = (),
        **attributes: Any,
    ) -> str:
        """Append ``op``; ``references`` are attributes taken over from the function's node."""
        name = output or f"{op.lower()}_{len(self.nodes)}"
        node = helper.make_node(op, list(inputs), [name], **attributes)
        types = operator_attributes(op, self.opset)
        for reference in references:
            node.attribute.append(
                AttributeProto(name=reference, ref_attr_name=reference, type=types[reference])  # type: ignore[arg-type]
            )
        self.nodes.append(node)
        return name

    def attribute(self, name: str) -> str:
        """A float attribute of the function's node as a scalar tensor."""
        node = helper.make_node("Constant", [], [f"{name}_value"])
        node.attribute.append(
            AttributeProto(name="value_float", ref_attr_name=name, type=AttributeProto.FLOAT)
        )
        self.nodes.append(node)
        return f"{name}_value"

    def constant(self, value: float) -> str:
        """A float scalar."""
        name = f"constant_{len(self.nodes)}"
        self.nodes.append(helper.make_node("Constant", [], [name], value_float=value))
        return name

    def cast_to_float(self, value: str) -> str:
        """The tensor as float32."""
        name = f"float_{len(self.nodes)}"
        return self.call("Cast", value, output=name, to=onnx.TensorProto.FLOAT)

    def cast_to_int(self, value: str) -> str:
        """The tensor, of whole numbers, as int32."""
        name = f"int_{len(self.nodes)}"
        return self.call("Cast", value, output=name, to=onnx.TensorProto.INT32)

    def function(
        self,
        name: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        attributes: Sequence[str],
        description: str,
        domain: str = DOMAIN,
    ) -> FunctionProto:
        """The finished function."""
        return helper.make_function(
            domain,
            name,
            list(inputs),
            list(outputs),
            self.nodes,
            [helper.make_opsetid("", self.opset)],
            attributes=list(attributes),
            doc_string=description,
        )
