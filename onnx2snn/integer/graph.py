"""The network that is being rewritten: its nodes, arrays, shapes and signals."""

from collections.abc import Collection
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from onnx2snn.integer.signals import (
    Array,
    NoIntegerFormError,
    Quantised,
    Signal,
    compact,
    spread,
)
from onnx2snn.rewriting.classify import Placed, Role
from onnx2snn_runtime.feeds import MAX_TIMESTEPS
from onnx2snn_runtime.files.beside import array_of
from onnx2snn_runtime.naming import free_name
from onnx2snn_runtime.planning.plan import tensor_shape


class MissingSignalError(Exception):
    """An input has no signal, because its maker was refused."""


class IntegerGraph:
    """A float network whose nodes and arrays are replaced one by one.

    Attributes:
        arrays: stored arrays by name.
        placed: nodes in whole numbers.
        signals: tensor to its unit and bounds.
        quantised: tensors that become whole numbers; in whole numbers they have another name.
        timesteps: stateful node or readout to the steps that it is proven for.
        role: role of the node that is being rewritten.
    """

    def __init__(self, network: onnx.ModelProto, quantised: Collection[str]) -> None:
        self.network, self.quantised = network, quantised
        self.opset = next(item.version for item in network.opset_import if not item.domain)
        graph = network.graph
        self.given = {item.name: array_of(item) for item in graph.initializer}
        values = [*graph.value_info, *graph.input, *graph.output]
        self.shapes = {value.name: tensor_shape(value) for value in values}
        self.start()

    def start(self) -> None:
        """The network as it was given."""
        self.arrays: dict[str, Any] = dict(self.given)
        self.added_shapes: dict[str, tuple[int, ...]] = {}
        self.placed: list[Placed] = []
        self.signals: dict[str, Signal] = {}
        self.timesteps: dict[str, int] = {}
        self.role = Role.HEAD

    def read(self, node: NodeProto, index: int) -> Signal:
        """The signal of an input.

        Raises:
            MissingSignalError: the maker of the input was refused.
            NoIntegerFormError: with the reason and the advice.
        """
        name = node.input[index]
        if name in self.arrays:
            raise NoIntegerFormError("a constant among signals", "fold it into weights before")
        if name not in self.signals:
            raise MissingSignalError
        return self.signals[name]

    def constant(self, node: NodeProto, index: int) -> Array:
        """A stored array in float64."""
        array: Array = np.asarray(self.arrays[node.input[index]], np.float64)
        return array

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor for one image."""
        return (1, *(int(size) for size in self.shapes[name][1:]))

    def add_constant(self, wish: str, array: Any) -> str:
        """A new stored array; returns its name."""
        name = self.free(wish)
        self.arrays[name] = array
        return name

    def free(self, wish: str) -> str:
        """A name that no tensor has."""
        return free_name(wish, lambda item: item in self.arrays or item in self.shapes)

    def store(self, node: NodeProto, index: int, array: Array) -> None:
        """Give the node numbers of its own."""
        wish = f"{node.name}.{'weight' if index == 1 else 'bias'}.integer"
        name = self.add_constant(wish, np.ascontiguousarray(array, np.float32))
        if index == len(node.input):
            node.input.append(name)
        else:
            node.input[index] = name

    def weighed(self, node: NodeProto, found: Quantised, axis: int = 1) -> Signal:
        """The signal behind weights."""
        shape = self.shape(node.output[0])
        parts = (found.scale, found.low, found.high)
        return Signal(*(spread(part, shape, axis) for part in parts))

    def multiplied(self, node: str, source: str, factor: Array) -> str:
        """A tensor times an integer factor, for a node; the tensor itself where it is 1."""
        if (factor == 1).all():
            return source
        constant = self.add_constant(f"{node}.factor", factor.astype(np.float32))
        made = f"{source}.times.{constant}"
        shape = np.broadcast_shapes(self.signals[source].unit.shape, factor.shape)
        self.added_shapes[made] = shape
        role = Role.LINEAR if self.role is Role.POOL else self.role
        new = helper.make_node("Mul", [source, constant], [made], made)
        self.placed.append(Placed(new, role, (0,)))
        return made

    def prove(self, name: str, limit: int, bound: float) -> None:
        """Note for how many steps a sum over time holds."""
        self.timesteps[name] = min(MAX_TIMESTEPS, limit // max(1, int(bound)))

    @property
    def bounds(self) -> dict[str, float]:
        """Largest magnitude of every tensor in whole numbers."""
        return {name: s.bound for name, s in self.signals.items() if name not in self.quantised}

    @property
    def scales(self) -> dict[str, Any]:
        """Tensor to the real value of the integer 1, as short as it broadcasts."""
        return {name: compact(s.unit).astype(np.float32) for name, s in self.signals.items()}

    def model(self) -> onnx.ModelProto:
        """The float network with its nodes and arrays replaced, not a network to run by itself."""
        result = onnx.ModelProto()
        result.CopyFrom(self.network)
        graph = result.graph
        del graph.node[:]
        graph.node.extend(item.node for item in self.placed)
        del graph.initializer[:]
        graph.initializer.extend(
            numpy_helper.from_array(np.asarray(array), name) for name, array in self.arrays.items()
        )
        graph.value_info.extend(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape[1:]])
            for name, shape in self.added_shapes.items()
        )
        return result
