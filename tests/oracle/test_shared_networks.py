"""Real networks and exporter graphs: they convert, are valid, and run in plain onnxruntime."""

import numpy as np
import onnx
import pytest

import onnx2snn
from onnx2snn.calibration import images as calibration_images

CIFAR = ("resnet20", "resnet32", "resnet56", "vgg_bn")
EXPORTS = (
    "densenet", "inception", "keras", "mobilenetv2", "resnet18", "squeezenet", "unet", "vggbn",
)  # fmt: skip
FILES = [
    *(f"models/cifar10_{name}_{kind}.onnx" for name in CIFAR for kind in ("dynamo", "legacy")),
    "models/imagenet_squeezenet1_1_dynamo.onnx",
    "models/imagenet_squeezenet1_1_legacy.onnx",
    "models/keras_fashion_cnn.onnx",
    "models/keras_fashion_cnn_tf2onnx.onnx",
    *(f"exports/{name}_small.onnx" for name in EXPORTS),
]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore:no calibration images")
def test_network_converts_and_runs(shared, name, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    path = shared / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    monkeypatch.setattr(calibration_images, "NOISE_IMAGES", 8)  # enough noise, and much quicker
    model = onnx2snn.convert(path)
    assert model.check.passed, model.check.text
    onnx.checker.check_model(model.proto, full_check=True)
    session = onnxruntime.InferenceSession(model.proto.SerializeToString())
    outputs = [value.name for value in session.get_outputs()]
    source = onnx.load(path)
    assert outputs[: len(source.graph.output)] == [value.name for value in source.graph.output]
    generator = np.random.default_rng(0)
    same = []  # of every image and output
    for count in (1, 3):
        feeds = {}
        for value in session.get_inputs():
            shape = [size if isinstance(size, int) else count for size in value.shape]
            if value.name + ".next" in outputs:
                feeds[value.name] = np.zeros(shape, "i8" if "int64" in value.type else "f4")
            else:
                feeds[value.name] = generator.normal(0, 1, shape).astype(np.float32)
                image = feeds[value.name]
        for _ in range(2):
            results = dict(zip(outputs, session.run(outputs, feeds), strict=True))
            feeds.update({n: results[n + ".next"] for n in feeds if n + ".next" in results})
        answer = model.network().run(image, timesteps=2).outputs
        for output, expected in answer.items():
            assert results[output].shape == expected.shape
            scale = np.abs(expected).max()
            close = np.isclose(results[output], expected, atol=0.02 * scale)
            same += [row.mean() >= 0.99 for row in close]
    # rounded otherwise, a spike may move, and a deep network answers that image a little otherwise
    assert np.mean(same) >= 0.75
