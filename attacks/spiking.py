"""Hostile ``.snn.onnx`` files: spiking networks that lie about themselves."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from attacks.base import TUNED, good_data, put, spiking
from attacks.registry import table

DOMAIN = "ai.onnx2snn"
Change = Callable[[onnx.ModelProto], Any]
node = helper.make_node


def fast(folder: Path, change: Change) -> Sequence[Any]:
    """Run the network of the recipe ``fast`` after a change."""
    return run(folder, change, "fast")


def refine(folder: Path, change: Change) -> Sequence[Any]:
    """Run the network of the recipe ``refine`` after a change."""
    return run(folder, change, "refine")


def tuned(folder: Path, change: Change) -> Sequence[Any]:
    """Run a network as the tuner sets it, after a change."""
    return run(folder, change, TUNED)


def run(folder: Path, change: Change, recipe: str) -> Sequence[Any]:
    """Run a network after a change."""
    model = spiking(recipe)
    change(model)
    return ["run", put(folder / "hostile.snn.onnx", model), good_data(folder), "-T", "2"]


def of(model: onnx.ModelProto, kind: str, which: int = 0) -> onnx.NodeProto:
    """A spiking node by its function."""
    return [item for item in model.graph.node if item.op_type.startswith(kind)][which]


def number(kind: str, name: str, value: Any) -> Change:
    """Set an attribute of the first node of a kind, or remove it: None."""

    def change(model: onnx.ModelProto) -> None:
        found = of(model, kind)
        kept = [item for item in found.attribute if item.name != name]
        del found.attribute[:]
        found.attribute.extend(kept)
        if value is not None:
            found.attribute.append(helper.make_attribute(name, value))

    return change


def threshold(values: Any, dtype: type = np.float32) -> Change:
    """Replace the first threshold."""
    return stored("BurstIF", 1, values, dtype)


def stored(kind: str, position: int, values: Any, dtype: type = np.float32) -> Change:
    """Replace the weight at an input of the first spiking node of a kind."""

    def change(model: onnx.ModelProto) -> None:
        name = of(model, kind).input[position]
        tensor = next(item for item in model.graph.initializer if item.name == name)
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(values, dtype), name))

    return change


def resize(name: str, *sizes: int | str, both: bool = True) -> Change:
    """State another shape of a state."""

    def change(model: onnx.ModelProto) -> None:
        ends = (name, f"{name}.next") if both else (name,)
        for value in [*model.graph.input, *model.graph.output]:
            if value.name in ends:
                kind = value.type.tensor_type.elem_type
                made = helper.make_tensor_value_info(value.name, kind, list(sizes))
                value.CopyFrom(made)

    return change


def retype(name: str, kind: int) -> Change:
    """State another element type of an input or output."""

    def change(model: onnx.ModelProto) -> None:
        for value in [*model.graph.input, *model.graph.output]:
            if value.name == name:
                value.type.tensor_type.elem_type = kind

    return change


def rename_output(index: int, name: str) -> Change:
    """Rename an output of the first neuron, and the graph's output with it."""

    def change(model: onnx.ModelProto) -> None:
        found = of(model, "BurstIF")
        before, found.output[index] = found.output[index], name
        for value in model.graph.output:
            if value.name == before:
                value.name = name

    return change


def drop_output(name: str) -> Change:
    """Remove a graph output."""

    def change(model: onnx.ModelProto) -> None:
        kept = [value for value in model.graph.output if value.name != name]
        del model.graph.output[:]
        model.graph.output.extend(kept)

    return change


def rewire(kind: str, position: int, name: str, which: int = 0) -> Change:
    """Let a node read another tensor."""
    return lambda model: of(model, kind, which).input.__setitem__(position, name)


def body(change_of: Callable[[onnx.FunctionProto], Any], name: str = "BurstIF") -> Change:
    """Change the body of a function."""

    def change(model: onnx.ModelProto) -> None:
        change_of(next(item for item in model.functions if item.name == name))

    return change


def metadata(text: str | Callable[[dict[str, Any]], Any]) -> Change:
    """Replace or change the document."""

    def change(model: onnx.ModelProto) -> None:
        entry = next(item for item in model.metadata_props if item.key == "onnx2snn")
        if callable(text):
            document = json.loads(entry.value) if entry.value else {}
            text(document)
            entry.value = json.dumps(document)
        else:
            entry.value = text

    return with_metadata(change)


