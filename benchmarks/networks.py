"""VGG16-BN for 32×32 and ResNet-18 for 224×224 pictures, with random weights, in plain onnx.

Thresholds and weights do not change what a timestep costs, so random ones will do.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

VGG16 = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool",
         512, 512, 512, "pool")  # fmt: skip
RESNET18 = (64, 64, 128, 128, 256, 256, 512, 512)  # channels of its blocks
CLASSES = 10
SIZE = 32
RESNET18_SIZE = 224
RESNET18_CLASSES = 1000


class _Graph:
    """Collects nodes and random weights."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, array: NDArray[np.float64]) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def node(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name, **attributes))
        return name

    def conv_bn(self, x: str, channels: int, width: int, kernel: int = 3, stride: int = 1) -> str:
        spread = (2.0 / (kernel**2 * channels)) ** 0.5
        weight = self.weight(self.random.normal(0, spread, (width, channels, kernel, kernel)))
        y = self.node("Conv", x, weight, kernel_shape=[kernel] * 2, strides=[stride] * 2,
                      pads=[kernel // 2] * 4)  # fmt: skip
        scale, variance = self.weight(np.ones(width)), self.weight(np.ones(width))
        shift, mean = self.weight(self.random.normal(0, 0.1, width)), self.weight(np.zeros(width))
        return self.node("BatchNormalization", y, scale, shift, mean, variance)

    def model(self, name: str, value: str, channels: int, size: int, classes: int):
        last = self.weight(self.random.normal(0, channels**-0.5, (classes, channels)))
        flat = self.node("Flatten", value)
        logits = self.node("Gemm", flat, last, self.weight(np.zeros(classes)), transB=1)
        graph = helper.make_graph(
            self.nodes, name,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, size, size])],
            [helper.make_tensor_value_info(logits, TensorProto.FLOAT, ["N", classes])],
            self.weights,
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def vgg16_bn(seed: int = 0) -> onnx.ModelProto:
    """Thirteen Conv-BatchNormalization-Relu, five MaxPool 2×2, one Gemm; input [N,3,32,32]."""
    graph = _Graph(seed)
    value, channels = "image", 3
    for layer in VGG16:
        if layer == "pool":
            value = graph.node("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2])
            continue
        value = graph.node("Relu", graph.conv_bn(value, channels, int(layer)))
        channels = int(layer)
    return graph.model("vgg16_bn", value, channels, SIZE, CLASSES)


def resnet18(seed: int = 0) -> onnx.ModelProto:
    """Stem, eight residual blocks, GAP and Gemm, as He et al. 2016; input [N,3,224,224]."""
    graph = _Graph(seed)
    value = graph.node("Relu", graph.conv_bn("image", 3, 64, kernel=7, stride=2))
    value = graph.node("MaxPool", value, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for width in RESNET18:
        stride = 1 if width == channels else 2
        inner = graph.node("Relu", graph.conv_bn(value, channels, width, stride=stride))
        inner = graph.conv_bn(inner, width, width)
        if stride == 2:
            value = graph.conv_bn(value, channels, width, kernel=1, stride=stride)
        value = graph.node("Relu", graph.node("Add", inner, value))
        channels = width
    value = graph.node("GlobalAveragePool", value)
    return graph.model("resnet18", value, channels, RESNET18_SIZE, RESNET18_CLASSES)
