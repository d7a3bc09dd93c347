"""Convolutions of any geometry, and their sums written out."""

import itertools

import numpy as np
from hypothesis import strategies as st

from onnx2snn_runtime.gpu.linear import replacements
from onnx2snn_runtime.ops import Call

# largest relative error: half the distance of 16-bit floats for the inputs, and for the sums
TOLERANCES = {"fp32": 1e-5, "tf32": 1e-5, "fp16": 4e-3}


@st.composite
def convolutions(draw):
    """Attributes, input and weights of a Conv node in one to three dimensions."""
    axes, groups = draw(st.integers(1, 3)), draw(st.sampled_from([1, 1, 2, 3]))

    def numbers(low, high, count=axes):
        return draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    kernel = numbers(1, 3)
    attributes = {
        "group": groups, "kernel_shape": kernel, "strides": numbers(1, 3),
        "dilations": numbers(1, 2), "pads": numbers(0, 2, 2 * axes),
    }  # fmt: skip
    depth, filters = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    x = random.normal(0, 1, (draw(st.integers(1, 3)), depth * groups, *numbers(5, 7)))
    weight = random.normal(0, 1, (filters * groups, depth, *kernel))
    bias = random.normal(0, 1, filters * groups) if draw(st.booleans()) else None
    return attributes, *(None if a is None else a.astype(np.float32) for a in (x, weight, bias))


def written_out(attributes, x, weight, bias):
    """Every output element as its own sum, in float64; also the sums of the magnitudes."""
    axes, groups = x.ndim - 2, attributes["group"]
    front, back = attributes["pads"][:axes], attributes["pads"][axes:]
    padding = [(0, 0), (0, 0), *zip(front, back, strict=True)]
    source = np.pad(x.astype(np.float64), padding)
    strides, dilations = attributes["strides"], attributes["dilations"]
    sizes = [
        (size - (k - 1) * d - 1) // s + 1
        for size, k, s, d in zip(
            source.shape[2:], weight.shape[2:], strides, dilations, strict=True
        )
    ]
    sums = np.zeros((len(x), len(weight), *sizes))
    magnitudes = np.zeros_like(sums)
    depth, filters = weight.shape[1], len(weight) // groups
    for m, place in itertools.product(range(len(weight)), np.ndindex(*sizes)):
        channels = slice(m // filters * depth, (m // filters + 1) * depth)
        window = tuple(
            slice(p * s, p * s + (k - 1) * d + 1, d)
            for p, s, k, d in zip(place, strides, weight.shape[2:], dilations, strict=True)
        )
        products = source[(slice(None), channels, *window)] * weight[m]
        inner = tuple(range(1, products.ndim))
        shift = 0 if bias is None else bias[m]
        sums[(slice(None), m, *place)] = products.sum(axis=inner) + shift
        magnitudes[(slice(None), m, *place)] = np.abs(products).sum(axis=inner) + np.abs(shift)
    return sums, magnitudes


def convolve(engine, attributes, x, weight, bias):
    """A Conv node as an interpreter runs it with an engine."""
    xp = engine.xp
    call = Call(xp, attributes, 18)
    run = replacements(engine)["Conv"](call)
    arrays = [None if a is None else xp.asarray(a) for a in (x, weight, bias)]
    result = engine.device.to_host(run(call, *arrays))
    again = engine.device.to_host(run(call, *arrays))  # with prepared weights
    np.testing.assert_array_equal(again, result)
    return result
