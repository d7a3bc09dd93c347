"""Small networks for tests."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Builder:
    """Collects nodes and weights of a random network."""

    def __init__(self, seed=0, channels=3, size=8, name="input"):
        self.generator = np.random.default_rng(seed)
        self.nodes, self.weights = [], []
        self.name, self.shape = name, (channels, size, size)

    def add(self, op, inputs, **attributes):
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def weight(self, *shape, scale=None):
        name = f"weight_{len(self.weights)}"
        fan_in = int(np.prod(shape[1:])) or 1
        values = self.generator.normal(0, scale or (2.0 / fan_in) ** 0.5, shape)
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def ones(self, *shape):
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ones(shape, np.float32), name))
        return name

    def constant(self, numbers, dtype=np.int64):
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(numbers, dtype), name))
        return name

    def conv(self, x, channels_in, channels_out, kernel=3, **attributes):
        weight = self.weight(channels_out, channels_in, kernel, kernel)
        bias = self.weight(channels_out, scale=0.1)
        pads = [kernel // 2] * 4
        return self.add("Conv", [x, weight, bias], pads=pads, kernel_shape=[kernel] * 2,
                        **attributes)  # fmt: skip

    def model(
        self, output, output_shape, opset=18, more_inputs=None, more_outputs=None, functions=()
    ):
        inputs = {self.name: self.shape, **(more_inputs or {})}
        outputs = {output: output_shape, **(more_outputs or {})}
        values = [
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])
             for name, shape in part.items()]
            for part in (inputs, outputs)
        ]  # fmt: skip
        graph = helper.make_graph(self.nodes, "network", *values, self.weights)
        domains = {function.domain: 1 for function in functions}
        opsets = [helper.make_opsetid(*item) for item in {"": opset, **domains}.items()]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=10, functions=list(functions)
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def small_cnn(seed=0, depth=2, pool=True, residual=True):
    """Conv/ReLU layers, an overlapping MaxPool, a residual Add, GAP and Gemm."""
    b = Builder(seed)
    x = b.add("Relu", [b.conv("input", 3, 6)])
    for _ in range(depth):
        y = b.add("Relu", [b.conv(x, 6, 6)])
        x = b.add("Relu", [b.add("Add", [y, x])]) if residual else y
    if pool:
        x = b.add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        x = b.add("Relu", [b.conv(x, 6, 6)])
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [x])])
    logits = b.add("Gemm", [flat, b.weight(4, 6), b.weight(4)], transB=1)
    return b.model(logits, [4])


def siamese(seed=0, distance=True):
    """Two images through the same weights, BatchNormalization included, then compared."""
    b = Builder(seed, name="left")
    weight, deep = b.weight(6, 3, 3, 3), b.weight(8, 6, 3, 3)
    norm = [b.weight(6, scale=0.2), b.weight(6, scale=0.2), b.weight(6, scale=0.2), b.ones(6)]
    codes = []
    for name in ("left", "right"):
        x = b.add("BatchNormalization", [b.add("Conv", [name, weight], pads=[1] * 4), *norm])
        x = b.add("MaxPool", [b.add("Relu", [x])], kernel_shape=[2, 2], strides=[2, 2])
        x = b.add("Relu", [b.add("Conv", [x, deep], pads=[1] * 4)])
        codes.append(b.add("Flatten", [b.add("GlobalAveragePool", [x])]))
    if distance:
        codes.append(b.add("Abs", [b.add("Sub", codes)]))
    joined = b.add("Concat", codes, axis=1)
    hidden = b.add("Relu", [b.add("Gemm", [joined, b.weight(16, 8 * len(codes))], transB=1)])
    b.add("Gemm", [hidden, b.weight(4, 16)], transB=1)
    b.nodes[-1].output[0] = "logits"
    return b.model("logits", [4], more_inputs={"right": [3, 8, 8]})


def images(count=8, seed=1, shape=(3, 8, 8)):
    """Random images."""
    return np.random.default_rng(seed).normal(0, 1, (count, *shape)).astype(np.float32)


def pairs(count=48, seed=1):
    """Bytes of two images each, of all brightnesses, NCHW and NHWC, and classes."""
    generator = np.random.default_rng(seed)
    light = generator.uniform(0.1, 1.0, (2, count, 3, 1, 1))
    left, right = (light * generator.integers(0, 256, (2, count, 3, 8, 8))).astype(np.uint8)
    return {
        "left": left,
        "right": right.transpose(0, 2, 3, 1),
        "labels": generator.integers(0, 4, count),
    }
