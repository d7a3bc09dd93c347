"""Runs a stateless ONNX model node by node on an array module.

Default-domain operators come from the registry in ``ops``; one that is not there is run by the
reference implementation that the onnx package brings, one node at a time. Calls of model-local
functions execute the function's body.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from onnx2snn_runtime.errors import (
    DataError,
    Finding,
    ModelError,
    UnsupportedError,
)
from onnx2snn_runtime.files.beside import array_of
from onnx2snn_runtime.ops import OPERATORS, Array, Call
from onnx2snn_runtime.program import Body, Run, Step, bind, captured, mark_dead

DEFAULT_DOMAINS = ("", "ai.onnx")
OLDEST_OPSET = 18
Replacement = Callable[[Call], Callable[..., Any]]
"""Makes, for one node, a function with the arguments of a function of the registry."""
NOTHING: Mapping[str, Replacement] = MappingProxyType({})


class Interpreter:
    """A stateless model, ready to be called on arrays.

    Args:
        model: the model, with the weights loaded.
        xp: the array module to compute on, ``numpy`` or ``cupy``.
        replaced: by operator name, what makes another function of a node than the registry has.

    Raises:
        UnsupportedError: nodes that cannot be run, all of them.
        ModelError: the model is broken: an unreadable weight, a tensor that nothing makes.
    """

    def __init__(
        self, model: onnx.ModelProto, xp: Any = np, replaced: Mapping[str, Replacement] = NOTHING
    ) -> None:
        compiler = _Compiler(model, xp, replaced)
        graph = model.graph
        self.xp = xp
        self.outputs = tuple(value.name for value in graph.output)
        self.weights = {item.name: compiler.weight(item) for item in graph.initializer}
        self.inputs = tuple(value.name for value in graph.input if value.name not in self.weights)
        opset = _opset(model.opset_import)
        self.body = compiler.body(graph.node, self.outputs, opset, {})
        compiler.finish()
        given = {*self.weights, *(value.name for value in graph.input)}
        missing = sorted(self.body.free_names() - given)
        if missing:
            raise ModelError(f"nothing in the model makes the tensors {', '.join(missing)}")

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model.

        Args:
            feeds: an array for every input by name.

        Returns:
            The outputs by name, in the order of the model.

        Raises:
            DataError: an input is not fed.
            BackendError: a node failed.
        """
        missing = [name for name in self.inputs if name not in feeds]
        if missing:
            raise DataError(f"no array was given for the inputs {', '.join(missing)}")
        values = dict(self.weights)
        values.update({name: self.xp.asarray(array) for name, array in feeds.items()})
        with np.errstate(all="ignore"):
            results = self.body.run(values)
        return dict(zip(self.outputs, results, strict=True))


