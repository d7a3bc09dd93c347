import numpy as np
import onnx
import pytest
from onnx import helper
from passes.helpers import apply, difference, has, model, normal, operators, random

from onnx2snn.passes.check_operators import CheckOperators
from onnx2snn.passes.opset import Opset
from onnx2snn.passes.structure import InitializersOutOfInputs, InlineFunctions, SortNodes
from onnx2snn_runtime.errors import ModelError, UnsupportedError

CONV = (
    "agraph (float[N,3,8,8] x) => (float[N,4,8,8] y) {c = Conv<pads=[1,1,1,1]>(x, w) y = Relu(c)}"
)


def conv():
    return model(CONV, w=random(4, 3, 3, 3))


def test_weights_leave_the_inputs():
    source = conv()
    source.graph.input.append(helper.make_tensor_value_info("w", 1, [4, 3, 3, 3]))
    found, notes = apply(InitializersOutOfInputs, source)
    assert [value.name for value in found.graph.input] == ["x"]
    assert has(notes, "1 weights were graph inputs")


def test_model_without_inputs_is_refused():
    source = model("agraph () => (float[1] y) {y = Relu(w)}", w=np.ones(1, np.float32))
    with pytest.raises(ModelError, match="no inputs"):
        apply(InitializersOutOfInputs, source)


def test_unsorted_nodes_are_sorted():
    source = conv()
    nodes = list(source.graph.node)[::-1]
    del source.graph.node[:]
    source.graph.node.extend(nodes)
    found, notes = apply(SortNodes, source)
    assert [node.op_type for node in found.graph.node] == ["Conv", "Relu"]
    assert has(notes, "not topologically sorted")


def test_sorted_nodes_keep_their_order():
    found, notes = apply(SortNodes, conv())
    assert [node.op_type for node in found.graph.node] == ["Conv", "Relu"]
    assert notes == []


def test_cycle_and_missing_tensor_are_told_apart():
    source = conv()
    source.graph.node[0].input[0] = "y"
    with pytest.raises(ModelError, match="cycle"):
        apply(SortNodes, source)
    source = conv()
    source.graph.node[0].input[1] = "nowhere"
    with pytest.raises(ModelError, match="nothing computes these tensors: nowhere"):
        apply(SortNodes, source)


def test_functions_are_inlined():
    source = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 18, "local" : 1]>
        agraph (float[N,4] x) => (float[N,4] y) { y = local.double(x) }
        <opset_import: ["" : 18], domain: "local"> double (a) => (b) { b = Add(a, a) }
    """)
    found, notes = apply(InlineFunctions, source)
    assert operators(found) == {"Add": 1}
    assert has(notes, "1 model-local functions inlined")
    assert normal(source)[0].functions == []


@pytest.mark.parametrize(("opset", "expected"), [(9, 18), (13, 18), (17, 18), (18, 18), (20, 20)])
def test_opset_is_18_or_newer(opset, expected):
    source = model(CONV, opset=opset, ir_version=8, w=random(4, 3, 3, 3))
    source.opset_import.add(domain="ai.onnx.ml", version=2)
    found, notes = apply(Opset, source)
    assert [(item.domain, item.version) for item in found.opset_import] == [("", expected)]
    assert has(notes, "converted to 18") == (opset < 18)
    normal(source)


def test_clip_attributes_and_reduce_axes_of_old_operator_sets():
    source = model(
        "agraph (float[N,3,4,4] x) => (float[N,3] y)"
        "{c = Clip<min=0.0, max=6.0>(x) y = ReduceMean<axes=[2,3], keepdims=0>(c)}",
        opset=9,
        ir_version=4,
    )
    proto, _ = normal(source)
    assert operators(proto) == {"Clip": 1, "GlobalAveragePool": 1, "Flatten": 1}


def test_all_impossible_operators_are_listed():
    source = model(
        "agraph (float[N,3,4,4] x) => (float[N,3,4,4] y)"
        "{a = BatchNormalization<training_mode=1>(x, s, s, s, s) b = Nonsense(a) y = Relu(b)}",
        s=np.ones(3, np.float32),
    )
    source.graph.node[2].domain = "com.example"
    source.opset_import.add(domain="com.example", version=1)
    with pytest.raises(UnsupportedError, match="3 operators cannot be converted") as caught:
        apply(CheckOperators, source)
    assert "training mode" in str(caught.value)
    assert "no operator of operator set 18" in str(caught.value)
    assert "unknown operator domain 'com.example'" in str(caught.value)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("opset", "body"),
    [
        (7, 'y = Upsample<mode="linear", scales=[1.0, 1.0, 1.5, 2.0]>(x)'),
        (9, 'y = Upsample<mode="linear">(x, s)'),
        (9, 'y = Upsample<mode="nearest">(x, s)'),
        (10, 'y = Resize<mode="linear">(x, s)'),
        (10, 'y = Resize<mode="nearest">(x, s)'),
        (10, 'y = Resize<mode="nearest">(x, half)'),
    ],
)
def test_resizing_of_old_operator_sets_keeps_its_coordinates(opset, body):
    source = model(
        f"agraph (float[N,3,8,8] x) => (float[N,3,h,w] y) {{{body}}}",
        opset=opset,
        **{k: v for k, v in {"s": np.array([1, 1, 1.5, 2], np.float32),
                             "half": np.array([1, 1, 0.5, 0.4], np.float32)}.items() if k in body},
    )  # fmt: skip
    proto, _ = apply(Opset, source)
    assert difference(source, proto) == 0


def test_what_onnx_converts_wrongly_is_refused(monkeypatch):
    """Old Hardmax takes all axes from ``axis`` on; a wrong result of the converter is found."""
    hardmax = model("agraph (float[N,3,4] x) => (float[N,3,4] y) {y = Hardmax(x)}", opset=11)
    with pytest.raises(UnsupportedError, match="several axes"):
        apply(Opset, hardmax)
    source = model("agraph (float[N,3,4] x) => (float[N,3,4] y) {y = Relu(x)}", opset=11)
    wrong = model("agraph (float[N,3,4] x) => (float[N,3,4] y) {y = Neg(x)}")
    monkeypatch.setattr("onnx.version_converter.convert_version", lambda *_: wrong)
    with pytest.raises(UnsupportedError, match="the results differ"):
        apply(Opset, source)
