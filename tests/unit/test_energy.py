"""Synaptic operations against a count made the other way round: forwards, spike by spike."""

import networks
import numpy as np
import pytest
from onnx import numpy_helper
from onnx.inliner import inline_local_functions
from onnx.reference import ReferenceEvaluator

import onnx2snn
from onnx2snn.energy.costs import multiplications
from onnx2snn.energy.fan_in import FanIn
from onnx2snn.energy.fan_out import FanOut
from onnx2snn.energy.synapses import weights_met
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


PRODUCTS = {
    "matrix": ("MatMul", {}, (1, 3, 4), (4, 5), 1),
    "vector": ("MatMul", {}, (1, 3, 4), (4,), 1),
    "matrices": ("MatMul", {}, (1, 3, 5, 4), (3, 4, 2), 1),
    "heads": ("MatMul", {}, (1, 1, 5, 4), (3, 4, 2), 1),
    "left": ("MatMul", {}, (1, 4, 5), (3, 4), 0),
    "left vector": ("MatMul", {}, (1, 4, 5), (4,), 0),
    "left matrices": ("MatMul", {}, (1, 2, 4, 5), (2, 3, 4), 0),
    "gemm": ("Gemm", {"transB": 1}, (1, 4), (3, 4), 1),
    "gemm, plain": ("Gemm", {}, (1, 4), (4, 3), 1),
    "einsum": ("Einsum", {"equation": "nc,cd->nd"}, (1, 4), (4, 3), 1),
    "einsum, dots": ("Einsum", {"equation": "...c, dc -> ...d"}, (1, 2, 4), (3, 4), 1),
    "einsum, heads": ("Einsum", {"equation": "nthd,hde->nte"}, (1, 3, 2, 4), (2, 4, 5), 1),
    "einsum, left": ("Einsum", {"equation": "ab,nbc->nac"}, (1, 4, 2), (3, 4), 0),
    "einsum, implicit": ("Einsum", {"equation": "nb,bc"}, (1, 4), (4, 3), 1),
    "einsum, diagonal": ("Einsum", {"equation": "nii,ic->nc"}, (1, 4, 4), (4, 3), 1),
    "einsum, summed": ("Einsum", {"equation": "nij,jc->nc"}, (1, 2, 4), (4, 3), 1),
}


@pytest.mark.parametrize("case", PRODUCTS)
def test_every_element_of_a_product_meets_its_weights(case):
    """Against one run of the operator for each element: how many weights are in the result."""
    op, attributes, shape, weights, stored = PRODUCTS[case]
    mask = np.random.default_rng(4).integers(0, 2, weights).astype(np.float32)
    feeds = {"x": np.zeros(shape, np.float32), "w": mask}
    node = networks.helper.make_node(op, ["w", "x"] if stored == 0 else ["x", "w"], ["y"])
    node.attribute.extend(networks.helper.make_node("", [], [], **attributes).attribute)
    make = networks.helper.make_tensor_value_info
    graph = networks.helper.make_graph(
        [node], "product", [make(name, 1, x.shape) for name, x in feeds.items()],
        [make("y", 1, None)],
    )  # fmt: skip
    opsets = [networks.helper.make_opsetid("", 18)]
    oracle = ReferenceEvaluator(networks.helper.make_model(graph, opset_imports=opsets))
    expected = np.zeros(shape)
    for index in np.ndindex(shape):
        feeds["x"] = np.zeros(shape, np.float32)
        feeds["x"][index] = 1.0
        (result,) = oracle.run(None, feeds)
        expected[index] = result.sum()
    shapes = {"x": shape, "w": weights, "y": result.shape}
    found = weights_met(node, {"w": numpy_helper.from_array(mask, "w")}, shapes)
    assert np.array_equal(found, expected)


