import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper
from passes.helpers import apply, feeds_for, has, model, operators, random, run, well_formed

from onnx2snn.passes import normalise
from onnx2snn.passes.float32 import Float32

TYPES = {"float16": np.float16, "double": np.float64, "bfloat16": ml_dtypes.bfloat16}


@pytest.mark.parametrize("kind", TYPES)
def test_everything_becomes_float32(kind):
    source = model(
        f"agraph ({kind}[N,4] x) => ({kind}[N,4] y) {{a = Mul(x, w) y = Add(a, a)}}",
    )
    weight = random(4).astype(TYPES[kind])
    source.graph.initializer.append(_tensor("w", weight))
    found, notes = apply(Float32, source)
    assert found.graph.initializer[0].data_type == 1
    assert found.graph.input[0].type.tensor_type.elem_type == 1
    assert has(notes, f"input x was {kind} and is float32 now")
    assert has(notes, f"output y was {kind} and is float32 now")
    assert has(notes, f"1 {kind} weights became float32")
    feeds = feeds_for(found, 2)
    expected = 2 * feeds["x"] * weight.astype(np.float32)
    np.testing.assert_allclose(run(found)(feeds)["y"], expected, rtol=1e-6)


def test_casts_between_float_types_vanish():
    source = model(
        "agraph (float[N,4] x) => (float[N,4] y)"
        "{a = Cast<to = 10>(x) b = Relu(a) y = Cast<to = 1>(b)}"
    )
    found, _ = apply(Float32, source)
    assert operators(found) == {"Relu": 1}


def test_tensor_attributes_and_integer_casts():
    source = model(
        "agraph (float16[N,4] x, uint8[N,4] u) => (float16[N,4] y)"
        "{s = Shape(x) z = ConstantOfShape(s) c = Cast<to = 10>(u) a = Add(x, z) y = Add(a, c)}"
    )
    one = helper.make_attribute("value", numpy_helper.from_array(np.ones(1, np.float16)))
    source.graph.node[1].attribute.append(one)
    result, notes = normalise(source, run=run)
    assert has(notes, "input u of uint8 is cast to float32 at once")
    proto = ir.to_proto(result)
    well_formed(proto)
    feeds = {"x": random(2, 4), "u": np.ones((2, 4), np.float32)}
    np.testing.assert_allclose(run(proto)(feeds)["y"], feeds["x"] + 2, rtol=1e-6)


def _tensor(name, array):
    return ir.serde.serialize_tensor(ir.tensor(array, name=name))