def with_metadata(change: Change) -> Change:
    """The network kept in memory has its document already; make sure."""

    def after(model: onnx.ModelProto) -> None:
        if not any(item.key == "onnx2snn" for item in model.metadata_props):
            model.metadata_props.add(key="onnx2snn", value='{"format_version": 1}')
        change(model)

    return after


def swap_states(model: onnx.ModelProto) -> None:
    """Two states that take each other's next value."""
    found = of(model, "BurstIF")
    found.output[1], found.output[2] = found.output[2], found.output[1]


def share_states(model: onnx.ModelProto) -> None:
    """Two neurons on one state."""
    first, second = of(model, "BurstIF"), of(model, "BurstIF", 1)
    second.input[2], second.input[3] = first.input[2], first.input[3]


def orphan_state(model: onnx.ModelProto) -> None:
    """A state that belongs to no node."""
    value = helper.make_tensor_value_info
    model.graph.input.append(value("ghost", TensorProto.FLOAT, ["N", 10**6]))
    model.graph.output.append(value("ghost.next", TensorProto.FLOAT, ["N", 10**6]))
    model.graph.node.append(node("Identity", ["ghost"], ["ghost.next"], "keep"))


def reads_state(model: onnx.ModelProto) -> None:
    """A standard operator that reads a state."""
    found = of(model, "BurstIF")
    model.graph.node.insert(0, node("Neg", [found.input[2]], ["peek"], "peek"))
    model.graph.node.append(node("Neg", ["peek"], ["peeked"], "peeked"))


def foreign_function(model: onnx.ModelProto) -> None:
    """A function that nobody calls."""
    opsets = [helper.make_opsetid("", 18)]
    made = helper.make_function("evil", "F", ["i"], ["o"], [node("Neg", ["i"], ["o"])], opsets)
    model.functions.append(made)
    model.opset_import.append(helper.make_opsetid("evil", 1))


def shadows_standard(model: onnx.ModelProto) -> None:
    """A function that takes the place of Conv."""
    opsets = [helper.make_opsetid("", 18)]
    inner = [node("Neg", ["i"], ["o"])]
    model.functions.append(helper.make_function("", "Conv", ["i"], ["o"], inner, opsets))


def state_bomb(model: onnx.ModelProto) -> None:
    """An input so large that the states take terabytes."""
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        sizes = value.type.tensor_type.shape.dim
        if len(sizes) == 4:
            sizes[2].dim_value = sizes[3].dim_value = 2**20


def two_clocks(model: onnx.ModelProto) -> None:
    """A second count of steps."""
    tick = onnx.NodeProto()
    tick.CopyFrom(of(model, "Tick"))
    tick.name, tick.input[0], tick.output[0] = "tick2", "step2", "step2.next"
    model.graph.node.insert(1, tick)
    for name, values in (("step2", model.graph.input), ("step2.next", model.graph.output)):
        values.append(helper.make_tensor_value_info(name, TensorProto.INT64, []))


def reversed_nodes(model: onnx.ModelProto) -> None:
    """Nodes that come before what they read."""
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def long_document(model: onnx.ModelProto) -> None:
    """Metadata of 17 MiB."""
    next(i for i in model.metadata_props if i.key == "onnx2snn").value = '"' + "a" * (17 * 2**20)


