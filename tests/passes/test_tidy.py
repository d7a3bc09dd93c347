import numpy as np
from passes.helpers import apply, has, model, normal, operators, random

from onnx2snn.passes.tidy import DropDeadCode, Tidy


def test_identity_dropout_and_constants_go():
    source = model(
        """agraph (float[N,4] x) => (float[N,4] y) {
            i = Identity(w)
            a = Mul(x, i)
            b = Identity(a)
            d = Dropout(b)
            k = Constant<value_float = 2.0>()
            e = Mul(d, k)
            y = Identity(e)
        }""",
        w=random(4),
    )
    found, _ = apply(Tidy, source)
    assert operators(found) == {"Mul": 2}
    assert found.graph.output[0].name == "y"
    assert {item.name for item in found.graph.initializer} == {"w", "k"}
    normal(source)


def test_identity_from_input_to_output_stays_with_a_note():
    source = model(
        "agraph (float[N,4] x) => (float[N,4] y, float[N,4] z) {y = Identity(x) z = Relu(x)}"
    )
    found, notes = apply(Tidy, source)
    assert operators(found) == {"Identity": 1, "Relu": 1}
    assert has(notes, "it feeds a graph output")


def test_two_outputs_of_one_value_keep_their_names():
    source = model(
        "agraph (float[N,4] x) => (float[N,4] y, float[N,4] z) {y = Relu(x) z = Identity(y)}"
    )
    proto, _ = normal(source)
    assert [value.name for value in proto.graph.output] == ["y", "z"]


def test_dropout_in_training_mode_is_removed_with_a_note():
    source = model(
        "agraph (float[N,4] x) => (float[N,4] y) {y0 = Dropout(x, r, t) y = Relu(y0)}",
        r=np.float32(0.5),
        t=np.bool_(True),
    )
    found, notes = apply(Tidy, source)
    assert operators(found) == {"Relu": 1}
    assert has(notes, "was in training mode")


def test_dropout_whose_mask_is_used_stays():
    source = model(
        "agraph (float[N,4] x) => (float[N,4] y, bool[N,4] m) {y0, m = Dropout(x) y = Relu(y0)}"
    )
    _, notes = apply(Tidy, source)
    assert has(notes, "its mask is used")


def test_names_are_unique_and_not_empty_and_texts_are_gone():
    source = model("agraph (float[N,4] x) => (float[N,4] y) {a = Relu(x) b = Neg(a) y = Relu(b)}")
    for node in source.graph.node:
        node.doc_string = "a stack trace"
        node.metadata_props.add(key="pkg.stack", value="trace")
    source.graph.node[0].name = source.graph.node[1].name = "same"
    source.doc_string = source.graph.doc_string = "text"
    found, _ = apply(Tidy, source)
    names = [node.name for node in found.graph.node]
    assert names[0] == "same"
    assert len(set(names)) == 3
    assert b"trace" not in found.SerializeToString()
    assert not found.doc_string
    assert not found.graph.doc_string


def test_dead_code_and_weights_nobody_reads_go():
    source = model(
        "agraph (float[N,4] x) => (float[N,4] y) {d = Mul(x, w) e = Relu(d) y = Relu(x)}",
        w=random(4),
        lonely=random(4, seed=1),
    )
    found, _ = apply(DropDeadCode, source)
    assert operators(found) == {"Relu": 1}
    assert list(found.graph.initializer) == []
