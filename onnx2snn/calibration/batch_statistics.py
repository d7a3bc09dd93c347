"""What BatchNormalization says about activations when there is no image.

Its output has, over the training images, the mean β and the deviation |γ| in each channel. Taken
as normal, its quantiles go through the activation into the same histograms that images would fill.
Of the sum of two branches the means and variances are added, as if they were independent;
concatenation and pooling pass on what is known. Layers that no BatchNormalization leads to are left
out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto

from onnx2snn.calibration.calibrate import Histogram
from onnx2snn_runtime.files.beside import array_of
from onnx2snn_runtime.nodes import attributes_of, run_node
from onnx2snn_runtime.planning.plan import tensor_shape

Floats = NDArray[np.float64]
QUANTILES = 4096
CHANNELS = 1
_PASSING = ("MaxPool", "Identity", "Dropout")


@dataclass(frozen=True)
class Moments:
    """Mean and variance of each channel of a tensor, [C]."""

    mean: Floats
    variance: Floats


def read_statistics(source: onnx.ModelProto, network: onnx.ModelProto) -> dict[str, Moments]:
    """Moments that the BatchNormalizations of a source give to tensors of its normal form.

    Args:
        source: the network as it was exported.
        network: its normal form, in which most of them are folded into the weights before them.
    """
    arrays = {item.name: item for item in source.graph.initializer}
    present = {name for node in network.graph.node for name in node.output}
    found = {}
    for node in source.graph.node:
        if node.op_type != "BatchNormalization" or not set(node.input[1:3]) <= set(arrays):
            continue
        gain, shift = (array_of(arrays[name]) for name in node.input[1:3])
        name = node.output[0] if node.output[0] in present else node.input[0]
        found[name] = Moments(shift.astype(np.float64), np.square(gain.astype(np.float64)))
    return found


def expected_histograms(
    network: onnx.ModelProto, layers: Iterable[str], known: Mapping[str, Moments]
) -> dict[str, Histogram]:
    """Distributions of the layers that the statistics reach.

    Args:
        network: the normal form of a network.
        layers: output tensors of its neurons.
        known: moments of some of its tensors.
    """
    wanted, moments = set(layers), dict(known)
    found: dict[str, Histogram] = {}
    for node in network.graph.node:
        inputs = [moments[name] for name in node.input if name in moments]
        result = node.output[0]
        if result in wanted and node.input[0] in moments:
            values = _activate(network, node, moments[node.input[0]])
            found[result] = Histogram(values.shape[CHANNELS])
            found[result].add(values)
            rows = np.moveaxis(values, CHANNELS, 0).reshape(values.shape[CHANNELS], -1)
            moments[result] = Moments(rows.mean(axis=1), rows.var(axis=1))
        elif result in moments or len(inputs) != len(node.input):
            continue
        elif node.op_type in _PASSING:
            moments[result] = inputs[0]
        elif node.op_type == "Add" and len({len(item.mean) for item in inputs}) == 1:
            mean, variance = (sum(getattr(item, key) for item in inputs)
                              for key in ("mean", "variance"))  # fmt: skip
            moments[result] = Moments(mean, variance)
        elif node.op_type == "Concat" and attributes_of(node)["axis"] == CHANNELS:
            mean, variance = (np.concatenate([getattr(item, key) for item in inputs])
                              for key in ("mean", "variance"))  # fmt: skip
            moments[result] = Moments(mean, variance)
    return found


def _activate(network: onnx.ModelProto, node: NodeProto, moments: Moments) -> NDArray[np.float32]:
    """Quantiles of an activation, [quantiles, C, 1, …] in the rank of its output."""
    values = {value.name: value for value in [*network.graph.value_info, *network.graph.output]}
    known = values.get(node.output[0]) or values.get(node.input[0])
    rank = len(tensor_shape(known)) if known is not None else 2
    spread = np.sqrt(moments.variance)[np.newaxis] * _levels()[:, np.newaxis]
    quantiles = (moments.mean + spread).astype(np.float32)
    opset = next(item.version for item in network.opset_import if not item.domain)
    constants = {
        item.name: array_of(item) for item in network.graph.initializer if item.name in node.input
    }
    shaped = quantiles.reshape(*quantiles.shape, *(1,) * (rank - 2))
    result: NDArray[np.float32] = run_node(node, {node.input[0]: shaped, **constants}, opset)[0]
    return result


@cache
def _levels() -> Floats:
    """Quantiles of the normal distribution of mean 0 and deviation 1, [quantiles]."""
    normal = NormalDist()
    return np.array([normal.inv_cdf((index + 0.5) / QUANTILES) for index in range(QUANTILES)])
