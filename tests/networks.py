"""Small networks for tests."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Builder:
    """Collects nodes and weights of a random network."""

    def __init__(self, seed=0, channels=3, size=8):
        self.generator = np.random.default_rng(seed)
        self.nodes, self.weights = [], []
        self.shape = (channels, size, size)

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

    def conv(self, x, channels_in, channels_out, kernel=3, **attributes):
        weight = self.weight(channels_out, channels_in, kernel, kernel)
        bias = self.weight(channels_out, scale=0.1)
        pads = [kernel // 2] * 4
        return self.add("Conv", [x, weight, bias], pads=pads, kernel_shape=[kernel] * 2,
                        **attributes)  # fmt: skip

    def model(
        self, output, output_shape, opset=18, more_inputs=None, more_outputs=None, functions=()
    ):
        inputs = {"input": self.shape, **(more_inputs or {})}
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


def images(count=8, seed=1, shape=(3, 8, 8)):
    """Random images."""
    return np.random.default_rng(seed).normal(0, 1, (count, *shape)).astype(np.float32)