def test_weights_count_on_both_sides_of_a_product():
    """Mixing of tokens, weights on the left; a dense layer spelled as Einsum."""
    b = networks.Builder(2)
    pixels = b.constant([0, 3, 64])
    x = b.add("MatMul", [b.add("Reshape", ["input", pixels]), b.weight(64, 8)])
    x = b.add("MatMul", [b.weight(5, 3), b.add("Relu", [x])])
    x = b.add("Einsum", [b.add("Relu", [x]), b.weight(8, 4)], equation="ntc,cd->ntd")
    model = onnx2snn.convert(b.model(x, [5, 4]), calibration=networks.images(40))
    assert list(multiplications(model.ann).values()) == [3 * 64 * 8, 8 * 5 * 3, 5 * 8 * 4]
    spikes = model.network().run(networks.images(6), timesteps=2, record=True).spikes
    first, second = (np.abs(spikes[layer.name]).sum() for layer in model.layers)
    (step,) = onnx2snn.evaluate(model.network(), networks.images(6), timesteps=[2])["steps"]
    assert step["synops_per_image"] * 6 == pytest.approx(5 * first + 4 * second)


def compared(pool, features):
    """Two layers of neurons, what ``pool(builder, s, t)`` makes of them, and dense weights."""
    b = networks.Builder(8)
    s, t = (b.add("Relu", [b.conv("input", 3, 4)]) for _ in range(2))
    loud = numpy_helper.to_array(b.weights[2]) * 5
    b.weights[2].CopyFrom(numpy_helper.from_array(loud, b.weights[2].name))
    x = b.add("Flatten", [pool(b, s, t)])
    x = b.add("Relu", [b.add("Gemm", [x, b.weight(6, features)], transB=1)])
    x = b.add("Add", [x, b.add("Gemm", [b.add("Flatten", [t]), b.weight(6, 256)], transB=1)])
    return b.model(b.add("Gemm", [x, b.weight(3, 6)], transB=1), [3])


def step_of(source, **options):
    """Two steps on some images."""
    images = networks.images(40)
    model = onnx2snn.convert(source, calibration=images, **options)
    return onnx2snn.evaluate(model.network(), images, timesteps=[2])["steps"][0]


@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_reduction_over_pixels_costs_what_global_pooling_costs(keepdims):
    expected = step_of(compared(lambda b, s, t: b.add("GlobalMaxPool", [s]), 4))

    def reduced(b, s, t):
        return b.add("ReduceMax", [s, b.constant([2, 3])], keepdims=keepdims)

    found = step_of(compared(reduced, 4))
    assert found["synops_per_image"] == expected["synops_per_image"] > 0
    assert found["energy_uj"] == pytest.approx(expected["energy_uj"])


def test_a_maximum_over_thresholds_that_differ_costs_multiplications():
    """Over channels, or of two layers in either order; with equal thresholds these are spikes."""

    def over_channels(b, s, t):
        return b.add("ReduceMax", [s, b.constant([1])], keepdims=1)

    def largest(order):
        return lambda b, s, t: b.add("Max", [s, t][::order])

    maxout, equal = (
        step_of(compared(over_channels, 64), per_channel=channels) for channels in (True, False)
    )
    assert maxout["energy_uj"] > equal["energy_uj"]
    assert maxout["synops_per_image"] < equal["synops_per_image"]
    ours, theirs = (step_of(compared(largest(order), 256), per_channel=False) for order in (1, -1))
    assert ours == pytest.approx(theirs)


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


def resized(mode, to, **given):
    def build(b, x):
        names = ["", b.constant([1, 1, 7, 8], np.int64)]
        if "scales" in given:
            names = [b.constant(given["scales"], np.float32)]
        return b.add("Resize", [x, "", *names], mode=mode, coordinate_transformation_mode=to)

    return build


def turned(b, x):
    return b.add("Concat", [x, b.add("Transpose", [x], perm=[0, 1, 3, 2]), x], axis=1)


