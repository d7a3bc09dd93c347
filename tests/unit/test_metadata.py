"""What a file says about itself may be anything; nothing that reads it may stumble."""

import copy
import json

import networks
import numpy as np
import onnx
import pytest

import onnx2snn
from onnx2snn_runtime.errors import Onnx2SnnError
from onnx2snn_runtime.network import Network

CALIBRATION = networks.images(64, seed=4)
IMAGES = networks.images(4, seed=5)
WRONG = [3, -1, "x", [1], {"a": 1}, None, True, 1e300, [{"name": 1}], {"units": 3}]


@pytest.fixture(scope="module", params=["fast", "refine", "int8"])
def written(request):
    """A file and its metadata."""
    options = {"precision": "int8"} if request.param == "int8" else {"recipe": request.param}
    model = onnx2snn.convert(networks.small_cnn(seed=3), calibration=CALIBRATION, **options)
    (entry,) = (entry for entry in model.proto.metadata_props if entry.key == "onnx2snn")
    return model.proto, json.loads(entry.value)


def with_metadata(proto, document):
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    (entry,) = (entry for entry in changed.metadata_props if entry.key == "onnx2snn")
    entry.value = json.dumps(document)
    return changed


def places(value, path=()):
    """Every place in a document, the first entry of a list for all."""
    yield path
    if isinstance(value, dict):
        for key, inner in list(value.items())[:8]:
            yield from places(inner, (*path, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


def test_what_is_written_is_read(written):
    proto, document = written
    assert Network(proto).metadata == document


def test_values_of_any_other_type_are_refused_or_do_no_harm(written):
    proto, document = written
    refused = 0
    for path in [place for place in places(document) if place and len(place) <= 3]:
        for wrong in WRONG:
            changed = copy.deepcopy(document)
            inner = changed
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = wrong
            try:
                network = Network(with_metadata(proto, changed), backend="numpy")
                _ = network.exit_rule, network.decides, network.recommended_timesteps
            except Onnx2SnnError:
                refused += 1
                continue
            use(network, path, wrong)
    assert refused > 100


def use(network, path, wrong):
    """Whatever reads metadata."""
    try:
        onnx2snn.evaluate(network, IMAGES, timesteps=[1], typical=path[0] == "typical")
        onnx2snn.compare(networks.small_cnn(seed=3), network, IMAGES, timesteps=2)
    except Onnx2SnnError:
        pass
    except Exception as error:
        raise AssertionError(f"{'.'.join(map(str, path))} = {wrong!r}") from error


@pytest.mark.parametrize("name", ["act.signal", "relu", "output.signal"])
def test_names_of_the_ann_may_look_like_ours(name):
    """A tensor of the ANN that ends as the signals of the SNN do, or is an answer too."""
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N,3,8,8] input) => (float[N,4,8,8] output, float[N,4] scores)
        {{
            before = Conv<pads=[1,1,1,1]>(input, w)
            {name.replace(".", "_")} = Relu(before)
            output = Conv<pads=[1,1,1,1]>({name.replace(".", "_")}, v)
            after = Relu(output)
            mean = ReduceMean<keepdims=0, axes=[2,3]>(after)
            scores = Gemm<transB=1>(mean, u)
        }}""")
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [name if x == name.replace(".", "_") else x for x in names]
    random = np.random.default_rng(0)
    shapes = {"w": (4, 3, 3, 3), "v": (4, 4, 3, 3), "u": (4, 4)}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), key)
        for key, shape in shapes.items()
    )
    images = random.standard_normal((64, 3, 8, 8)).astype(np.float32)
    spiking = onnx2snn.convert(model, calibration=images)
    assert all(layer.error is not None for layer in spiking.layers)
    found = onnx2snn.compare(model, spiking.network(), images[:8], timesteps=4)
    assert {layer["tensor"] for layer in found["layers"]} == {name, "after"}
