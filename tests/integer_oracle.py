"""Runs an integer network with int64 and Python's floor division; shares no code with the program.

Signals are int64 arrays from the rounding of the image to the readout. It also notes the largest
partial sum of every weighted operator, added up in the order that is worst for it.
"""

import numpy as np
from onnx import helper, numpy_helper


class Oracle:
    """A ``.snn.onnx`` file of whole numbers, stepped over time."""

    def __init__(self, model):
        self.graph = model.graph
        self.arrays = {item.name: numpy_helper.to_array(item) for item in self.graph.initializer}
        self.states = {}
        self.largest = {}  # tensor to the largest magnitude that was seen
        self.partial = {}  # node to the largest partial sum
        self.over_time = {}  # state to the largest magnitude
        self.step = 0

    def run(self, image):
        """One step: the answers, and every tensor by name."""
        self.step += 1
        values = {self.graph.input[0].name: image}
        for node in self.graph.node:
            rule = getattr(self, f"op_{node.op_type.lower()}", None)
            assert rule is not None, f"the oracle knows no {node.op_type}"
            inputs = [values.get(name, self.arrays.get(name)) for name in node.input]
            given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            values[node.output[0]] = rule(node, inputs, given)
            result = values[node.output[0]]
            if result.dtype == np.int64:
                most = int(np.abs(result).max(initial=0))
                name = node.output[0]
                self.largest[name] = max(self.largest.get(name, 0), most)
        return values

    def total(self, name, x):
        """A sum over time."""
        self.states[name] = self.states.get(name, 0) + x
        most = int(np.abs(self.states[name]).max())
        self.over_time[name] = max(self.over_time.get(name, 0), most)
        return self.states[name]

    # the image

    def op_div(self, node, inputs, given):
        return inputs[0] / inputs[1]

    def op_round(self, node, inputs, given):
        return np.round(inputs[0])

    def op_clip(self, node, inputs, given):
        return np.clip(inputs[0], inputs[1], inputs[2]).astype(np.int64)

    # linear

    def weigh(self, node, columns, matrix, bias):
        """columns [.., K] and matrix [.., K] over their last axis."""
        terms = columns * matrix
        worst = np.maximum(terms.clip(min=0).sum(-1), -terms.clip(max=0).sum(-1))
        most = int((worst + np.abs(bias)).max())
        self.partial[node.name] = max(self.partial.get(node.name, 0), most)
        return terms.sum(-1) + bias

    def op_conv(self, node, inputs, given):
        x, weight = inputs[0], inputs[1].astype(np.int64)
        bias = inputs[2].astype(np.int64) if len(inputs) > 2 else np.zeros(len(weight), np.int64)
        assert np.array_equal(weight, inputs[1]) and np.abs(weight).max() <= 127
        group, (sh, sw) = given.get("group", 1), given.get("strides", [1, 1])
        top, left, bottom, right = given.get("pads", [0] * 4)
        x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
        kh, kw = weight.shape[2:]
        windows = np.lib.stride_tricks.sliding_window_view(x, (kh, kw), (2, 3))[:, :, ::sh, ::sw]
        n, channels, height, width = windows.shape[:4]
        windows = windows.reshape(n, group, 1, channels // group, height, width, kh * kw)
        columns = np.moveaxis(windows, 3, -2).reshape(n, group, 1, height, width, -1)
        matrix = weight.reshape(1, group, len(weight) // group, 1, 1, -1)
        shape = (1, group, len(weight) // group, 1, 1)
        return self.weigh(node, columns, matrix, bias.reshape(shape)).reshape(
            n, len(weight), height, width
        )

    def op_convtranspose(self, node, inputs, given):
        x, weight = inputs[0], inputs[1].astype(np.int64)
        side = weight.shape[2]
        assert given["strides"] == [side, side] and weight.shape[3] == side and len(inputs) == 2
        n, _, height, width = x.shape
        columns = np.moveaxis(x, 1, -1)[:, :, :, np.newaxis, np.newaxis, np.newaxis]
        matrix = np.moveaxis(weight, 0, -1)  # [O,side,side,I]
        sums = self.weigh(node, columns, matrix, np.int64(0))  # [N,H,W,O,side,side]
        sums = sums.transpose(0, 3, 1, 4, 2, 5)
        return sums.reshape(n, weight.shape[1], height * side, width * side)

    def op_gemm(self, node, inputs, given):
        weight = inputs[1].astype(np.int64)
        assert np.abs(weight).max() <= 127
        weight = weight if given.get("transB", 0) else weight.T
        bias = inputs[2].astype(np.int64) if len(inputs) > 2 else 0
        return self.weigh(node, inputs[0][:, np.newaxis], weight, bias)

    def op_add(self, node, inputs, given):
        return inputs[0] + inputs[1].astype(np.int64)

    def op_mul(self, node, inputs, given):
        factor = inputs[1].astype(np.int64)
        assert np.array_equal(factor, inputs[1])
        return inputs[0] * factor

    def op_identity(self, node, inputs, given):
        return inputs[0]

    def op_concat(self, node, inputs, given):
        return np.concatenate(inputs, axis=given["axis"])

    def op_flatten(self, node, inputs, given):
        return inputs[0].reshape(len(inputs[0]), -1)

    def op_reducesum(self, node, inputs, given):
        axes = tuple(int(axis) for axis in inputs[1])
        return inputs[0].sum(axis=axes, keepdims=bool(given.get("keepdims", 1)))

    # with states

    def op_tick(self, node, inputs, given):
        return np.array([self.step])

    def op_lipool(self, node, inputs, given):
        before = self.states.get(node.input[1])
        total = self.total(node.input[1], inputs[0])
        result = pooled(total, given)
        return result if before is None else result - pooled(before, given)

    def fire(self, node, charge, threshold, given):
        whole = threshold.astype(np.int64)
        assert np.array_equal(whole, threshold) and whole.min() >= 1
        offset = np.floor(threshold * np.float32(given["v0"])).astype(np.int64)
        name = node.input[-1]
        wanted = (charge + offset) // whole - self.states.get(name, 0)
        count = np.clip(wanted, int(given["lower_limit"]), int(given["burst_limit"]))
        self.total(name, count)
        return count

    def op_integerif(self, node, inputs, given):
        charge = np.maximum(self.total(node.input[-2], inputs[0]), 0)
        return self.fire(node, charge, inputs[1], given)

    def op_integerifclip(self, node, inputs, given):
        low, high = (bound.astype(np.int64) * self.step for bound in inputs[1:3])
        charge = np.clip(self.total(node.input[-2], inputs[0]), low, high)
        return self.fire(node, charge, inputs[3], given)

    def op_integerreadout(self, node, inputs, given):
        total = self.total(node.input[-1], inputs[0])
        return total.astype(np.float32) / np.float32(self.step) * inputs[1]


def pooled(x, given):
    """Largest of each window."""
    kh, kw = given["kernel_shape"]
    (sh, sw), pads = given.get("strides", [1, 1]), given.get("pads", [0] * 4)
    least = np.iinfo(np.int64).min
    sides = ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3]))
    x = np.pad(x, sides, constant_values=least)
    windows = np.lib.stride_tricks.sliding_window_view(x, (kh, kw), (2, 3))
    return windows[:, :, ::sh, ::sw].max(axis=(-2, -1))