FAST: dict[str, tuple[Change, str]] = {
    "threshold zero": (threshold(0.0), "positive and finite"),
    "threshold negative": (threshold(-1.0), "positive and finite"),
    "threshold NaN": (threshold(np.nan), "NaN"),
    "threshold infinite": (threshold(np.inf), "infinite"),
    "threshold empty": (threshold(np.zeros((0,))), "positive and finite: 0 of 0"),
    "threshold one of many zero": (threshold(np.array([[[1.0]], [[0]], [[1]]])), "1 of 3"),
    "threshold of another shape": (threshold(np.ones(5)), "threshold of shape [5]"),
    "threshold of higher rank": (threshold(np.ones((2, 1, 1, 1, 1))), "threshold of shape"),
    "threshold float64": (threshold(1.0, np.float64), "must be float32"),
    "threshold from the network": (rewire("BurstIF", 1, "x"), "threshold must be stored"),
    "burst_limit zero": (number("BurstIF", "burst_limit", 0.0), "burst_limit must be"),
    "burst_limit negative": (number("BurstIF", "burst_limit", -5.0), "burst_limit must be"),
    "burst_limit NaN": (number("BurstIF", "burst_limit", float("nan")), "burst_limit must be"),
    "burst_limit 10^30": (number("BurstIF", "burst_limit", 1e30), "burst_limit must be"),
    "burst_limit 2.5": (number("BurstIF", "burst_limit", 2.5), "a whole number"),
    "burst_limit missing": (number("BurstIF", "burst_limit", None), "lacks the attributes"),
    "burst_limit text": (number("BurstIF", "burst_limit", "many"), "burst_limit must be"),
    "burst_limit list": (number("BurstIF", "burst_limit", [1.0, 2.0]), "burst_limit must be"),
    "lower_limit above zero": (number("BurstIF", "lower_limit", 3.0), "lower_limit must be"),
    "lower_limit 10^9 below": (number("BurstIF", "lower_limit", -60000.0), "below -burst_limit"),
    "v0 7": (number("BurstIF", "v0", 7.0), "v0 must be"),
    "v0 infinite": (number("BurstIF", "v0", float("inf")), "v0 must be"),
    "rounding 2": (number("BurstIF", "rounding", 2.0), "rounding must be"),
    "moving empty": (number("BurstIF", "moving", [0, 0]), "moving [0, 0]"),
    "moving out of range": (number("BurstIF", "moving", [10**9]), "too few"),
    "moving negative": (number("BurstIF", "moving", [-1]), "too few"),
    "moving text": (number("BurstIF", "moving", "x"), "moving"),
    "moving missing": (number("BurstIF", "moving", None), "'moving'"),
    "family unknown": (number("BurstIF", "family", "Evil"), "no known family"),
    "family a number": (number("BurstIF", "family", 3), "no known family"),
    "op unknown": (number("BurstIF", "op", "System"), "too few"),
    "op another": (number("BurstIF", "op", "Sigmoid"), ""),
    "kernel of 2^40": (number("LIPool", "kernel_shape", [2**40, 2**40]), ""),
    "pool stride zero": (number("LIPool", "strides", [0, 0]), ""),
    "name missing": (lambda m: setattr(of(m, "BurstIF"), "name", ""), "a name of its own"),
    "name twice": (lambda m: setattr(of(m, "BurstIF"), "name", "relu2"), "a name of its own"),
    "overload": (lambda m: setattr(of(m, "BurstIF"), "overload", "x"), "describe"),
    "states swapped": (swap_states, "do not pair"),
    "states shared": (share_states, "do not pair"),
    "state of no node": (orphan_state, "ghost"),
    "state read by another": (reads_state, "only spiking nodes may read a state"),
    "state without next": (drop_output("relu1.spikes.next"), "is no state"),
    "next of another name": (rename_output(1, "other.next"), "do not pair"),
    "state shape lies": (resize("relu1.spikes", "N", 3, 8, 9), "[?,3,8,9]"),
    "state shape broadcasts": (resize("relu1.spikes", "N", 1, 1, 1), "[?,1,1,1]"),
    "state shape on one side": (resize("relu1.spikes", "N", 3, 4, 4, both=False), "[?,3,4,4]"),
    "state shape huge": (resize("relu1.spikes", "N", 2**31, 2**31), ""),
    "state shape negative": (resize("relu1.spikes", "N", -3, 8, 8), ""),
    "state without batch": (resize("relu1.spikes", 1, 3, 8, 8), "[N, numbers"),
    "state without sizes": (resize("relu1.spikes", "N", "C", "H", "W"), "[N, numbers"),
    "state of strings": (retype("relu1.spikes", TensorProto.STRING), "a state must be FLOAT"),
    "states of terabytes": (state_bomb, "the limit is"),
    "clock of a million": (resize("step", 10**6), "one number"),
    "two clocks": (two_clocks, "2 clocks"),
    "clock missing": (rewire("Readout", 1, "x"), "needs the clock"),
    "input of int64": (retype("x", TensorProto.INT64), "not float32"),
    "input without axes": (resize("x"), "without a batch axis"),
    "input of another size": (resize("x", "N", 1, 99, 99), "is in truth"),
    "output lies": (resize("y", "N", 10**9), "[?,1000000000]"),
    "no answer": (drop_output("y"), "no input or no output"),
    "output twice": (lambda m: m.graph.output.append(m.graph.output[0]), "the same name"),
    "body changed": (
        body(lambda f: setattr(f.node[-1], "op_type", "Div")),
        "is not the law that this version computes",
    ),
    "body empty": (body(lambda f: f.ClearField("node")), ""),
    "body with more": (body(lambda f: f.node.append(node("Neg", ["y"], ["z"]))), "is not the law"),
    "body of 10,000 nodes": (
        body(lambda f: f.node.extend([node("Neg", ["y"], [f"z{i}"]) for i in range(10_000)])),
        "is not the law",
    ),
    "function missing": (lambda m: m.functions.pop(), "is missing"),
    "function twice": (lambda m: m.functions.append(m.functions[0]), "more than once"),
    "function of another": (foreign_function, "none of ours"),
    "function over Conv": (shadows_standard, "none of ours"),
    "nodes in reverse": (reversed_nodes, "order of execution"),
    "operator of another domain": (
        lambda m: setattr(of(m, "Conv"), "domain", "evil.corp"), "evil.corp"),
    "unknown standard operator": (lambda m: setattr(of(m, "Flatten"), "op_type", "Frob"), "Frob"),
    "moving input is a weight": (rewire("BurstIF", 0, "conv1.w"), "must come from the network"),
    "moving input is a state": (rewire("BurstIF", 0, "relu2.spikes"), "must come from the network"),
    "metadata no JSON": (metadata("{"), "not valid JSON"),
    "metadata a list": (metadata("[]"), "must be a JSON object"),
    "metadata nested 100,000 deep": (metadata("[" * 100_000), "not valid JSON"),
    "metadata with NaN": (metadata('{"v": NaN}'), "no number of JSON"),
    "metadata with a huge number": (metadata('{"v": ' + "9" * 10_000 + "}"), "not valid JSON"),
    "metadata of 17 MiB": (with_metadata(long_document), "the limit is"),
    "metadata twice": (
        with_metadata(lambda m: m.metadata_props.add(key="onnx2snn", value="{}")),
        "2 metadata documents",
    ),
    "format of the future": (metadata(lambda d: d.update(format_version=99)), "upgrade onnx2snn"),
    "format a text": (metadata(lambda d: d.update(format_version="1")), "format_version"),
    "recommended T of 10^9": (metadata(lambda d: d.update(recommended_t=10**9)), "recommended_t"),
    "recommended T negative": (metadata(lambda d: d.update(recommended_t=-1)), "recommended_t"),
    "recommended T a text": (metadata(lambda d: d.update(recommended_t="8")), "recommended_t"),
    "recipe a list": (metadata(lambda d: d.update(recipe=[])), "recipe: expected"),
    "recipe lies": (metadata(lambda d: d.update(recipe={"burst_limit": 3})), "burst limit of 3"),
    "layers lie": (metadata(lambda d: d.update(layers=[{"name": "none"}])), "'none'"),
    "layers of text": (metadata(lambda d: d.update(layers=["a"])), "layers[0]: expected"),
    "preprocessing a text": (metadata(lambda d: d.update(preprocessing="x")), "preprocessing"),
    "preprocessing divides by zero": (
        metadata(lambda d: d.update(preprocessing={"std": [0.0]})), "preprocessing"),
}  # fmt: skip
table("spiking", 3, FAST, fast)

