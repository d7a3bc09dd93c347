"""What the tests of the passes share: running, comparing, small models as text."""

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import numpy_helper, parser

from onnx2snn.passes import Note, Session, normalise
from onnx2snn_runtime.errors import BackendError


def run(model):
    """Run a model in onnxruntime, silently."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise BackendError(str(error)) from error
    names = [output.name for output in session.get_outputs()]

    def call(feeds):
        try:
            return dict(zip(names, session.run(names, feeds), strict=True))
        except Exception as error:
            raise BackendError(str(error)) from error

    return call


def model(body, opset=18, ir_version=10, **weights):
    """A model from ``agraph (…) => (…) {…}``; arrays become initialisers."""
    text = f'<ir_version: {ir_version}, opset_import: ["" : {opset}]> {body}'
    parsed = parser.parse_model(text)
    for name, array in weights.items():
        parsed.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return parsed


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def positive(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).uniform(0.5, 1.5, shape).astype(np.float32)


def feeds_for(network, batch, seed=0):
    result = {}
    for value in network.graph.input:
        shape = [size.dim_value for size in value.type.tensor_type.shape.dim][1:]
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        result[value.name] = random(batch, *shape, seed=seed).astype(kind)
    return result


def difference(first, second, batches=(1, 2, 5)):
    """Largest difference of all outputs, relative to the largest number."""
    one, other = run(first), run(second)
    worst = 0.0
    for batch in batches:
        feeds = feeds_for(second, batch)
        expected, found = one(feeds), other(feeds)
        assert list(expected) == list(found)
        for name, array in expected.items():
            assert array.shape == found[name].shape
            scale = max(float(np.abs(array).max(initial=0)), 1e-6)
            worst = max(worst, float(np.abs(array - found[name]).max(initial=0)) / scale)
    return worst


def well_formed(proto):
    """Checker, strict inference, a type and shape of numbers and N for every value."""
    onnx.checker.check_model(proto, full_check=True)
    onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    names = [node.name for node in proto.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    described = {v.name: v for v in [*proto.graph.value_info, *proto.graph.output]}
    for node in proto.graph.node:
        for name in filter(None, node.output):
            shape = described[name].type.tensor_type.shape
            assert all(d.dim_param == "N" or d.HasField("dim_value") for d in shape.dim), name
        assert not node.doc_string
        assert not node.metadata_props


def normal(source, tolerance=1e-4, batches=(1, 2, 5), **options):
    """Normalise, with all asserts that hold for every model; the operators and notes."""
    before = source.SerializeToString(deterministic=True)
    result, notes = normalise(source, run=run, **options)
    assert source.SerializeToString(deterministic=True) == before
    proto = ir.to_proto(result)
    well_formed(proto)
    assert difference(source, proto, batches) <= tolerance
    return proto, notes


def operators(proto):
    return dict(Counter(node.op_type for node in proto.graph.node))


def apply(pass_class, source, **session):
    """One pass on a model; the result as a proto and the notes as text."""
    shared = Session(run, **session)
    result = pass_class(shared).run(ir.from_proto(source))
    assert all(isinstance(note, Note) for note in shared.notes)
    return ir.to_proto(result), [str(note) for note in shared.notes]


def has(notes, text):
    return any(text in str(note) for note in notes)
