"""Strict shape inference without the weights: what does not fit is found before it runs."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

import onnx
from onnx import helper

from onnx2snn_runtime.errors import Finding, ModelError
from onnx2snn_runtime.files.disk import shown
from onnx2snn_runtime.files.tensor_checks import byte_count
from onnx2snn_runtime.format import DOMAIN

# Of one image: an input, all states together, any one tensor.
MAX_IMAGE_BYTES = 4 * 2**30
Sizes = tuple[int | None, ...]

_FLOAT_BYTES = 4
_NOT_INFERRED = (  # a node that is not known, not valid, or behind such a node
    onnx.defs.SchemaError, onnx.shape_inference.InferenceError, onnx.checker.ValidationError,
    ValueError, KeyError, RuntimeError,
)  # fmt: skip
_NEVER_EMPTY = ("Conv", "MaxPool", "AveragePool", "LpPool")
_SMALL_BYTES = 1024  # weights up to this size may be the shapes that operators read


def skeleton(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    inputs: Iterable[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    """These nodes as a model whose large weights are inputs, without stated shapes inside.

    Args:
        model: gives weights, outputs and operator sets.
        nodes: in the order of execution.
        inputs: the inputs besides the weights.
    """
    graph = model.graph
    made = {name for node in nodes for name in node.output}
    small = [tensor for tensor in graph.initializer if byte_count(tensor) <= _SMALL_BYTES]
    large = [
        helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in graph.initializer
        if byte_count(tensor) > _SMALL_BYTES
    ]
    outputs = [onnx.ValueInfoProto(name=value.name) for value in graph.output if value.name in made]
    bare = helper.make_graph(nodes, "skeleton", [*inputs, *large], outputs, small)
    opsets = [item for item in model.opset_import if item.domain != DOMAIN]
    return helper.make_model(bare, opset_imports=opsets, ir_version=model.ir_version)


def sizes_of(value: onnx.ValueInfoProto) -> Sizes:
    """Sizes of the axes, None where the file gives none or a name."""
    return tuple(
        size.dim_value if size.HasField("dim_value") else None
        for size in value.type.tensor_type.shape.dim
    )


def image_bytes(sizes: Sizes) -> int:
    """Bytes of a float32 tensor of one image, as far as the sizes are known."""
    return _FLOAT_BYTES * math.prod(size for size in sizes if size is not None)


def size_findings(known: Mapping[str, Sizes]) -> Iterator[Finding]:
    """Tensors that cannot be, or that no machine should hold for one image."""
    for name, sizes in known.items():
        if any(size is not None and size < 0 for size in sizes):
            yield Finding(f"a negative size in {list(sizes)}", tensor=shown(name))
        elif image_bytes(sizes) > MAX_IMAGE_BYTES:
            why = f"{list(sizes)} takes {image_bytes(sizes):,} bytes for one image"
            yield Finding(why, f"the limit is {MAX_IMAGE_BYTES:,}", tensor=shown(name))


def refuse_impossible_sizes(model: onnx.ModelProto) -> None:
    """Follow sizes node by node, and stop at the first that cannot be.

    Where a window is larger than its map onnx infers a negative size, and its inference of a Slice
    behind it ends the process.

    Raises:
        ModelError: names the node.
    """
    graph = model.graph
    versions = {item.domain: item.version for item in model.opset_import}
    kinds = {value.name: value.type for value in graph.input}
    small = {}
    for tensor in graph.initializer:
        kinds[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
        if byte_count(tensor) <= _SMALL_BYTES:
            small[tensor.name] = tensor
    for node in graph.node:
        with suppress(*_NOT_INFERRED):
            schema = onnx.defs.get_schema(node.op_type, versions.get(node.domain, 1), node.domain)
            made = onnx.shape_inference.infer_node_outputs(
                schema,
                node,
                {name: kinds[name] for name in node.input if name in kinds},
                {name: small[name] for name in node.input if name in small},
                opset_imports=list(model.opset_import),
            )
            for kind in made.values():
                sizes = [d.dim_value for d in kind.tensor_type.shape.dim if d.HasField("dim_value")]
                least = 1 if node.op_type in _NEVER_EMPTY else 0
                if any(size < least for size in sizes):
                    raise ModelError("sizes do not fit together", [Finding(
                        f"it would make a tensor of the sizes {sizes}",
                        "give a larger input: its windows do not fit into what they read",
                        node=shown(node.name or node.output[0]), op=node.op_type,
                    )])  # fmt: skip
            kinds.update(made)


def check_shapes(model: onnx.ModelProto) -> None:
    """Refuse a network whose shapes do not fit together, or that is absurdly large.

    Raises:
        ModelError: with all tensors that are too large.
    """
    inferred = infer(skeleton(model, model.graph.node, model.graph.input)).graph
    values = [*inferred.value_info, *inferred.output]
    findings = list(size_findings({value.name: sizes_of(value) for value in values}))
    if findings:
        raise ModelError("the network is too large to run", findings)


def infer(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the shapes that follow from its operators.

    Raises:
        ModelError: something does not fit together.
    """
    try:
        return onnx.shape_inference.infer_shapes(
            model, check_type=True, strict_mode=True, data_prop=True
        )
    except (
        onnx.shape_inference.InferenceError,
        onnx.checker.ValidationError,
        RuntimeError,
        ValueError,
    ) as problem:
        text = shown(problem, 600)
        raise ModelError(f"the shapes of the model do not fit together: {text}") from problem
