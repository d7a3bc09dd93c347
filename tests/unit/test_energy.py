"""Synaptic operations against a count made the other way round: forwards, spike by spike."""

import networks
import numpy as np
import pytest
from onnx import numpy_helper
from onnx.inliner import inline_local_functions
from onnx.reference import ReferenceEvaluator

import onnx2snn
from onnx2snn.costs import multiplications
from onnx2snn_runtime.format import read_metadata


def strided_net():
    """Relu, grouped strided Conv, Relu, Conv, Relu, dense tail; borders and pruned weights."""
    b = networks.Builder(7)
    x = b.add("Relu", [b.conv("input", 3, 4)])
    weight = b.weight(4, 2, 3, 3)
    array = numpy_helper.to_array(b.weights[-1]).copy()
    array[0, 1] = 0.0  # a pruned kernel
    b.weights[-1].CopyFrom(numpy_helper.from_array(array, weight))
    x = b.add("Conv", [x, weight], pads=[1, 1, 0, 1], strides=[2, 1], group=2, kernel_shape=[3, 3])
    x = b.add("Relu", [x])
    x = b.add("Relu", [b.conv(x, 4, 5)])
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [x])])
    return b.model(b.add("Gemm", [flat, b.weight(3, 5)], transB=1), [3])


def forward_counts(model, layer_counts):
    """Sum over the outputs of |n| sent through weights replaced by (weight ≠ 0)."""
    weights = {w.name: numpy_helper.to_array(w) for w in model.ann.graph.initializer}
    total = 0.0
    for node in model.ann.graph.node:
        if node.op_type != "Conv" or node.input[0] not in layer_counts:
            continue
        attributes = {a.name: a for a in node.attribute}
        make = networks.helper.make_tensor_value_info
        counts = layer_counts[node.input[0]].astype(np.float32)
        mask = (weights[node.input[1]] != 0).astype(np.float32)
        single = networks.helper.make_node("Conv", ["x", "w"], ["y"])
        single.attribute.extend(attributes.values())
        graph = networks.helper.make_graph(
            [single],
            "conv",
            [make("x", 1, counts.shape), make("w", 1, mask.shape)],
            [make("y", 1, None)],
        )
        opsets = [networks.helper.make_opsetid("", 18)]
        oracle = ReferenceEvaluator(networks.helper.make_model(graph, opset_imports=opsets))
        total += float(oracle.run(None, {"x": counts, "w": mask})[0].sum())
    return total


def stepped(proto, images, tensor, timesteps):
    """A tensor after each step, by stepping the file itself."""
    watched = inline_local_functions(proto)
    watched.graph.output.append(networks.helper.make_tensor_value_info(tensor, 1, None))
    oracle = ReferenceEvaluator(watched)
    names = [output.name for output in watched.graph.output]
    feeds = {"input": images}
    for value in watched.graph.input[1:]:
        sizes = [d.dim_value or len(images) for d in value.type.tensor_type.shape.dim]
        kind = networks.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        feeds[value.name] = np.zeros(sizes, kind)
    for _ in range(timesteps):
        results = dict(zip(names, oracle.run(None, feeds), strict=True))
        feeds.update({name: results[name + ".next"] for name in list(feeds)[1:]})
        yield results[tensor]


def test_synops_are_spikes_times_true_fan_out():
    images = networks.images(6)
    model = onnx2snn.convert(strided_net(), calibration=images)
    network = model.network()
    result = onnx2snn.evaluate(network, images, timesteps=[3])
    spikes = network.run(images, timesteps=3, record=True).spikes
    by_output = {layer.output: spikes[layer.name] for layer in model.layers}
    expected = forward_counts(model, by_output)
    (step,) = result["steps"]
    last = by_output[model.layers[-1].output]
    tail = float(last.sum()) * 3  # each spike is averaged, then meets the 3 dense weights
    assert step["synops_per_image"] * 6 == pytest.approx(expected + tail)
    assert step["spikes_per_image"] * 6 == pytest.approx(sum(s.sum() for s in spikes.values()))


def test_macs_leave_out_padding_and_pruned_weights():
    model = onnx2snn.convert(strided_net(), calibration=networks.images(6))
    counts = list(multiplications(model.ann).values())
    ones = {
        node.input[0]: np.ones((1, *shape), np.float32)
        for node, shape in zip(
            [n for n in model.ann.graph.node if n.op_type == "Conv"],
            [(3, 8, 8), (4, 8, 8), (4, 4, 8)],
            strict=True,
        )
    }
    assert sum(counts) == forward_counts(model, ones) + 15


