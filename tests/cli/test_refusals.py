"""What cannot be converted: all of it in one table, exit code 4, nothing written."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx2snn.cli import main

MAKE = helper.make_tensor_value_info


def branch(name, op):
    return helper.make_graph(
        [helper.make_node(op, ["x"], [f"{name}_out"], name=f"{name}_inner")],
        name, [], [MAKE(f"{name}_out", TensorProto.FLOAT, None)],
    )  # fmt: skip


def loop():
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["again"]),
         helper.make_node("Add", ["state", "state"], ["doubled"])],
        "body",
        [MAKE("i", TensorProto.INT64, []), MAKE("go", TensorProto.BOOL, []),
         MAKE("state", TensorProto.FLOAT, None)],
        [MAKE("again", TensorProto.BOOL, []), MAKE("doubled", TensorProto.FLOAT, None)],
    )  # fmt: skip
    return helper.make_node("Loop", ["three", "", "x"], ["looped"], name="loop", body=body)


NODES = {
    "data_if": [
        helper.make_node("ReduceSum", ["x"], ["sum"], name="sum", keepdims=0),
        helper.make_node("Cast", ["sum"], ["condition"], name="cast", to=TensorProto.BOOL),
        helper.make_node("If", ["condition"], ["chosen"], name="data_if",
                         then_branch=branch("yes", "Relu"), else_branch=branch("no", "Neg")),
    ],
    "loop": [loop()],
    "indices": [
        helper.make_node("MaxPool", ["x"], ["pooled", "where"], name="indices",
                         kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("MaxUnpool", ["pooled", "where"], ["unpooled"], name="unpool",
                         kernel_shape=[2, 2], strides=[2, 2]),
    ],
    "training": [helper.make_node("BatchNormalization", ["x", *"ssss"], ["normed"],
                                  name="training", training_mode=1)],
    "foreign": [helper.make_node("Magic", ["x"], ["magic"], name="foreign", domain="com.example")],
    "sequence": [
        helper.make_node("SequenceEmpty", [], ["empty"], name="sequence"),
        helper.make_node("SequenceInsert", ["empty", "x"], ["filled"], name="insert"),
        helper.make_node("SequenceLength", ["filled"], ["length"], name="length"),
    ],
    "optional": [
        helper.make_node("Optional", ["x"], ["perhaps"], name="optional"),
        helper.make_node("OptionalGetElement", ["perhaps"], ["element"], name="element"),
    ],
    "recurrent": [helper.make_node("LSTM", ["x3", "w", "r"], ["states"], name="recurrent",
                                   hidden_size=2)],
}  # fmt: skip
ADVICE = {
    "data_if": "control flow", "loop": "control flow", "indices": "without indices",
    "training": "model.eval()", "foreign": "ONNX function", "sequence": "torch.stack",
    "optional": "optional inputs", "recurrent": "convolutional part",
}  # fmt: skip


def network(names):
    nodes = [helper.make_node("Relu", ["input"], ["x"], name="relu"),
             helper.make_node("Flatten", ["x"], ["flat"], name="flat"),
             helper.make_node("Unsqueeze", ["flat", "zero"], ["x3"], name="x3")]  # fmt: skip
    outputs = [MAKE("x", TensorProto.FLOAT, ["N", 3, 4, 4])]
    for name in names:
        nodes += NODES[name]
        last = NODES[name][-1].output[0]
        kind = TensorProto.INT64 if name == "sequence" else TensorProto.FLOAT
        outputs.append(MAKE(last, kind, None))
    arrays = {
        "s": np.ones(3, np.float32), "zero": np.zeros(1, np.int64), "three": np.int64(3),
        "w": np.ones((1, 8, 48), np.float32), "r": np.ones((1, 8, 2), np.float32),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes, "bad", [MAKE("input", TensorProto.FLOAT, ["N", 3, 4, 4])], outputs,
        [numpy_helper.from_array(np.asarray(array), key) for key, array in arrays.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.example", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def words(text):
    return " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize("name", NODES)
def test_each_is_refused_with_its_reason(name, tmp_path, capsys):
    onnx.save(network([name]), tmp_path / "bad.onnx")
    assert main([str(tmp_path / "bad.onnx")]) == 4
    told = words(capsys.readouterr().err)
    assert name in told
    assert ADVICE[name].split()[0] in told
    assert [path.name for path in tmp_path.iterdir()] == ["bad.onnx"]


def test_all_are_in_one_table(tmp_path, capsys):
    onnx.save(network(NODES), tmp_path / "bad.onnx")
    assert main([str(tmp_path / "bad.onnx"), "-o", str(tmp_path / "out.onnx"), "--json"]) == 4
    printed = capsys.readouterr()
    assert not printed.out
    told = words(printed.err)
    for title in ("node", "operator", "reason", "what to do"):
        assert title in told
    assert "12 operators cannot be converted" in told
    for name, nodes in NODES.items():
        assert name in told
        assert nodes[-1].op_type in told
    assert [path.name for path in tmp_path.iterdir()] == ["bad.onnx"]


def test_an_if_on_shapes_and_unused_indices_are_no_reason():
    """Folded to its branch; an output that nobody reads is dropped."""
    import onnx2snn

    nodes = [
        helper.make_node("Conv", ["input", "k"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["x"], name="relu"),
        helper.make_node("Shape", ["x"], ["shape"], name="shape", start=1, end=2),
        helper.make_node("Equal", ["shape", "three"], ["condition"], name="equal"),
        helper.make_node("If", ["condition"], ["chosen"], name="static_if",
                         then_branch=branch("yes", "Abs"), else_branch=branch("no", "Neg")),
        helper.make_node("MaxPool", ["chosen"], ["pooled", "where"], name="pool",
                         kernel_shape=[2, 2]),
        helper.make_node("Conv", ["pooled", "k"], ["y"], name="last", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["y"], ["z"], name="out"),
    ]  # fmt: skip
    arrays = {"k": np.random.default_rng(0).normal(0, 0.3, (3, 3, 3, 3)).astype(np.float32),
              "three": np.array([3], np.int64)}  # fmt: skip
    graph = helper.make_graph(
        nodes, "net", [MAKE("input", TensorProto.FLOAT, ["N", 3, 6, 6])],
        [MAKE("z", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, key) for key, array in arrays.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    images = np.random.default_rng(1).standard_normal((8, 3, 6, 6)).astype(np.float32)
    spiking = onnx2snn.convert(model, calibration=images)
    assert [layer.op for layer in spiking.layers] == ["Relu", "Abs", "MaxPool", "Relu"]
