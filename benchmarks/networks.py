"""VGG16-BN for 32×32 pictures with random weights, built with plain onnx.

Thresholds and weights do not change what a timestep costs, so random ones will do.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

VGG16 = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool",
         512, 512, 512, "pool")  # fmt: skip
CLASSES = 10
SIZE = 32


def vgg16_bn(seed: int = 0) -> onnx.ModelProto:
    """Thirteen Conv-BatchNormalization-Relu, five MaxPool 2×2, one Gemm; input [N,3,32,32]."""
    random = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def weight(array: NDArray[np.float64]) -> str:
        name = f"weight_{len(weights)}"
        weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def node(op: str, *inputs: str, **attributes: object) -> str:
        name = f"{op.lower()}_{len(nodes)}"
        nodes.append(helper.make_node(op, list(inputs), [name], name, **attributes))
        return name

    value, channels = "image", 3
    for layer in VGG16:
        if layer == "pool":
            value = node("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2])
            continue
        width = int(layer)
        spread = (2.0 / (9 * channels)) ** 0.5
        kernel = weight(random.normal(0, spread, (width, channels, 3, 3)))
        value = node("Conv", value, kernel, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        scale, variance = weight(np.ones(width)), weight(np.ones(width))
        shift, mean = weight(random.normal(0, 0.1, width)), weight(np.zeros(width))
        value = node("Relu", node("BatchNormalization", value, scale, shift, mean, variance))
        channels = width
    last = weight(random.normal(0, channels**-0.5, (CLASSES, channels)))
    logits = node("Gemm", node("Flatten", value), last, weight(np.zeros(CLASSES)), transB=1)
    graph = helper.make_graph(
        nodes, "vgg16_bn",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(logits, TensorProto.FLOAT, ["N", CLASSES])],
        weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
