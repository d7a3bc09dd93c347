"""The node test cases that the onnx package ships, the only place that reads its private list."""

import importlib
import pkgutil
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import onnx
import onnx.backend.test.case.node as node_package
from onnx import numpy_helper

OLDEST_OPSET = 18


@dataclass(frozen=True)
class NodeCase:
    """One model of one node, with inputs and expected outputs in the model's order."""

    name: str
    model: onnx.ModelProto
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]


SKIPPED: dict[str, Callable[[NodeCase], bool]] = {
    "training mode": lambda case: "training" in case.name,
    "second output of MaxPool, Indices": lambda case: "maxpool_with_argmax" in case.name,
    "floats of 8 bits and less, integers of 4 bits and less": lambda case: bool(
        re.search(r"(FLOAT8|FLOAT4|INT4|INT2)", case.name)
    ),
    "align_corners between lengths that are no integers: we agree with onnxruntime and PyTorch": (
        lambda case: "resize_downsample_scales" in case.name and "align_corners" in case.name
    ),
}


def reason_to_skip(case: NodeCase) -> str:
    """Why a case is outside of what the operators claim; empty if it is not."""
    return next((reason for reason, applies in SKIPPED.items() if applies(case)), "")


@cache
def _modules() -> dict[str, str]:
    return {
        item.name.replace("_", ""): item.name
        for item in pkgutil.iter_modules(node_package.__path__)
    }


@cache
def node_cases(op: str) -> tuple[NodeCase, ...]:
    """All cases of a default-domain operator, at opset 18 or newer.

    A case is made for the newest opset that changed the operator, so what is older than 18 holds
    for 18 as well. Cases that spell the operator out in other operators are left out.
    """
    key = op.lower()
    module = _modules().get(key) or _modules().get(key + "op")  # Range is in rangeop.py
    if module is None:
        return ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some cases divide by zero to make their expectations
        importlib.import_module(f"{node_package.__name__}.{module}")
    found = []
    for case in node_package._NodeTestCases:
        nodes = case.model.graph.node
        if len(nodes) != 1 or nodes[0].op_type != op or nodes[0].domain or "_expanded" in case.name:
            continue
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        for item in model.opset_import:
            if not item.domain:
                item.version = max(item.version, OLDEST_OPSET)
        ((inputs, outputs),) = case.data_sets
        found.append(NodeCase(case.name, model, _arrays(inputs), _arrays(outputs)))
    return tuple(found)


def _arrays(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(
        numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
        for value in values
    )