MOVES = {
    "nearest": resized("nearest", "asymmetric", scales=[1, 1, 2, 2]),
    "linear": resized("linear", "half_pixel", scales=[1, 1, 2, 1.5]),
    "linear, sizes": resized("linear", "align_corners"),
    "cubic": resized("cubic", "half_pixel", scales=[1, 1, 0.5, 2]),
    "pad": lambda b, x: b.add("Pad", [x, b.constant([0, 0, 1, 1, 0, 0, 0, 1]),
                                      b.constant(3, np.float32)]),
    "edge": lambda b, x: b.add("Pad", [x, b.constant([0, 0, 1, 1, 0, 0, 0, 1])], mode="edge"),
    "running sum": lambda b, x: b.add("CumSum", [x, b.constant(2)]),
    "sum from the end": lambda b, x: b.add("CumSum", [x, b.constant(3)], reverse=1, exclusive=1),
    "average": lambda b, x: b.add("AveragePool", [x], kernel_shape=[2, 3], strides=[2, 1],
                                  pads=[1, 0, 0, 1], ceil_mode=1),
    "concat": turned,
    "with a constant": lambda b, x: b.add("Concat", [x, b.constant(np.full((1, 2, 4, 4), 5.0),
                                                                   np.float32)], axis=1),
}  # fmt: skip