REFINE: dict[str, tuple[Change, str]] = {
    "lowest -10^9": (number("Refine", "lowest", -1e9), "lowest must be"),
    "highest 10^9": (number("Refine", "highest", 1e9), "highest must be"),
    "lowest NaN": (number("Refine", "lowest", float("nan")), "lowest must be"),
    "growth negative": (number("Refine", "growth", -1.0), "growth must be"),
    "decay 10^6": (number("Refine", "decay", 1e6), "decay must be"),
    "range empty": (number("Refine", "high", -1.0), "is empty"),
    "range NaN": (number("Refine", "low", float("nan")), "low must be"),
    "exponent shape lies": (resize("relu1.exponent", "N", 3, 1, 1), "[?,3,1,1]"),
}
table("refining", 3, REFINE, refine)

TUNED_TABLE: dict[str, tuple[Change, str]] = {
    "start NaN": (stored("RefineFrom", 2, np.nan), "NaN"),
    "start below the range": (stored("RefineFrom", 2, -1.0), "starts must lie in 0.."),
    "start empty": (stored("RefineFrom", 2, np.zeros(0)), "0 of 0"),
    "start of another shape": (stored("RefineFrom", 2, np.ones(5)), "a start of shape [5]"),
    "start float64": (stored("RefineFrom", 2, 0.5, np.float64), "must be float32"),
    "start from the network": (rewire("RefineFrom", 2, "x"), "the start must be stored"),
    "threshold zero": (stored("RefineFrom", 1, 0.0), "positive and finite"),
    "clock missing": (rewire("RefineFrom", 3, "x"), "needs the clock"),
}
table("tuned", 3, TUNED_TABLE, tuned)
