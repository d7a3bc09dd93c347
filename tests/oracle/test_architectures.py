"""Small networks after well-known ones: they convert, spike where they should, and agree.

onnxruntime on the file is the oracle.
"""

import networks
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from passes import helpers

import onnx2snn


class Net(networks.Builder):
    """A builder with constants, normalisations and the channels of what it has built."""

    def const(self, array):
        name = f"constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def ints(self, *numbers):
        return self.const(np.array(numbers, np.int64))

    def number(self, value):
        return self.const(np.float32(value))

    def norm(self, x, channels):
        """BatchNormalization as a trained network has it."""
        draw = self.generator
        arrays = [draw.uniform(0.5, 1.5, channels), draw.normal(0, 0.2, channels),
                  draw.normal(0, 0.2, channels), draw.uniform(0.5, 1.5, channels)]  # fmt: skip
        names = [self.const(array.astype(np.float32)) for array in arrays]
        return self.add("BatchNormalization", [x, *names])

    def affine(self, x, channels):
        """The same as Keras exports it: Mul and Add by [1,C,1,1]."""
        draw, shape = self.generator, (1, channels, 1, 1)
        scale = self.const(draw.uniform(0.5, 1.5, shape).astype(np.float32))
        shift = self.const(draw.normal(0, 0.2, shape).astype(np.float32))
        return self.add("Add", [self.add("Mul", [x, scale]), shift])

    def depthwise(self, x, channels, stride=1):
        weight = self.weight(channels, 1, 3, 3)
        return self.add("Conv", [x, weight], group=channels, pads=[1] * 4, strides=[stride] * 2)

    def dense(self, x, inputs, outputs):
        return self.add("Gemm", [x, self.weight(outputs, inputs), self.weight(outputs)], transB=1)

    def mean(self, x):
        return self.add("Flatten", [self.add("GlobalAveragePool", [x])])


def mtcnn():
    """PReLU, pooling with ceil_mode, a class and a box output."""
    b = Net(1, size=12)
    x = "input"
    for channels_in, channels in ((3, 8), (8, 12), (12, 16)):
        x = b.add("Conv", [x, b.weight(channels, channels_in, 3, 3), b.weight(channels, scale=0.1)])
        slope = b.const(b.generator.uniform(0, 0.4, (channels, 1, 1)).astype(np.float32))
        x = b.add("PRelu", [x, slope])
        if channels == 8:
            x = b.add("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    scores = b.add("Softmax", [b.add("Conv", [x, b.weight(2, 16, 1, 1)])], axis=1)
    b.add("Conv", [x, b.weight(4, 16, 1, 1)])
    boxes = b.nodes[-1].output[0]
    return b.model(scores, [2, 1, 1], more_outputs={boxes: [4, 1, 1]}), ["PRelu"] * 3


def keras_resnet_v2():
    """Pre-activation by Mul and Add, asymmetric Pad before a MaxPool, NHWC input, shortcut pool."""
    b = Net(2, size=8)
    b.shape = (8, 8, 3)
    x = b.conv(b.add("Transpose", ["input"], perm=[0, 3, 1, 2]), 3, 8)
    x = b.add("Pad", [x, b.ints(0, 0, 1, 1, 0, 0, 1, 1)])
    x = b.add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2])
    for stride in (1, 2):
        y = b.add("Relu", [b.affine(x, 8)])
        y = b.add("Relu", [b.affine(b.conv(y, 8, 8, kernel=1), 8)])
        y = b.add("Conv", [y, b.weight(8, 8, 3, 3)], pads=[1] * 4, strides=[stride] * 2)
        if stride == 2:
            x = b.add("MaxPool", [x], kernel_shape=[1, 1], strides=[2, 2])
        x = b.add("Add", [x, y])
    x = b.add("Squeeze", [b.add("GlobalAveragePool", [b.add("Relu", [b.affine(x, 8)])]),
                          b.ints(2, 3)])  # fmt: skip
    y = b.add("Add", [b.add("MatMul", [x, b.weight(8, 5)]), b.weight(5)])
    return b.model(b.add("Softmax", [y]), [5]), ["Relu"] * 5


