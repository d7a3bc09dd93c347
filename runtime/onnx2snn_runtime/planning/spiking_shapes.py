"""Shapes that a spiking network states, against those that follow from its weights."""

from collections.abc import Iterator, Mapping

import onnx
from onnx import NodeProto, helper

from onnx2snn_runtime.errors import Finding, ModelError
from onnx2snn_runtime.files.disk import shown
from onnx2snn_runtime.files.inference import (
    MAX_IMAGE_BYTES,
    Sizes,
    image_bytes,
    infer,
    size_findings,
    sizes_of,
    skeleton,
)
from onnx2snn_runtime.format import DOMAIN, NEXT
from onnx2snn_runtime.neurons import ACTIVATIONS, StatefulOperator, parse_node

_DAMAGED = "the file was changed or damaged: convert the network again"


def shape_findings(
    model: onnx.ModelProto, operators: Mapping[int, StatefulOperator]
) -> list[Finding]:
    """Stated shapes that contradict the network, or that no machine could hold.

    Args:
        model: a spiking network whose wiring has been checked.
        operators: index of a node of our domain to its law.
    """
    try:
        inferred = infer(_skeleton(model, operators))
    except ModelError as problem:
        return [Finding(problem.message, _DAMAGED)]
    values = [*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output]
    known = {value.name: sizes_of(value) for value in values if _has_shape(value)}
    known.update({tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer})
    found = [*_state_findings(model, operators, known), *_declared_findings(model, known)]
    return found or [*_stored_findings(model, operators, known), *size_findings(known)]


def with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """A network that states every shape: itself, or a copy where some are left out.

    Args:
        model: a spiking network that has passed its checks.
    """
    graph = model.graph
    stated = {value.name for value in [*graph.value_info, *graph.output] if _has_shape(value)}
    missing = {name for node in graph.node for name in node.output if name} - stated
    if not missing:
        return model
    operators = {
        index: parse_node(node) for index, node in enumerate(graph.node) if node.domain == DOMAIN
    }
    inferred = infer(_skeleton(model, operators)).graph
    found = {
        value.name: value
        for value in [*inferred.value_info, *inferred.output]
        if value.name in missing and _has_shape(value)
    }
    complete = onnx.ModelProto()
    complete.CopyFrom(model)
    for output in complete.graph.output:
        if output.name in found:
            output.CopyFrom(found.pop(output.name))
    complete.graph.value_info.extend(found.values())
    return complete


def _has_shape(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"))


def _skeleton(model: onnx.ModelProto, operators: Mapping[int, StatefulOperator]) -> onnx.ModelProto:
    """The network with every law replaced by its function f, without large weights."""
    graph = model.graph
    opset = next(item.version for item in model.opset_import if not item.domain)
    made_states = {value.name for value in graph.output}
    nodes = []
    for index, node in enumerate(graph.node):
        if index not in operators:
            nodes.append(node)
        elif node.op_type != "Tick":
            nodes.append(_plain(node, operators[index], opset))
    images = [value for value in graph.input if value.name + NEXT not in made_states]
    return skeleton(model, nodes, images)


def _plain(node: NodeProto, operator: StatefulOperator, opset: int) -> NodeProto:
    """One law as its function f; an activation that ONNX lacks keeps shapes as Identity does."""
    op, inputs = operator.signature.op, list(node.input[: len(operator.inputs_of_base())])
    if operator.family == "Readout" or (
        op in ACTIVATIONS and not ACTIVATIONS[op].is_standard(opset)
    ):
        return helper.make_node("Identity", inputs[:1], [node.output[0]], node.name)
    known = set(operator.base_attributes(opset))
    plain = helper.make_node(op, inputs, [node.output[0]], node.name)
    plain.attribute.extend(item for item in node.attribute if item.name in known)
    return plain


def _state_findings(
    model: onnx.ModelProto, operators: Mapping[int, StatefulOperator], known: Mapping[str, Sizes]
) -> Iterator[Finding]:
    inputs = {value.name: value for value in model.graph.input}
    total = 0
    for index, operator in operators.items():
        node = model.graph.node[index]
        if node.op_type == "Tick":
            if sizes_of(inputs[node.input[0]]) != ():
                yield Finding("the count of steps must be one number", _DAMAGED, shown(node.name))
            continue
        states = node.input[len(node.input) - len(operator.state_names) :]
        for name, source in zip(states, operator.state_sources(node), strict=True):
            stated = sizes_of(inputs[name])
            expected = known.get(source)
            if not stated or stated[0] is not None or None in stated[1:]:
                why = f"a state must have the shape [N, numbers …], found {_text(stated)}"
            elif any(size is not None and size < 1 for size in stated):
                why = f"a state without elements: {_text(stated)}"
            elif expected is not None and not _agree(stated, expected):
                why = f"the state is {_text(stated)}, what it sums is {_text(expected)}"
            else:
                total += image_bytes(stated)
                continue
            yield Finding(why, _DAMAGED, shown(node.name), shown(node.op_type), shown(name))
    if total > MAX_IMAGE_BYTES:
        yield Finding(f"the states of one image take {total:,} bytes: more than is allowed")


def _declared_findings(model: onnx.ModelProto, known: Mapping[str, Sizes]) -> Iterator[Finding]:
    """Shapes written beside tensors, which memory is planned by."""
    graph = model.graph
    states = {value.name for value in graph.input}
    for value in [*graph.value_info, *graph.output]:
        source = value.name.removesuffix(NEXT)
        if source in states and value.name not in known:  # the next value of a state
            like = next(item for item in graph.input if item.name == source)
            expected: Sizes | None = sizes_of(like)
        else:
            expected = known.get(value.name)
        if expected is None or not _has_shape(value):
            continue
        stated = sizes_of(value)
        if len(stated) != len(expected) or any(
            a is not None and b is not None and a != b
            for a, b in zip(stated, expected, strict=True)
        ):
            why = f"the stated shape {_text(stated)} is in truth {_text(expected)}"
            yield Finding(why, _DAMAGED, tensor=shown(value.name))


def _stored_findings(
    model: onnx.ModelProto, operators: Mapping[int, StatefulOperator], known: Mapping[str, Sizes]
) -> Iterator[Finding]:
    """A threshold or a start is one number, or one per channel or neuron; signals are as many."""
    for index, operator in operators.items():
        node = model.graph.node[index]
        output = known.get(node.output[0])
        if output is None:
            continue
        for position in operator.signature.moving if operator.spiking else ():
            sizes = known.get(node.input[position])
            if sizes is not None and sizes != output:
                why = f"input {position} of shape {_text(sizes)} for neurons {_text(output)}"
                yield Finding(why, _DAMAGED, shown(node.name), shown(node.op_type))
        for role, name in zip(
            operator.stored, node.input[operator.signature.inputs :], strict=False
        ):
            sizes = known[name]
            tail = output[len(output) - len(sizes) :] if sizes else ()
            fits = len(sizes) <= len(output) and all(
                size == 1 or have is None or size == have
                for size, have in zip(sizes, tail, strict=True)
            )
            if not fits:
                why = f"a {role} of shape {_text(sizes)} for neurons {_text(output)}"
                yield Finding(why, _DAMAGED, shown(node.name), shown(node.op_type), shown(name))


def _agree(stated: Sizes, expected: Sizes) -> bool:
    """Same rank and sizes; the batch axis must be free on both sides."""
    return len(stated) == len(expected) and all(
        want is None or have == want for have, want in zip(stated, expected, strict=True)
    )


def _text(sizes: Sizes) -> str:
    return "[" + ",".join("?" if size is None else str(size) for size in sizes) + "]"