@pytest.mark.parametrize("case", MOVES)
def test_fan_out_through_what_moves_and_mixes(case):
    """Against one run for each neuron: which inputs of the convolution it changes."""
    b = networks.Builder(3, channels=2, size=4)
    moved = MOVES[case](b, "input")
    make = networks.helper.make_tensor_value_info
    opsets = [networks.helper.make_opsetid("", 18)]
    ends = [make("input", 1, [1, 2, 4, 4])], [make(moved, 1, None)]
    graph = networks.helper.make_graph(b.nodes, "moves", *ends, b.weights)
    oracle = ReferenceEvaluator(networks.helper.make_model(graph, opset_imports=opsets))
    first = np.random.default_rng(0).uniform(1, 2, (1, 2, 4, 4)).astype(np.float32)
    (before,) = oracle.run(None, {"input": first})
    weight = b.weight(3, before.shape[1], 3, 3)
    y = b.add("Conv", [moved, weight], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    graph = networks.helper.make_graph(
        b.nodes, "moves", ends[0], [make(y, 1, [1, 3, *before.shape[2:]])], b.weights,
        value_info=[make(node.output[0], 1, before.shape) for node in b.nodes[:-1]],
    )  # fmt: skip
    if case == "concat":
        graph.value_info[0].CopyFrom(make(b.nodes[0].output[0], 1, [1, 2, 4, 4]))
    model = networks.helper.make_model(graph, opset_imports=opsets)
    fan_out = FanOut(model)
    met = fan_out.of(moved)
    expected = np.zeros(first.shape)
    for index in np.ndindex(first.shape):
        changed = first.copy()
        changed[index] += 0.5
        (after,) = oracle.run(None, {"input": changed})
        expected[index] = met[after != before].sum()
    assert np.array_equal(fan_out.of("input"), expected)
    assert expected.sum() > 0
    assert FanIn(model, fan_out).of(y).sum() == expected.sum()  # the same connections


def test_fan_in_of_single_neurons():
    """Borders, a shortcut, pooling in front of weights, and sums that weights meet as values."""
    b = networks.Builder(3, channels=2, size=4)
    conv = b.conv("input", 2, 4)
    both = b.add("Add", [conv, b.conv("input", 2, 4, kernel=1)])
    pool = b.add("AveragePool", ["input"], kernel_shape=[2, 2], strides=[2, 2])
    dense = b.add("Gemm", [b.add("Flatten", [pool]), b.weight(5, 8)], transB=1)
    again = b.conv(conv, 4, 3, kernel=1)
    largest = b.add("MaxPool", [again], kernel_shape=[2, 2], strides=[2, 2])
    make = networks.helper.make_tensor_value_info
    shapes = {conv: [1, 4, 4, 4], both: [1, 4, 4, 4], pool: [1, 2, 2, 2], dense: [1, 5],
              again: [1, 3, 4, 4], b.nodes[1].output[0]: [1, 4, 4, 4],
              b.nodes[4].output[0]: [1, 8]}  # fmt: skip
    graph = networks.helper.make_graph(
        b.nodes, "fan_in", [make("input", 1, [1, 2, 4, 4])], [make(largest, 1, [1, 3, 2, 2])],
        b.weights, value_info=[make(name, 1, shape) for name, shape in shapes.items()],
    )  # fmt: skip
    opsets = [networks.helper.make_opsetid("", 18)]
    model = networks.helper.make_model(graph, opset_imports=opsets)
    fan_in = FanIn(model, FanOut(model, sums=[conv]))
    assert np.all(fan_in.of(dense) == 8 * 4)  # eight means of four neurons each
    assert np.all(fan_in.of(again) == 4)
    assert np.all(fan_in.of(largest) == 4 * 4)
    assert fan_in.of(both)[0, 0].tolist() == [[10, 14, 14, 10], [14, 20, 20, 14],
                                              [14, 20, 20, 14], [10, 14, 14, 10]]  # fmt: skip


def test_both_branches_of_a_choice_by_the_picture_count():
    b = networks.Builder(3)
    current = b.conv("input", 3, 4)
    r, s = b.add("Relu", [current]), b.add("Relu", [b.conv("input", 3, 4)])
    low = b.add("Less", [current, b.constant(0.5, np.float32)])
    for join in ("Add", "Where"):
        c = networks.Builder(3)
        c.nodes, c.weights = list(b.nodes), list(b.weights)
        x = c.add(join, [low, r, s] if join == "Where" else [r, s])
        x = c.add("Relu", [c.conv(x, 4, 3)])
        x = c.add("Flatten", [c.add("GlobalAveragePool", [x])])
        source = c.model(c.add("Gemm", [x, c.weight(2, 3)], transB=1), [2])
        model = onnx2snn.convert(source, calibration=networks.images(40))
        network = FanOut(model.proto)
        *_, last = (unit for unit in model.network().plan.stateful if unit.operator.spiking)
        assert FanIn(model.proto, network).of(last.inputs[0]).max() == 2 * 4 * 9
        assert {network.of(tensor).max() for tensor in (r, s)} == {3 * 9}


def test_fan_in_does_not_depend_on_the_arithmetic():
    """In whole numbers the input is rounded to steps and clipped in front of the first weights."""
    fan_ins = []
    for precision in ("float", "int8"):
        model = onnx2snn.convert(
            networks.small_cnn(pool=False), calibration=networks.images(40), precision=precision
        )
        first = model.network().plan.stateful[0]
        network = FanOut(model.proto)
        fan_ins.append(FanIn(model.proto, network).of(first.inputs[0]).max())
    assert fan_ins[0] == fan_ins[1] == 27


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
        x = b.add("Relu", [b.conv("input", 3, 4)])
        if dynamic:
            n = b.add("Squeeze", [b.add("Shape", [x], start=0, end=1)])
            count = b.add("Mul", [n, b.constant(128)])
            at = b.add("Range", [b.constant(0), count, b.constant(1)])
            even = b.add("Mul", [at, b.constant(2)])
            flat = b.add("Reshape", [x, b.constant([-1])])
            x = b.add("Gather", [flat, even])
            x = b.add("Reshape", [x, b.constant([-1, 128])])
        else:
            x = b.add("Flatten", [x])
            x = b.add("Gather", [x, b.constant(np.arange(0, 256, 2))], axis=1)
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


def parted(b, x, with_split):
    """The two halves of the channels of x."""
    if with_split:
        half = b.constant([2, 2])
        b.nodes.append(networks.helper.make_node("Split", [x, half], ["low", "high"], axis=1))
        return ["low", "high"]
    bounds = [(0, 2), (2, 4)]
    return [b.add("Slice", [x, *(b.constant([n]) for n in (*pair, 1))]) for pair in bounds]


def test_every_output_of_a_split_counts():
    """ShuffleNet, Res2Net and the like part their channels."""
    images = networks.images(16)
    found = []
    for with_split in (True, False):
        b = networks.Builder(2)
        x = b.add("Relu", [b.conv("input", 3, 4)])
        x = b.add("Concat", [b.conv(part, 2, 3) for part in parted(b, x, with_split)], axis=1)
        x = b.add("Relu", [x])
        x = b.add("Flatten", [b.add("GlobalAveragePool", [x])])
        source = b.model(b.add("Gemm", [x, b.weight(3, 6)], transB=1), [3])
        model = onnx2snn.convert(source, calibration=images)
        found.append(onnx2snn.evaluate(model, images, timesteps=[1, 2])["steps"])
    assert found[0] == found[1]


@pytest.mark.parametrize("op", ["Div", "Mul", "MatMul"])
def test_a_tail_behind_a_product_of_two_signals_is_multiplied_once(op):
    b = networks.Builder(2)
    x = b.add("Relu", [b.conv("input", 3, 4)])
    soft = b.add("Softmax", [x], axis=1)
    x = b.add("Flatten", [b.add(op, [x, soft])])
    source = b.model(b.add("Gemm", [x, b.weight(5, 256)], transB=1), [5])
    images = networks.images(16)
    model = onnx2snn.convert(source, calibration=images)
    found = onnx2snn.evaluate(model, images, timesteps=[1, 4])
    head = multiplications(model.ann)
    assert sum(head.values()) == found["ann"]["macs_per_image"]
    for step in found["steps"]:
        assert step["synops_per_image"] == 0
        assert step["energy_uj"] == pytest.approx(found["ann"]["energy_uj"])


@pytest.mark.parametrize("way", ["Concat", "Slice", "Transpose"])
@pytest.mark.parametrize("recipe", ["fast", "paper"])
def test_a_pool_behind_what_moves_neurons_sends_spikes(way, recipe):
    """Each of its windows holds one channel, whose neurons share their threshold."""
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)

    def net(way):
        def layer(part):
            kernel = b.constant(part, np.float32)
            return b.add("Relu", [b.add("Conv", ["input", kernel], pads=[1] * 4)])

        b = networks.Builder(3)
        if way == "Concat":
            x = b.add("Concat", [layer(weight[:2]), layer(weight[2:])], axis=1)
        elif way == "Slice":
            bounds = [b.constant([number]) for number in (0, 4, 1)]
            x = b.add("Slice", [layer(np.concatenate([weight, weight])), *bounds])
        elif way == "Transpose":
            x = b.add("Transpose", [layer(weight)], perm=[0, 1, 3, 2])
        else:
            x = layer(weight)
        x = b.add("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
        x = b.add("Relu", [b.conv(x, 4, 3, 1)])
        x = b.add("Flatten", [b.add("GlobalAveragePool", [x])])
        return b.model(b.add("Gemm", [x, b.weight(2, 3)], transB=1), [2])

    images = networks.images(32)
    found = [
        onnx2snn.evaluate(
            onnx2snn.convert(net(kind), calibration=images, recipe=recipe, per_channel=True),
            images, timesteps=[4],
        )["steps"][0]
        for kind in (way, "none")
    ]  # fmt: skip
    assert found[0]["synops_per_image"] == pytest.approx(found[1]["synops_per_image"], rel=0.02)
    if way != "Slice":  # where the convolution in the head is larger
        assert found[0]["energy_uj"] == pytest.approx(found[1]["energy_uj"], rel=0.02)


@pytest.mark.parametrize("recipe", ["fast", "paper"])
def test_a_pool_over_neurons_and_constants(recipe):
    """Constants have no threshold: what the pool sends is counted as values."""
    b = networks.Builder(3)
    beside = b.constant(np.full((1, 2, 8, 8), 0.1), np.float32)
    x = b.add("Relu", [b.conv("input", 3, 4)])
    rows = b.add("Mul", [b.add("Slice", [x, b.constant([0]), b.constant([2]), b.constant([1])]),
                         b.constant(0.0, np.float32)])  # fmt: skip
    x = b.add("Concat", [x, b.add("Add", [rows, beside])], axis=1)
    x = b.add("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = b.add("Flatten", [b.add("GlobalAveragePool", [b.add("Relu", [b.conv(x, 6, 3, 1)])])])
    source = b.model(b.add("Gemm", [x, b.weight(2, 3)], transB=1), [2])
    images = networks.images(32)
    model = onnx2snn.convert(source, calibration=images, recipe=recipe)
    (step,) = onnx2snn.evaluate(model, images, timesteps=[4])["steps"]
    assert np.isfinite(step["synops_per_image"])
    assert np.isfinite(step["energy_uj"])
