"""A single ONNX node: its attributes, and what it computes by itself."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper

from onnx2snn_runtime.interpreter import Interpreter
from onnx2snn_runtime.neurons import COMPOSITES, spelled_out

Array = Any


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """Attributes of a node by name; texts are bytes."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def run_node(node: NodeProto, feeds: Mapping[str, Array], opset: int) -> list[Array]:
    """The outputs that a stateless node makes of NumPy arrays, in their order.

    Args:
        node: of ONNX, or a composite activation.
        feeds: all its inputs by name, constants among them, of any float type.
        opset: version of the operator set that it is written for.
    """
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(np.asarray(array).dtype), np.shape(array)
        )
        for name, array in feeds.items()
    ]
    parts = spelled_out(node, opset) if node.domain == COMPOSITES else [node]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph(parts, "node", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    results = Interpreter(model)(feeds)
    return [results[output.name] for output in outputs]
