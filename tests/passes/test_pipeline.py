import inspect

import numpy as np
import onnx_ir as ir
import pytest
from passes.helpers import apply, has, model, normal, random, run

from onnx2snn.passes import PIPELINE, Note, Pass, Session, normalise
from onnx2snn.passes.check_result import CheckResult
from onnx2snn.passes.probe import PROBES, feeds
from onnx2snn_runtime.errors import Onnx2SnnError


@pytest.mark.parametrize("item", sorted(set(PIPELINE), key=lambda item: item.name))
def test_every_pass_has_a_name_and_states_its_law(item):
    assert issubclass(item, Pass)
    assert item.name
    assert len(inspect.getdoc(item)) > 40
    assert inspect.getdoc(item) != inspect.getdoc(Pass)


def test_names_are_unique():
    assert len({item.name for item in PIPELINE}) == len(set(PIPELINE))


def test_a_note_reads_as_a_sentence_of_its_pass():
    assert str(Note("fold-pad", "p", "Pad p folded into c")) == "fold-pad: Pad p folded into c"


def test_a_wrong_result_is_an_error_of_ours():
    source = model("agraph (float[N,4] x) => (float[N,4] y) {y = Relu(x)}")
    session = Session(run, expected={"y": np.ones((2, 4), np.float32)})
    with pytest.raises(Onnx2SnnError, match="does not compute what the file computes") as caught:
        CheckResult(session).run(ir.from_proto(source))
    assert caught.value.exit_code == 70


def small():
    return model(
        "agraph (float[1,3,8,8] x) => (float[1,4] y)"
        "{c = Conv(x, w) r = Relu(c) m = ReduceMean<keepdims=0>(r, a) y = Mul(m, k)}",
        w=random(4, 3, 3, 3),
        a=np.array([2, 3], np.int64),
        k=random(4),
    )


def test_the_same_model_gives_the_same_bytes():
    first, notes = normalise(small(), run=run)
    second, others = normalise(small(), run=run)
    one = ir.to_proto(first).SerializeToString(deterministic=True)
    assert one == ir.to_proto(second).SerializeToString(deterministic=True)
    assert notes == others


def test_the_normal_form_is_its_own_normal_form():
    proto, _ = normal(small(), batches=(1,))
    again, _ = normal(proto)
    assert proto.SerializeToString(deterministic=True) == again.SerializeToString(
        deterministic=True
    )


def test_a_rounding_that_the_network_amplifies_is_no_error_of_ours():
    """Judged by what the file itself makes of inputs that are a few roundings larger."""
    source = model("agraph (float[N,4] x) => (float[N,4] y) {y = Relu(x)}")
    answer = run(source)(feeds(ir.from_proto(source), PROBES[0]))["y"]
    expected = {"y": answer * 1.05}
    with pytest.raises(Onnx2SnnError, match="does not compute"):
        apply(CheckResult, source, expected=expected, nearby={"y": answer * 1.051})
    _, notes = apply(CheckResult, source, expected=expected, nearby={"y": answer * 1.08})
    assert has(notes, "roundings")
