"""What the interpreter does around the operators: functions, fallback, memory, errors."""

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from onnx2snn_runtime.errors import BackendError, DataError, ModelError, UnsupportedError
from onnx2snn_runtime.interpreter import Interpreter


def parsed(text: str, opset: int = 20) -> onnx.ModelProto:
    """A model from its graph in the ONNX text format, functions behind it."""
    header = f'<ir_version: 10, opset_import: ["": {opset}, "local": 1, "strange": 1]>'
    return onnx.parser.parse_model(header + text)


FUNCTIONS = """
agraph (float[N, 3] x) => (float[N, 3] y, float[N, 3] z) {
    y = local.scaled <factor = 3.0> (x)
    z = local.twice (x)
}
<opset_import: ["": 20, "local": 1], domain: "local">
scaled <factor: float = 2.0> (x, left_out) => (y) {
    c = Constant <value_float: float = @factor> ()
    y = Mul (x, c)
}
<opset_import: ["": 20, "local": 1], domain: "local">
twice (x) => (y) {
    y = local.scaled (x)
}
"""


def test_functions_with_attributes_defaults_and_omitted_inputs():
    x = np.ones((2, 3), dtype=np.float32)
    results = Interpreter(parsed(FUNCTIONS))({"x": x})
    assert list(results) == ["y", "z"]
    np.testing.assert_array_equal(results["y"], 3 * x)
    np.testing.assert_array_equal(results["z"], 2 * x)


def test_a_function_that_calls_itself_is_refused():
    model = parsed("""
        agraph (float[N] x) => (float[N] y) { y = local.again (x) }
        <opset_import: ["": 20, "local": 1], domain: "local">
        again (x) => (y) { y = local.again (x) }
    """)
    with pytest.raises(UnsupportedError, match="calls itself"):
        Interpreter(model)


def test_operators_outside_of_the_registry_run_on_the_reference():
    model = parsed("""
        agraph (float[N] x, bool b) => (float[K] values, int64[K] indices, float[N] chosen) {
            k = Constant <value_ints: ints = [2]> ()
            doubled = Add (x, x)
            values, indices = TopK (doubled, k)
            chosen = If (b) <
                then_branch = g1 () => (float[N] out1) { out1 = Add (doubled, x) },
                else_branch = g2 () => (float[N] out2) { out2 = Identity (x) }
            >
        }
    """)
    x = np.array([1, 5, 3], dtype=np.float32)
    results = Interpreter(model)({"x": x, "b": np.array(True)})
    np.testing.assert_array_equal(results["values"], [10, 6])
    np.testing.assert_array_equal(results["indices"], [1, 2])
    np.testing.assert_array_equal(results["chosen"], 3 * x)


def test_all_unknown_nodes_are_listed():
    model = parsed("""
        agraph (float[N] x) => (float[N] y) {
            [first] a = strange.Blur (x)
            [second] b = Relu (a)
            [third] y = NoSuchOperator (b)
        }
    """)
    with pytest.raises(UnsupportedError) as caught:
        Interpreter(model)
    found = [(item.node, item.op) for item in caught.value.findings]
    assert found == [("first", "strange::Blur"), ("third", "NoSuchOperator")]


def test_an_old_operator_set_is_refused_once():
    model = parsed("agraph (float[N] x) => (float[N] y) { a = Relu(x) \n y = Relu(a) }", opset=13)
    with pytest.raises(UnsupportedError, match="operator set 13") as caught:
        Interpreter(model)
    assert len(caught.value.findings) == 1


def test_a_tensor_from_nowhere_is_refused():
    with pytest.raises(ModelError, match="ghost"):
        Interpreter(parsed("agraph (float[N] x) => (float[N] y) { y = Add (x, ghost) }"))


def test_a_missing_input_is_named():
    run = Interpreter(parsed("agraph (float[N] x, float[N] y) => (float[N] z) { z = Add (x, y) }"))
    with pytest.raises(DataError, match="inputs y"):
        run({"x": np.zeros(2, dtype=np.float32)})


def test_a_failing_node_is_named_with_its_shapes():
    run = Interpreter(parsed("agraph (float[N] x) => (float[M] z) { [bad] z = MatMul (x, x) }"))
    x = np.zeros((2, 3), dtype=np.float32)
    with pytest.raises(BackendError, match=r"'bad' \(MatMul\).*\(2, 3\)"):
        run({"x": x})


def test_tensors_are_dropped_when_nothing_reads_them_any_more():
    run = Interpreter(
        parsed("""
        agraph (float[N] x) => (float[N] y) {
            a = Relu (x)
            b = Neg (a)
            unused = Exp (a)
            y = Add (b, x)
        }
    """)
    )
    dead = {step.outputs[0]: step.dead for step in run.body.steps}
    assert dead == {"a": [], "b": [], "unused": ["a", "unused"], "y": ["b"]}


def test_an_initializer_can_be_overridden_where_it_is_an_input():
    model = parsed("""
        agraph (float[N] x, float[1] w = {2}) => (float[N] y) { y = Mul (x, w) }
    """)
    model.graph.input.append(onnx.helper.make_tensor_value_info("w", 1, [1]))
    x, w = np.ones(3, dtype=np.float32), np.array([5], dtype=np.float32)
    run = Interpreter(model)
    np.testing.assert_array_equal(run({"x": x})["y"], 2 * x)
    np.testing.assert_array_equal(run({"x": x, "w": w})["y"], 5 * x)


@pytest.mark.parametrize("opset", [18, 20, 21])
def test_group_normalization_before_and_after_opset_21(opset):
    size = 4 if opset >= 21 else 2
    text = f"""
        agraph (float[N, 4, 3] x, float[{size}] scale, float[{size}] bias) => (float[N, 4, 3] y) {{
            y = GroupNormalization <num_groups = 2> (x, scale, bias)
        }}
    """
    model = parsed(text, opset)
    random = np.random.default_rng(0)
    feeds = {
        "x": random.standard_normal((2, 4, 3), dtype=np.float32),
        "scale": random.standard_normal(size, dtype=np.float32),
        "bias": random.standard_normal(size, dtype=np.float32),
    }
    expected = ReferenceEvaluator(model).run(None, feeds)[0]
    np.testing.assert_allclose(Interpreter(model)(feeds)["y"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_narrow_weights_are_read(name):
    element = getattr(onnx.TensorProto, name.upper())
    weight = onnx.helper.make_tensor("w", element, [2], [1.5, -2.0])
    node = onnx.helper.make_node("Cast", ["w"], ["y"], to=onnx.TensorProto.FLOAT)
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2])
    graph = onnx.helper.make_graph([node], "narrow", [], [output], [weight])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])
    np.testing.assert_array_equal(Interpreter(model)({})["y"], np.float32([1.5, -2.0]))
