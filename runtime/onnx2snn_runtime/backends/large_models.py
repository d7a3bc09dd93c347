"""Models beyond the 2 GiB of a protobuf message: weights are handed over beside the graph."""

from collections.abc import Collection
from typing import Any

import onnx
from onnx import helper

from onnx2snn_runtime.files import beside
from onnx2snn_runtime.files.tensor_checks import byte_count

_PLACE = "beside"


def split_weights(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """A model that fits a message, and the weights that do not.

    Args:
        model: with all weights in it or beside it; it is not changed.

    Returns:
        The model, in which these weights are declared as external, and the weights by name, as
        arrays.
    """
    weights = model.graph.initializer
    sizes = {index: byte_count(item) for index, item in enumerate(weights)}
    chosen = beside.leaving(sizes)
    chosen |= {index for index, item in enumerate(weights) if beside.is_beside(item)}
    if not chosen:
        return model, {}
    skeleton = beside.without_weights(model)
    arrays: dict[str, Any] = {}
    for index, item in enumerate(weights):
        kept = skeleton.graph.initializer.add()
        if index not in chosen:
            kept.CopyFrom(item)
            continue
        kept.name, kept.data_type = item.name, item.data_type
        kept.dims.extend(item.dims)
        beside.refer(kept, _PLACE, 0, sizes[index])
        arrays[item.name] = beside.array_of(item)
    return skeleton, arrays


def make_inputs(model: onnx.ModelProto, names: Collection[str]) -> None:
    """Turn initializers into inputs, in place.

    onnxruntime on a CPU copies the initializers that it is given beside a model; inputs it reads
    where they are.
    """
    graph = model.graph
    chosen = [item for item in graph.initializer if item.name in names]
    kept = [item for item in graph.initializer if item.name not in names]
    graph.input.extend(
        helper.make_tensor_value_info(item.name, item.data_type, list(item.dims)) for item in chosen
    )
    del graph.initializer[:]
    graph.initializer.extend(kept)