def mobilenet_v3():
    """Inverted residual, depthwise, HardSwish spelled out, squeeze and excite by HardSigmoid."""
    b = Net(3)

    def swish(x):
        inner = b.add("Clip", [b.add("Add", [x, b.number(3)]), b.number(0), b.number(6)])
        return b.add("Div", [b.add("Mul", [x, inner]), b.number(6)])

    x = swish(b.norm(b.conv("input", 3, 6), 6))
    y = swish(b.norm(b.conv(x, 6, 12, kernel=1), 12))
    y = b.norm(b.depthwise(y, 12), 12)
    gate = b.add("Relu", [b.conv(b.add("GlobalAveragePool", [y]), 12, 4, kernel=1)])
    gate = b.add("HardSigmoid", [b.conv(gate, 4, 12, kernel=1)], alpha=1 / 6, beta=0.5)
    y = swish(b.add("Mul", [y, gate]))
    x = b.add("Add", [x, b.norm(b.conv(y, 12, 6, kernel=1), 6)])
    hidden = b.add("HardSwish", [b.dense(b.mean(x), 6, 10)])
    expected = ["HardSwish", "HardSwish", "Relu", "HardSigmoid", "HardSwish", "HardSwish"]
    return b.model(b.dense(hidden, 10, 4), [4]), expected