class _Compiler:
    """Decodes nodes into steps, and collects everything that cannot be run."""

    def __init__(
        self, model: onnx.ModelProto, xp: Any, replaced: Mapping[str, Replacement]
    ) -> None:
        self.model = model
        self.xp = xp
        self.replaced = replaced
        self.functions = {(item.domain, item.name): item for item in model.functions}
        self.findings: list[Finding] = []
        self.calls: list[tuple[str, str]] = []

    def finish(self) -> None:
        """Refuse the model if anything in it cannot be run."""
        if self.findings:
            raise UnsupportedError("the model holds nodes that cannot be run", self.findings)

    def weight(self, tensor: onnx.TensorProto) -> Array:
        """An initializer as an array."""
        try:
            return self.xp.asarray(array_of(tensor))
        except (OSError, TypeError, ValueError) as error:
            raise ModelError(f"the weights {tensor.name!r} cannot be read: {error}") from error

    def body(
        self,
        nodes: Sequence[onnx.NodeProto],
        outputs: tuple[str, ...],
        opset: int,
        bindings: Mapping[str, onnx.AttributeProto],
    ) -> Body:
        """Decode nodes; ``bindings`` are the attributes of the function they belong to."""
        steps: list[Step] = []
        constants: dict[str, Array] = {}
        if opset < OLDEST_OPSET and any(node.domain in DEFAULT_DOMAINS for node in nodes):
            why = f"the operator set {opset} is older than {OLDEST_OPSET}"
            self.findings.append(Finding(why, "convert the model to a newer one first"))
            return Body((), (), {})
        for node in nodes:
            bound = bind(node, bindings)
            run = self.step(bound, opset)
            if run is None:
                continue
            if bound.op_type == "Constant" and bound.domain in DEFAULT_DOMAINS:
                constants[bound.output[0]] = run((), {})[0]
                continue
            label = bound.name or (bound.output[0] if bound.output else "")
            steps.append(
                Step(
                    label,
                    bound.op_type,
                    tuple(bound.input),
                    tuple(bound.output),
                    tuple(sorted(captured(bound))),
                    run,
                )
            )
        mark_dead(steps, {*outputs, *constants})
        return Body(tuple(steps), outputs, constants)

    def step(self, node: onnx.NodeProto, opset: int) -> Run | None:
        """How a node is run, or None with a finding if it cannot be."""
        key = (node.domain, node.op_type)
        if key in self.functions:
            return self.function_call(node, self.functions[key])
        if node.domain not in DEFAULT_DOMAINS:
            self.refuse(node, f"unknown domain {node.domain!r}")
            return None
        if node.op_type in OPERATORS:
            return self.registered(node, opset)
        return self.reference(node, opset)

    def refuse(self, node: onnx.NodeProto, why: str) -> None:
        """Note that a node cannot be run."""
        domain = f"{node.domain}::" if node.domain not in DEFAULT_DOMAINS else ""
        label = node.name or (node.output[0] if node.output else "")
        self.findings.append(Finding(why, node=label, op=domain + node.op_type))

    def registered(self, node: onnx.NodeProto, opset: int) -> Run:
        """An operator of the registry."""
        attributes = {item.name: _decode(item) for item in node.attribute}
        outputs = max((i + 1 for i, name in enumerate(node.output) if name), default=1)
        call = Call(self.xp, attributes, opset, outputs)
        function, xp = OPERATORS[node.op_type].function, self.xp
        if node.op_type in self.replaced:
            function = self.replaced[node.op_type](call)

        def run(inputs: Sequence[Array | None], values: Mapping[str, Array]) -> Sequence[Array]:
            del values
            results = function(call, *inputs)
            results = results if isinstance(results, tuple) else (results,)
            return [xp.asarray(result) for result in results]

        return run

    def function_call(self, node: onnx.NodeProto, function: onnx.FunctionProto) -> Run | None:
        """A call of a model-local function, with its attributes filled in."""
        key = (function.domain, function.name)
        if key in self.calls:
            self.refuse(node, "the function calls itself")
            return None
        bindings = {item.name: item for item in function.attribute_proto}
        bindings.update({item.name: item for item in node.attribute})
        self.calls.append(key)
        refused = len(self.findings)
        opset = _opset(function.opset_import or self.model.opset_import)
        body = self.body(function.node, tuple(function.output), opset, bindings)
        self.calls.pop()
        names = tuple(function.input)
        missing = sorted(body.free_names() - set(names))
        if missing and len(self.findings) == refused:
            self.refuse(node, f"nothing in the function makes {', '.join(missing)}")

        def run(inputs: Sequence[Array | None], values: Mapping[str, Array]) -> Sequence[Array]:
            del values
            tensors = dict.fromkeys(names)  # an optional input that is left out stays None
            tensors.update(zip(names, inputs, strict=False))
            return body.run(tensors)

        return run

    def reference(self, node: onnx.NodeProto, opset: int) -> Run | None:
        """One node as a model of its own, run by the reference implementation."""
        inputs = [name for name in dict.fromkeys(node.input) if name]
        outer = [name for name in sorted(captured(node)) if name not in inputs]
        values = [onnx.ValueInfoProto(name=name) for name in (*inputs, *outer)]
        outputs = [name for name in node.output if name]
        graph = onnx.helper.make_graph(
            [node], "one_node", values, [onnx.ValueInfoProto(name=name) for name in outputs]
        )
        opsets = [item for item in self.model.opset_import if item.domain not in DEFAULT_DOMAINS]
        model = onnx.helper.make_model(
            graph,
            opset_imports=[onnx.helper.make_opsetid("", opset), *opsets],
            functions=list(self.model.functions),
            ir_version=self.model.ir_version,
        )
        try:
            evaluator = ReferenceEvaluator(model)
        except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            self.refuse(node, f"no implementation: {str(error).splitlines()[0]}")
            return None
        xp = self.xp

        def run(arrays: Sequence[Array | None], visible: Mapping[str, Array]) -> Sequence[Array]:
            feeds = dict(zip(node.input, arrays, strict=True))
            feeds.update({name: visible[name] for name in outer})
            on_host = {name: _to_host(array) for name, array in feeds.items() if name}
            made = dict(zip(outputs, evaluator.run(None, on_host), strict=True))
            return [xp.asarray(made[name]) if name else None for name in node.output]

        return run


def _opset(imports: Iterable[onnx.OperatorSetIdProto]) -> int:
    """Version of the default operator set."""
    return max((item.version for item in imports if item.domain in DEFAULT_DOMAINS), default=0)


def _to_host(array: Array) -> Any:
    return array.get() if hasattr(array, "get") else np.asarray(array)


def _decode(attribute: onnx.AttributeProto) -> Any:
    """An attribute as Python values and NumPy arrays."""
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return value


__all__ = ["Interpreter", "Replacement"]
