"""The large models that are not part of the project, at several batches."""

import json

import onnx
import pytest
from passes.helpers import normal, operators

MODELS = [
    *(f"cifar10_resnet{depth}_{by}" for depth in (20, 32, 56) for by in ("dynamo", "legacy")),
    "cifar10_vgg_bn_dynamo", "cifar10_vgg_bn_legacy",
    "imagenet_squeezenet1_1_dynamo", "imagenet_squeezenet1_1_legacy",
    "keras_fashion_cnn", "keras_fashion_cnn_tf2onnx",
]  # fmt: skip
EXPORTS = [
    "densenet_small", "inception_small", "keras_small", "mobilenetv2_small", "resnet18_small",
    "squeezenet_small", "unet_small", "vggbn_small",
]  # fmt: skip
SHAPE_OPERATORS = {
    "Shape", "Gather", "Unsqueeze", "Constant", "ConstantOfShape", "Cast", "Identity", "Dropout",
    "Size", "Range", "Expand",
}  # fmt: skip
LEFT_LINEAR = {"densenet_small": {"BatchNormalization": 9}}


@pytest.mark.parametrize(
    ("folder", "name"),
    [*(("models", name) for name in MODELS), *(("exports", name) for name in EXPORTS)],
)
def test_shared_model(shared, folder, name):
    source = onnx.load(shared / folder / f"{name}.onnx")
    proto, _ = normal(source)
    found = operators(proto)
    assert not SHAPE_OPERATORS.intersection(found)
    linear = {op: found[op] for op in ("BatchNormalization", "Mul", "MatMul") if op in found}
    assert linear == LEFT_LINEAR.get(name, {})
    assert [item.name for item in proto.graph.input] == [item.name for item in source.graph.input]
    assert [item.name for item in proto.graph.output] == [item.name for item in source.graph.output]


@pytest.mark.parametrize("name", EXPORTS)
def test_export_has_the_listed_output(shared, name):
    listed = json.loads((shared / "exports" / "index.json").read_text())
    listed = listed if isinstance(listed, list) else listed.get("models", [])
    entry = next(item for item in listed if item["name"] == name)
    proto, _ = normal(onnx.load(shared / "exports" / entry["file"]), batches=(1,))
    shape = proto.graph.output[0].type.tensor_type.shape
    expected = ["N", *entry["output_shapes"][0][1:]]
    assert [size.dim_param or size.dim_value for size in shape.dim] == expected