def densenet():
    """BatchNorm and Relu behind Concat, transition by average pooling."""
    b = Net(4)
    x, channels = b.conv("input", 3, 6), 6
    for _ in range(3):
        y = b.conv(b.add("Relu", [b.norm(x, channels)]), channels, 4)
        x, channels = b.add("Concat", [x, y], axis=1), channels + 4
    x = b.conv(b.add("Relu", [b.norm(x, channels)]), channels, 8, kernel=1)
    x = b.add("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = b.add("Relu", [b.norm(x, 8)])
    return b.model(b.dense(b.mean(x), 8, 4), [4]), ["Relu"] * 5


def unet():
    """Skip connections, bilinear Resize, a map as output."""
    b = Net(5)
    first = b.add("Relu", [b.norm(b.conv("input", 3, 6), 6)])
    x = b.add("MaxPool", [first], kernel_shape=[2, 2], strides=[2, 2])
    x = b.add("Relu", [b.norm(b.conv(x, 6, 8), 8)])
    scales = b.const(np.array([1, 1, 2, 2], np.float32))
    x = b.add("Resize", [x, "", scales], mode="linear", coordinate_transformation_mode="half_pixel")
    x = b.add("Relu", [b.norm(b.conv(b.add("Concat", [x, first], axis=1), 14, 6), 6)])
    return b.model(b.conv(x, 6, 2, kernel=1), [2, 8, 8]), ["Relu"] * 3


def yolo():
    """SiLU spelled out, SPP, two heads with box decoding: Reshape, Transpose, Split, Pow."""
    b = Net(6)

    def silu(x):
        return b.add("Mul", [x, b.add("Sigmoid", [x])])

    first = silu(b.norm(b.conv("input", 3, 8), 8))
    deep = b.add("MaxPool", [first], kernel_shape=[2, 2], strides=[2, 2])
    pools = [
        b.add("MaxPool", [deep], kernel_shape=[k, k], pads=[k // 2] * 4, strides=[1, 1])
        for k in (3, 5)
    ]
    deep = silu(b.norm(b.conv(b.add("Concat", [deep, *pools], axis=1), 24, 8, kernel=1), 8))
    scales = b.const(np.array([1, 1, 2, 2], np.float32))
    wide = b.add("Resize", [deep, "", scales], mode="nearest")
    wide = silu(b.norm(b.conv(b.add("Concat", [wide, first], axis=1), 16, 8), 8))
    found = []
    for features, size in ((wide, 8), (deep, 4)):
        x = b.conv(features, 8, 14, kernel=1)
        x = b.add("Reshape", [x, b.ints(0, 2, 7, size, size)])
        x = b.add("Sigmoid", [b.add("Transpose", [x], perm=[0, 1, 3, 4, 2])])
        parts = [f"part_{size}_{k}" for k in range(3)]
        b.nodes.append(onnx.helper.make_node("Split", [x, b.ints(2, 2, 3)], parts, axis=4,
                                             name=f"split_{size}"))  # fmt: skip
        centre = b.add("Sub", [b.add("Mul", [parts[0], b.number(2)]), b.number(0.5)])
        extent = b.add("Mul", [b.add("Pow", [b.add("Mul", [parts[1], b.number(2)]), b.number(2)]),
                               b.number(size)])  # fmt: skip
        boxes = b.add("Concat", [centre, extent, parts[2]], axis=4)
        found.append(b.add("Reshape", [boxes, b.ints(0, -1, 7)]))
    return b.model(b.add("Concat", found, axis=1), [160, 7]), ["Swish"] * 3


def tiny_ml():
    """As MLPerf Tiny: NHWC pixels 0..255, a preprocessing inside, DepthToSpace-free, Softmax."""
    b = Net(7)
    b.shape = (8, 8, 3)
    x = b.add("Sub", [b.add("Mul", ["input", b.number(1 / 127.5)]), b.number(1)])
    x = b.add("Transpose", [x], perm=[0, 3, 1, 2])
    x = b.add("Conv", [x, b.weight(8, 3, 3, 3), b.weight(8)], auto_pad="SAME_UPPER",
              strides=[2, 2])  # fmt: skip
    x = b.add("Clip", [b.affine(x, 8), b.number(0), b.number(6)])
    for _ in range(2):
        x = b.add("Clip", [b.affine(b.depthwise(x, 8), 8), b.number(0), b.number(6)])
        x = b.add("Clip", [b.affine(b.conv(x, 8, 8, kernel=1), 8), b.number(0), b.number(6)])
    x = b.add("AveragePool", [x], kernel_shape=[4, 4])
    x = b.add("Reshape", [b.add("Transpose", [x], perm=[0, 2, 3, 1]), b.ints(-1, 8)])
    y = b.add("Add", [b.add("MatMul", [x, b.weight(8, 4)]), b.weight(4)])
    return b.model(b.add("Softmax", [y]), [4]), ["Clip"] * 5


def convnext():
    """Depthwise 7x7, LayerNormalization channels last, GELU spelled out, layer scale."""
    b = Net(8)
    x = b.conv("input", 3, 6)
    for _ in range(2):
        y = b.add("Conv", [x, b.weight(6, 1, 7, 7)], group=6, pads=[3] * 4)
        y = b.add("Transpose", [y], perm=[0, 2, 3, 1])
        y = b.add("LayerNormalization", [y, b.weight(6, scale=1), b.weight(6)], axis=-1)
        y = b.add("Add", [b.add("MatMul", [y, b.weight(6, 24, scale=0.4)]), b.weight(24)])
        erf = b.add("Erf", [b.add("Div", [y, b.number(2**0.5)])])
        y = b.add("Mul", [b.add("Mul", [y, b.add("Add", [erf, b.number(1)])]), b.number(0.5)])
        y = b.add("Add", [b.add("MatMul", [y, b.weight(24, 6, scale=0.2)]), b.weight(6)])
        y = b.add("Transpose", [b.add("Mul", [y, b.weight(6, scale=0.5)])], perm=[0, 3, 1, 2])
        x = b.add("Add", [x, y])
    return b.model(b.dense(b.mean(x), 6, 4), [4]), ["Gelu"] * 2


BUILDERS = {
    "MTCNN": mtcnn, "Keras ResNet50V2": keras_resnet_v2, "MobileNetV3": mobilenet_v3,
    "DenseNet": densenet, "U-Net": unet, "YOLO": yolo, "MLPerf Tiny": tiny_ml,
    "ConvNeXt": convnext,
}  # fmt: skip


@pytest.mark.parametrize("name", BUILDERS)
def test_architecture(name):
    source, neurons = BUILDERS[name]()
    shape = [d.dim_value for d in source.graph.input[0].type.tensor_type.shape.dim][1:]
    calibration, images = networks.images(64, 3, shape), networks.images(4, 4, shape)
    if name == "MLPerf Tiny":
        calibration, images = (np.clip(127 + 60 * x, 0, 255).round() for x in (calibration, images))
    expected = helpers.run(source)({"input": images})
    rate = onnx2snn.convert(source, calibration=calibration, per_channel=False, scale=2 / 15,
                            threshold="max")  # fmt: skip
    assert rate.check.passed
    assert [layer.op for layer in rate.layers if layer.role == "neuron"] == neurons
    refine = onnx2snn.convert(source, calibration=calibration, recipe="refine")
    for model, timesteps, limit in ((rate, 256, 0.03), (refine, 16, 3e-3)):
        onnx.checker.check_model(model.proto, full_check=True)
        found = model.network().run(images, timesteps=timesteps).outputs
        assert list(found) == list(expected)
        for output, array in expected.items():
            difference = np.linalg.norm(found[output] - array)
            assert difference <= limit * np.linalg.norm(array), (output, timesteps)
