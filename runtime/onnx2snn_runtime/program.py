"""A decoded list of nodes that can be executed, and what must be known of a node to decode it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from onnx2snn_runtime.errors import BackendError, Finding
from onnx2snn_runtime.ops import Array

Run = Callable[[Sequence[Array | None], Mapping[str, Array]], Sequence[Array]]
"""Runs one node: its inputs, and all tensors it could see, to its outputs."""


@dataclass(frozen=True)
class Step:
    """One node with everything about it decoded.

    Attributes:
        name: name of the node, for messages.
        op: operator type, for messages.
        inputs: tensors it reads, empty for an omitted one.
        outputs: tensors it makes, empty for an omitted one.
        captured: tensors of the outer graph that its subgraphs read.
        run: computes the outputs.
        dead: tensors that nothing reads after this step.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    captured: tuple[str, ...]
    run: Run
    dead: list[str] = field(default_factory=list)

    def execute(self, values: dict[str, Array]) -> None:
        """Add the outputs to ``values`` and drop what is no longer needed.

        Raises:
            BackendError: the operator fails, or is not known.
        """
        inputs = [values[name] if name else None for name in self.inputs]
        try:
            results = self.run(inputs, values)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            shapes = ", ".join("none" if x is None else str(x.shape) for x in inputs)
            finding = Finding(f"{error} (inputs of shape {shapes})", node=self.name, op=self.op)
            raise BackendError("a node of the model failed", [finding]) from error
        if any(self.outputs[len(results) :]):
            why = f"{len(self.outputs)} outputs, but the operator makes {len(results)}"
            finding = Finding(why, node=self.name, op=self.op)
            raise BackendError("a node of the model failed", [finding])
        made = zip(self.outputs, results, strict=False)
        values.update({name: result for name, result in made if name})
        for name in self.dead:
            del values[name]


@dataclass(frozen=True)
class Body:
    """The nodes of a graph or a function in order, and the constants among them."""

    steps: tuple[Step, ...]
    outputs: tuple[str, ...]
    constants: dict[str, Array]

    def free_names(self) -> set[str]:
        """Tensors that are read but not made by the body."""
        made = set(self.constants)
        free: set[str] = set()
        for step in self.steps:
            free.update(name for name in (*step.inputs, *step.captured) if name not in made)
            made.update(step.outputs)
        free.update(name for name in self.outputs if name not in made)
        return free - {""}

    def run(self, values: dict[str, Array]) -> list[Array]:
        """Execute all steps on ``values``, which is changed, and return the outputs."""
        values.update(self.constants)
        for step in self.steps:
            step.execute(values)
        return [values[name] for name in self.outputs]


def bind(node: onnx.NodeProto, bindings: Mapping[str, onnx.AttributeProto]) -> onnx.NodeProto:
    """The node with references to attributes of its function replaced by their values."""
    if not any(item.ref_attr_name or item.HasField("g") for item in node.attribute):
        return node
    bound = onnx.NodeProto()
    bound.CopyFrom(node)
    del bound.attribute[:]
    for item in node.attribute:
        if item.ref_attr_name:
            if item.ref_attr_name in bindings:
                value = bound.attribute.add()
                value.CopyFrom(bindings[item.ref_attr_name])
                value.name = item.name
            continue
        added = bound.attribute.add()
        added.CopyFrom(item)
        if item.HasField("g"):
            inner = [bind(child, bindings) for child in item.g.node]
            del added.g.node[:]
            added.g.node.extend(inner)
    return bound


def captured(node: onnx.NodeProto) -> set[str]:
    """Tensors of the outer graph that the subgraphs of a node read."""
    found: set[str] = set()
    for item in node.attribute:
        if not item.HasField("g"):
            continue
        made = {value.name for value in (*item.g.input, *item.g.initializer)}
        read = {value.name for value in item.g.output}
        for child in item.g.node:
            read.update(child.input)
            read.update(captured(child))
            made.update(child.output)
        found |= read - made
    return found - {""}


def mark_dead(steps: Sequence[Step], kept: set[str]) -> None:
    """Note at each step the tensors made before that nothing reads later."""
    made = {name for step in steps for name in step.outputs if name}
    seen = set(kept)
    for step in reversed(steps):
        used = {*step.inputs, *step.captured, *step.outputs} & made
        step.dead.extend(sorted(used - seen))
        seen |= used
