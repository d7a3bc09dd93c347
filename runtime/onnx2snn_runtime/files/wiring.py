"""Which tensor comes from where: undefined tensors, cycles, order of nodes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import onnx

from onnx2snn_runtime.errors import Finding
from onnx2snn_runtime.files.disk import shown

_MAX_CYCLE_SHOWN = 12


def is_sorted(model: onnx.ModelProto) -> bool:
    """Whether every node of the main graph comes after the nodes it reads from."""
    graph = model.graph
    known = set(_given(graph))
    for node in graph.node:
        if any(name and name not in known for name in node_reads(node)):
            return False
        known.update(node.output)
    return True


def node_reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names a node reads: its inputs and what its subgraphs take from outside."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from _free_names(graph)


def _free_names(graph: onnx.GraphProto) -> Iterator[str]:
    inside = {*_given(graph), *(name for node in graph.node for name in node.output)}
    for node in graph.node:
        yield from (name for name in node_reads(node) if name not in inside)
    yield from (value.name for value in graph.output if value.name not in inside)


def _given(graph: onnx.GraphProto) -> Iterator[str]:
    """Names that need no node."""
    yield from (value.name for value in graph.input)
    yield from (tensor.name for tensor in graph.initializer)
    yield from (tensor.values.name for tensor in graph.sparse_initializer)


def wiring_findings(model: onnx.ModelProto) -> list[Finding]:
    """Undefined tensors and cycles, in the main graph, its subgraphs and the functions.

    Names that a subgraph takes from outside count as inputs of the node that holds it, so the main
    graph covers them; cycles inside a subgraph are found there.
    """
    findings = list(_level(model.graph.node, set(_given(model.graph)), model.graph.output))
    findings += _nested_cycles(model.graph.node)
    for function in model.functions:
        findings += _level(function.node, set(function.input), function.output)
        findings += _nested_cycles(function.node)
    return findings


def _nested_cycles(nodes: Iterable[onnx.NodeProto]) -> list[Finding]:
    found: list[Finding] = []
    for node in nodes:
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                found += _cycles(graph.node)
                found += _nested_cycles(graph.node)
    return found


def _level(
    nodes: Sequence[onnx.NodeProto],
    given: set[str],
    outputs: Iterable[onnx.ValueInfoProto | str],
) -> Iterator[Finding]:
    """Faults of one list of nodes."""
    defined = given | {name for node in nodes for name in node.output}
    missing: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in dict.fromkeys(node_reads(node)):
            if name and name not in defined:
                missing.setdefault(name, []).append(node)
    for name, readers in missing.items():
        where = f", and {len(readers)} nodes read it" if len(readers) > 1 else ""
        yield Finding(
            f"undefined tensor: no graph input, initializer or node output has this name{where}",
            "the file is incomplete: export the model again",
            shown(readers[0].name),
            shown(readers[0].op_type),
            shown(name),
        )
    for value in outputs:
        name = value if isinstance(value, str) else value.name
        if name not in defined:
            yield Finding("a graph output that nothing computes", tensor=shown(name))
    yield from _cycles(nodes)


def _cycles(nodes: Sequence[onnx.NodeProto]) -> Iterator[Finding]:
    """One finding that prints a cycle, if there is any."""
    producers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    sources = {
        index: [producers[name] for name in dict.fromkeys(node_reads(node)) if name in producers]
        for index, node in enumerate(nodes)
    }
    cycle = find_cycle(sources)
    if cycle:
        parts = [
            f"{shown(nodes[i].name or nodes[i].op_type, 60)} -> "
            f"{shown(next(iter(nodes[i].output), ''), 60)}"
            for i in cycle[:_MAX_CYCLE_SHOWN]
        ]
        more = [f"… {len(cycle) - _MAX_CYCLE_SHOWN} more"] if len(cycle) > _MAX_CYCLE_SHOWN else []
        first = nodes[cycle[0]]
        yield Finding(
            f"the nodes form a cycle: {', '.join(parts + more)}, and back to the first",
            "an ONNX graph must not have cycles: export the model again",
            shown(first.name),
            shown(first.op_type),
        )


def find_cycle(sources: Mapping[int, Sequence[int]]) -> list[int]:
    """Nodes of one cycle in the order of the data, empty if there is none; needs no recursion.

    >>> find_cycle({0: [2], 1: [0], 2: [1]})
    [0, 1, 2]
    """
    waiting = {index: len(before) for index, before in sources.items()}
    users: dict[int, list[int]] = {index: [] for index in sources}
    for index, before in sources.items():
        for source in before:
            users[source].append(index)
    ready = [index for index, count in waiting.items() if count == 0]
    while ready:
        done = ready.pop()
        del waiting[done]
        for user in users[done]:
            waiting[user] -= 1
            if waiting[user] == 0:
                ready.append(user)
    if not waiting:
        return []
    # Everything left waits for something left: walking back must close a circle.
    walk: dict[int, None] = {}
    here = min(waiting)
    while here not in walk:
        walk[here] = None
        here = next(source for source in sources[here] if source in waiting)
    path = list(walk)
    cycle = path[path.index(here) :][::-1]
    start = cycle.index(min(cycle))
    return cycle[start:] + cycle[:start]


def function_cycles(model: onnx.ModelProto) -> list[Finding]:
    """Local functions that call themselves, directly or through others."""
    keys = {
        (function.domain, function.name, function.overload): index
        for index, function in enumerate(model.functions)
    }
    sources = {
        index: list(dict.fromkeys(_called(function.node, keys)))
        for index, function in enumerate(model.functions)
    }
    cycle = find_cycle(sources)
    if not cycle:
        return []
    names = ", ".join(shown(model.functions[index].name, 60) for index in cycle[::-1])
    return [Finding(f"local functions call each other in a circle: {names}")]


def _called(
    nodes: Iterable[onnx.NodeProto], keys: Mapping[tuple[str, str, str], int]
) -> Iterator[int]:
    for node in nodes:
        key = (node.domain, node.op_type, node.overload)
        if key in keys:
            yield keys[key]
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _called(graph.node, keys)