def test_changed_values_of_a_pool_between_refining_neurons_cost_multiplications():
    """A pool that neurons cannot follow hands on values: counted by stepping the file itself."""
    b = networks.Builder(4)
    x = b.add("Relu", [b.conv("input", 3, 4)])
    pooled = b.add("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    both = b.add("Add", [b.conv(pooled, 4, 2, kernel=1), b.conv(x, 4, 2, kernel=1, strides=[2, 2])])
    y = b.add("Relu", [both])
    images = networks.images(3)
    source = b.model(b.conv(y, 2, 2, kernel=1), [2, 4, 4])
    model = onnx2snn.convert(source, calibration=images, recipe="refine")
    (step,) = onnx2snn.evaluate(model.network(), images, timesteps=[3])["steps"]

    (pool,) = (node for node in model.proto.graph.node if node.op_type == "MaxPool")
    before, changed = 0.0, 0
    for values in stepped(model.proto, images, pool.output[0], 3):
        changed += int((values != before).sum())
        before = values
    macs = multiplications(model.ann)
    head = macs[next(node.name for node in model.ann.graph.node if node.op_type == "Conv")]
    synops = 0.9 * step["synops_per_image"]
    values = 4.6 * (2 * changed / len(images) + head)  # each value meets two weights
    assert step["energy_uj"] == pytest.approx((synops + values) * 1e-6)


def bottleneck_net():
    """Relu, Conv, Conv with borders and nothing in between, Relu; 16 channels fill blocks."""
    b = networks.Builder(6)
    x = b.add("Relu", [b.conv("input", 3, 4)])
    sums = b.conv(x, 4, 16, kernel=1)
    x = b.add("Relu", [b.conv(sums, 16, 4, strides=[2, 2])])
    return b.model(b.conv(x, 4, 2, kernel=1), [2, 4, 4]), sums


@pytest.mark.parametrize("recipe", ["fast", "refine"])
def test_sums_that_meet_weights_again_cost_multiplications(recipe):
    """Spikes pay for the weights they meet; sums over these are values at the next weights."""
    images = networks.images(40)
    source, sums = bottleneck_net()
    model = onnx2snn.convert(source, calibration=images, recipe=recipe)
    network = model.network()
    (step,) = onnx2snn.evaluate(network, images, timesteps=[3])["steps"]
    spikes = network.run(images, timesteps=3, record=True).spikes
    first, last = (spikes[layer.name] for layer in model.layers)
    before, changed = 0.0, 0.0
    for values in stepped(model.proto, images, sums, 3):
        changed = changed + (values != before)
        before = values if recipe == "refine" else 0.0

    macs = forward_counts(model, {sums: changed}) / len(images)
    head, _, again, _ = multiplications(model.ann).values()
    synops = (16 * np.abs(first).sum() + 2 * np.abs(last).sum()) / len(images)
    assert step["synops_per_image"] == pytest.approx(synops)
    assert step["energy_uj"] == pytest.approx((0.9 * synops + 4.6 * (head + macs)) * 1e-6)
    assert model.work.macs["graded"] == again


def test_a_chain_of_shapes_has_the_fan_out_of_the_constant_that_it_is():
    """Every other element of the flat batch, gathered across samples; then dense weights."""

    def net(dynamic):
        b = networks.Builder(3)

        def constant(array):
            name = f"constant_{len(b.weights)}"
            b.weights.append(numpy_helper.from_array(np.asarray(array, np.int64), name))
            return name

        x = b.add("Relu", [b.conv("input", 3, 4)])
        if dynamic:
            n = b.add("Squeeze", [b.add("Shape", [x], start=0, end=1)])
            count = b.add("Mul", [n, constant(128)])
            at = b.add("Range", [constant(0), count, constant(1)])
            even = b.add("Mul", [at, constant(2)])
            flat = b.add("Reshape", [x, constant([-1])])
            x = b.add("Gather", [flat, even])
            x = b.add("Reshape", [x, constant([-1, 128])])
        else:
            x = b.add("Flatten", [x])
            x = b.add("Gather", [x, constant(np.arange(0, 256, 2))], axis=1)
        return b.model(b.add("Gemm", [x, b.weight(3, 128)], transB=1), [3])

    images = networks.images(4)
    found = []
    for dynamic in (True, False):
        model = onnx2snn.convert(net(dynamic), calibration=images)
        found.append(onnx2snn.evaluate(model, images, timesteps=[2])["steps"])
    assert found[0] == found[1]
    assert found[0][0]["synops_per_image"] > 0


def test_macs_of_layers_are_those_between_them():
    model = onnx2snn.convert(strided_net(), calibration=networks.images(6))
    per_layer = [layer.macs for layer in model.layers]
    assert per_layer == list(multiplications(model.ann).values())[:3]
    assert [layer["macs"] for layer in read_metadata(model.proto)["layers"]] == per_layer


def test_counting_takes_no_longer_where_a_graph_has_many_ways():
    """Whether a value is static is asked of 2^40 ways here, if each of them is walked."""
    b = networks.Builder(3)
    x = y = b.add("Relu", [b.conv("input", 3, 4)])
    for _ in range(40):
        y = b.add("Add", [y, y])
    both = b.add("Relu", [b.conv(b.add("Concat", [x, y], axis=1), 8, 3)])
    source = b.model(b.add("Flatten", [b.add("GlobalAveragePool", [both])]), [3])
    images = networks.images(4)
    model = onnx2snn.convert(source, calibration=images)
    found = onnx2snn.evaluate(model, images, timesteps=1)["steps"][0]
    assert found["synops_per_image"] > 0
