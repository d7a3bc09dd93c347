"""Hypothesis strategies for small valid CNNs over the operators that are claimed to convert."""

import numpy as np
import onnx
from hypothesis import strategies as st
from networks import Builder
from onnx import helper

SPIKING = {
    "Relu": {}, "LeakyRelu": {"alpha": 0.2}, "Sigmoid": {}, "Tanh": {}, "HardSigmoid": {},
    "HardSwish": {}, "Elu": {}, "Softplus": {}, "Softsign": {}, "Selu": {}, "Celu": {}, "Mish": {},
}  # fmt: skip
SHAPED = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "BatchNormalization",
          "Concat", "Add", "Sub", "Mul", "MulSigmoid", "Resize", "Pad", "Clip", "PRelu", "Identity",
          "Max", "Min", "Softmax", "LayerNormalization", "InstanceNormalization", "Dropout",
          "DepthToSpace", "Slice", "Transpose", "GlobalMaxPool", "Sum", "Mean", "Neg", "Abs",
          "Scale")  # fmt: skip


class Grown:
    """A network that grows by one operator at a time; all tensors are [N, channels, size, size]."""

    def __init__(self, seed):
        self.builder = Builder(seed, channels=2, size=6)
        self.name, self.channels, self.size = "input", 2, 6
        self.before = []

    def constant(self, values, dtype=np.float32):
        name = self.builder.weight(1)
        tensor = onnx.numpy_helper.from_array(np.asarray(values, dtype), name)
        self.builder.weights[-1].CopyFrom(tensor)
        return name

    def grow(self, op, draw):
        """Append one operator; what does not fit the present size is left out."""
        b, x = self.builder, self.name
        kept = (x, self.channels, self.size)
        if op in SPIKING:
            self.name = b.add(op, [x], **SPIKING[op])
        elif hasattr(self, f"grow_{op.lower()}"):
            getattr(self, f"grow_{op.lower()}")(x, draw)
        else:
            self.grow_plain(op, x, draw)
        self.before.append(kept)

    def grow_conv(self, x, draw):
        kernel, channels = draw(st.sampled_from((1, 3))), draw(st.integers(1, 4))
        self.name = self.builder.conv(x, self.channels, channels, kernel)
        self.channels = channels

    def grow_convtranspose(self, x, draw):
        if self.size > 8:
            return
        weight = self.builder.weight(self.channels, self.channels, 2, 2)
        self.name = self.builder.add("ConvTranspose", [x, weight], strides=[2, 2])
        self.size *= 2

    def pooled(self, op, x, draw, **attributes):
        if self.size < 3:
            return
        stride, pad = draw(st.integers(1, 2)), draw(st.integers(0, 1))
        self.name = self.builder.add(op, [x], kernel_shape=[3, 3], strides=[stride] * 2,
                                     pads=[pad] * 4, **attributes)  # fmt: skip
        self.size = (self.size + 2 * pad - 3) // stride + 1

    def grow_maxpool(self, x, draw):
        self.pooled("MaxPool", x, draw)

    def grow_averagepool(self, x, draw):
        self.pooled("AveragePool", x, draw, count_include_pad=draw(st.integers(0, 1)))

    def grow_lppool(self, x, draw):
        self.pooled("LpPool", x, draw, p=2)

    def grow_batchnormalization(self, x, draw):
        parts = [self.constant(draw_floats(draw, self.channels, low, 2.0))
                 for low in (0.5, -1.0, -1.0, 0.5)]  # fmt: skip
        self.name = self.builder.add("BatchNormalization", [x, *parts])

    def grow_layernormalization(self, x, draw):
        scale = self.constant(np.ones(self.size))
        self.name = self.builder.add("LayerNormalization", [x, scale], axis=-1)

    def grow_instancenormalization(self, x, draw):
        ones, zeros = self.constant(np.ones(self.channels)), self.constant(np.zeros(self.channels))
        self.name = self.builder.add("InstanceNormalization", [x, ones, zeros])

    def grow_concat(self, x, draw):
        other = self.partner(draw, channels=False)
        self.name = self.builder.add("Concat", [x, other[0]], axis=1)
        self.channels += other[1]

    def grow_mulsigmoid(self, x, draw):
        self.name = self.builder.add("Mul", [x, self.builder.add("Sigmoid", [x])])

    def grow_resize(self, x, draw):
        if self.size > 8:
            return
        scales = self.constant([1, 1, 2, 2])
        self.name = self.builder.add("Resize", [x, "", scales], mode="nearest")
        self.size *= 2

    def grow_pad(self, x, draw):
        pads = self.constant([0, 0, 1, 1, 0, 0, 0, 0], np.int64)
        self.name = self.builder.add("Pad", [x, pads])
        self.size += 1

    def grow_clip(self, x, draw):
        low, high = (
            self.constant(draw(st.sampled_from((-1.0, 0.0)))),
            self.constant(np.float32(1.5)),
        )
        self.name = self.builder.add("Clip", [x, low, high])

    def grow_prelu(self, x, draw):
        slope = self.constant(draw_floats(draw, self.channels, 0.0, 0.5).reshape(-1, 1, 1))
        self.name = self.builder.add("PRelu", [x, slope])

    def grow_scale(self, x, draw):
        factor = self.constant(draw_floats(draw, self.channels, -2.0, 2.0).reshape(-1, 1, 1))
        self.name = self.builder.add("Mul", [x, factor])

    def grow_depthtospace(self, x, draw):
        if self.channels % 4 == 0 and self.size <= 8:
            self.name = self.builder.add("DepthToSpace", [x], blocksize=2)
            self.channels, self.size = self.channels // 4, self.size * 2

    def grow_slice(self, x, draw):
        if self.size > 2:
            parts = [self.constant(values, np.int64) for values in ([1, 1], [99, 99], [2, 3])]
            self.name = self.builder.add("Slice", [x, *parts])
            self.size -= 1

    def grow_globalmaxpool(self, x, draw):
        self.name = self.builder.add("GlobalMaxPool", [x])
        self.size = 1

    def grow_transpose(self, x, draw):
        self.name = self.builder.add("Transpose", [x], perm=[0, 1, 3, 2])

    def grow_softmax(self, x, draw):
        self.name = self.builder.add("Softmax", [x], axis=1)

    def grow_plain(self, op, x, draw):
        binary = op in ("Add", "Sub", "Mul", "Max", "Min", "Sum", "Mean")
        inputs = [x, self.partner(draw)[0]] if binary else [x]
        self.name = self.builder.add(op, inputs)

    def partner(self, draw, channels=True):
        """An earlier tensor of the same size, or the present one."""
        here = (self.name, self.channels, self.size)
        fits = [item for item in self.before
                if item[2] == self.size and (item[1] == self.channels or not channels)]  # fmt: skip
        return draw(st.sampled_from([*fits, here]))

    def finish(self):
        """A classifier behind it."""
        b = self.builder
        flat = b.add("Flatten", [b.add("GlobalAveragePool", [self.name])])
        logits = b.add("Gemm", [flat, b.weight(3, self.channels), b.weight(3)], transB=1)
        make = helper.make_tensor_value_info
        graph = helper.make_graph(
            b.nodes, "grown", [make("input", 1, ["N", 2, 6, 6])], [make(logits, 1, ["N", 3])],
            b.weights,
        )  # fmt: skip
        opsets = [helper.make_opsetid("", 18)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        return model


def draw_floats(draw, count, low, high):
    numbers = st.floats(low, high, width=32)
    return np.float32(draw(st.lists(numbers, min_size=count, max_size=count)))


@st.composite
def graphs(draw):
    """A network of one to eight operators with a neuron in it."""
    grown = Grown(draw(st.integers(0, 1000)))
    grown.grow("Conv", draw)
    for op in draw(st.lists(st.sampled_from((*SPIKING, *SHAPED)), min_size=1, max_size=7)):
        grown.grow(op, draw)
    grown.grow("Conv", draw)
    grown.grow("Relu", draw)
    return grown.finish()
