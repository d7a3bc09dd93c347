"""A spiking network as one ONNX Loop: the number of timesteps is an input, states are inside.

    head                     once, as in the ANN
    Loop(timesteps, states)  the step of the file; states start at zero
    tail                     once, on what the last step left

Any runtime runs it like an ordinary network, with no loop of its own to write.
"""

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from onnx2snn_runtime.errors import UsageError
from onnx2snn_runtime.files.beside import kept_alive
from onnx2snn_runtime.format import METADATA_KEY, NEXT, read_metadata
from onnx2snn_runtime.planning.plan import Plan, Segment, tensor_shape
from onnx2snn_runtime.planning.planner import make_plan

TIMESTEPS = "timesteps"
LOOP_KEY = METADATA_KEY + ".loop"  # not METADATA_KEY: this is no file of one step


def unroll_loop(model: onnx.ModelProto) -> onnx.ModelProto:
    """The whole network over time in one model.

    Args:
        model: a spiking network, one timestep.

    Returns:
        A model with the source's inputs and outputs, and an int64 scalar input ``timesteps`` whose
        default is what the converter recommends. The image stays the same at every step.

    Raises:
        ModelError: the model is no spiking network.
        UsageError: nothing spikes in it.
    """
    return _Unroller(model).write()


class _Unroller:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, self.graph = model, model.graph
        self.plan: Plan = make_plan(model)
        self.taken = {name for node in self.graph.node for name in (*node.input, *node.output)}
        self.taken.update(value.name for value in [*self.graph.input, *self.graph.output])
        self.taken.update(item.name for item in self.graph.initializer)
        values = [*self.graph.value_info, *self.graph.input, *self.graph.output]
        self.values = {value.name: value for value in values}
        if not self.plan.stateful:
            raise UsageError(
                "nothing spikes in this network: there is nothing to repeat over time",
                advice="the file is the network itself, run it once",
            )
        following = {output.name for output in self.graph.output}
        self.states = [v for v in self.graph.input if v.name + NEXT in following]
        self.before: list[NodeProto] = []
        self.initializers = list(self.graph.initializer)
        self.batch = ""

    def unique(self, wish: str) -> str:
        """A tensor name that nothing else has."""
        while wish in self.taken:
            wish += "_"
        self.taken.add(wish)
        return wish

    def write(self) -> onnx.ModelProto:
        timesteps = self.unique(TIMESTEPS)
        recommended = int(read_metadata(self.model).get("recommended_t") or 8)
        self.initializers.append(
            numpy_helper.from_array(np.array(recommended, np.int64), timesteps)
        )
        head, tail = nodes_of(self.plan.head), nodes_of(self.plan.tail)
        once = {name for node in [*head, *tail] for name in node.output}
        body = [node for node in self.graph.node if not once & set(node.output)]
        handed = self.handed_on(body, tail)

        carried = [*self.states, *(self.values_of(name) for name in handed)]
        starts = [self.zeros(value) for value in carried]
        names = [value.name for value in self.states] + [self.unique(f"{n}.so_far") for n in handed]
        results = [self.unique(f"{value.name}.last") for value in self.states]
        inner = {name: self.unique(f"{name}.step") for name in handed}
        loop = helper.make_node(
            "Loop",
            [timesteps, "", *starts],
            [*results, *handed],
            name=self.unique("over_time"),
            body=self.loop_body(body, carried, names, inner),
        )
        graph = helper.make_graph(
            [*self.before, *head, loop, *tail],
            self.graph.name or "snn",
            [
                *(v for v in self.graph.input if v.name in self.plan.inputs),
                helper.make_tensor_value_info(timesteps, TensorProto.INT64, []),
            ],
            [v for v in self.graph.output if v.name in self.plan.outputs],
            self.initializers,
        )
        return self.finish(graph)

    def handed_on(self, body: Iterable[NodeProto], tail: Iterable[NodeProto]) -> list[str]:
        """Tensors of the step that the tail or the caller reads, in order."""
        made = [name for node in body for name in node.output]
        wanted = {name for node in tail for name in node.input} | set(self.plan.outputs)
        return [name for name in made if name in wanted]

    def values_of(self, name: str) -> ValueInfoProto:
        """Type and shape of a tensor, float where the file does not say."""
        if name in self.values:
            known: ValueInfoProto = self.values[name]
            return known
        shape = self.plan.shapes.get(name)
        value: ValueInfoProto = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        return value

    def zeros(self, value: ValueInfoProto) -> str:
        """A tensor of zeros of this type and shape, with the batch of the images."""
        shape, start = tensor_shape(value), self.unique(f"{value.name}.start")
        kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        sizes = [size for size in shape if isinstance(size, int)]
        if len(sizes) == len(shape):
            self.initializers.append(numpy_helper.from_array(np.zeros(sizes, kind), start))
            return start
        if not self.batch:
            self.batch = self.unique("batch")
            image = next(iter(self.plan.inputs))
            self.before.append(helper.make_node("Shape", [image], [self.batch], start=0, end=1))
        parts = []
        for size in shape:
            if isinstance(size, str):
                parts.append(self.batch)
            else:
                parts.append(self.unique(f"{value.name}.size"))
                self.initializers.append(numpy_helper.from_array(np.array([size]), parts[-1]))
        whole = self.unique(f"{value.name}.shape")
        self.before += [
            helper.make_node("Concat", parts, [whole], axis=0),
            helper.make_node("ConstantOfShape", [whole], [start],
                             value=numpy_helper.from_array(np.zeros(1, kind))),
        ]  # fmt: skip
        return start

    def loop_body(
        self,
        body: list[NodeProto],
        carried: list[ValueInfoProto],
        names: list[str],
        inner: dict[str, str],
    ) -> onnx.GraphProto:
        """One step: states in, states out, and what is handed on."""
        nodes = []
        for node in body:
            renamed = NodeProto()
            renamed.CopyFrom(node)
            for tensors in (renamed.input, renamed.output):
                for index, name in enumerate(tensors):
                    tensors[index] = inner.get(name, name)
            nodes.append(renamed)
        count, going, goes_on = (self.unique(name) for name in ("iteration", "going", "goes_on"))
        nodes.append(helper.make_node("Identity", [going], [goes_on]))
        outputs = [value.name + NEXT for value in self.states] + list(inner.values())
        return helper.make_graph(
            nodes,
            "step",
            [
                helper.make_tensor_value_info(count, TensorProto.INT64, []),
                helper.make_tensor_value_info(going, TensorProto.BOOL, []),
                *(retitled(value, name) for value, name in zip(carried, names, strict=True)),
            ],
            [
                helper.make_tensor_value_info(goes_on, TensorProto.BOOL, []),
                *(retitled(value, name) for value, name in zip(carried, outputs, strict=True)),
            ],
        )

    def finish(self, graph: onnx.GraphProto) -> onnx.ModelProto:
        model = helper.make_model(
            graph,
            opset_imports=list(self.model.opset_import),
            functions=list(self.model.functions),
            producer_name=self.model.producer_name,
            ir_version=self.model.ir_version,
        )
        for entry in self.model.metadata_props:
            key = LOOP_KEY if entry.key == METADATA_KEY else entry.key
            model.metadata_props.add(key=key, value=entry.value)
        if not kept_alive(model):  # the checker knows no weights beside a message
            onnx.checker.check_model(model, full_check=model.ByteSize() < 2**31)
        return model


def nodes_of(segment: Segment | None) -> list[NodeProto]:
    """Nodes of a part of the plan."""
    return list(segment.model.graph.node) if segment else []


def retitled(value: ValueInfoProto, name: str) -> ValueInfoProto:
    """The same type and shape under another name."""
    copy = ValueInfoProto()
    copy.CopyFrom(value)
    copy.name = name
    return copy
