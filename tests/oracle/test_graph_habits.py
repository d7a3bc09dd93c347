"""What exporters and tools do to graphs: each converts, and the spiking network is the file's.

The file itself, run by onnxruntime, is the oracle.
"""

import networks
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from passes import helpers

import onnx2snn
import onnx2snn_runtime
from onnx2snn_runtime.errors import UsageError

MAKE = helper.make_tensor_value_info
NEWEST = 24  # what onnxruntime is sure to run


def check(source, images=None, *, reference=None, limit=2e-3, neurons=None, **options):
    """Convert with the refining code, which converges fast, and compare all float outputs."""
    images = networks.images(6) if images is None else images
    expected = helpers.run(reference or source)({"input": images})
    model = onnx2snn.convert(source, calibration=images, recipe="refine", **options)
    onnx.checker.check_model(model.proto, full_check=True)
    if neurons is not None:
        found = [layer.op for layer in model.layers if layer.role == "neuron"]
        assert found == neurons
    answers = model.network().run(np.asarray(images, np.float32), timesteps=16).outputs
    assert list(answers) == list(expected)
    for name, array in expected.items():
        if array.dtype.kind == "f":
            difference = np.linalg.norm(answers[name] - array.astype(np.float64))
            assert difference <= limit * np.linalg.norm(array), name
    return model


def plain(channels=6):
    b = networks.Builder(2)
    x = b.add("Relu", [b.conv("input", 3, channels)])
    return b, x


def finish(b, x, channels=6, **options):
    """Conv, Relu, global mean, Gemm."""
    x = b.add("Relu", [b.conv(x, channels, 5)])
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [x])])
    return b.model(b.add("Gemm", [flat, b.weight(4, 5), b.weight(4)], transB=1), [4], **options)


OLD = {
    7: "p = MaxPool<kernel_shape=[2,2],strides=[2,2]>(r) u = Upsample<mode=\"nearest\","
       "scales=[1.0,1.0,2.0,2.0]>(p) c = Clip<min=0.0,max=2.0>(u) d, mask = Dropout(c)"
       "q = Pad<pads=[0,0,1,1,0,0,1,1]>(d)",
    9: "p = MaxPool<kernel_shape=[2,2],strides=[2,2]>(r) u = Upsample<mode=\"nearest\">(p, scales)"
       "c = Clip<min=0.0>(u) q = Pad<pads=[0,0,1,1,0,0,1,1],mode=\"reflect\">(c)",
    8: "u = Upsample<mode=\"linear\",scales=[1.0,1.0,1.5,2.0]>(r) q = BatchNormalization"
       "(u, ones, zeros, zeros, ones)",
    10: "p = AveragePool<kernel_shape=[3,3],pads=[1,1,1,1],ceil_mode=1>(r)"
        "u = Resize<mode=\"linear\">(p, scales) q = Slice(u, starts, ends, axes)",
    11: "p = MaxPool<kernel_shape=[2,2],dilations=[2,2]>(r) c = Clip(p, zero, two)"
        "q = Pad<mode=\"edge\">(c, pads)",
    12: "p = AveragePool<kernel_shape=[3,3],pads=[1,1,1,1]>(r) s = Squeeze<axes=[2]>(t)"
        "w = Unsqueeze<axes=[2]>(s) q = Add(p, w)",
}  # fmt: skip


def of_opset(opset):
    middle = OLD.get(opset, "q = MaxPool<kernel_shape=[3,3],strides=[2,2],pads=[1,1,1,1]>(r)")
    if opset == 12:
        middle = "t = ReduceMean<axes=[2]>(r) " + middle
    mean = "m = ReduceMean<axes=[2,3],keepdims=0>(x2)"
    if opset >= 18:
        mean = "m = ReduceMean<keepdims=0>(x2, space)"
    arrays = {
        "k1": helpers.random(6, 3, 3, 3) / 4, "k2": helpers.random(5, 6, 3, 3) / 5,
        "dense": helpers.random(4, 5), "scales": np.array([1, 1, 2, 2], np.float32),
        "starts": np.array([1, 1], np.int64), "ends": np.array([100, -1], np.int64),
        "axes": np.array([2, 3], np.int64), "ones": np.ones(6, np.float32),
        "zeros": np.zeros(6, np.float32), "zero": np.float32(0), "two": np.float32(2),
        "pads": np.array([0, 0, 1, 2, 0, 0, 0, 1], np.int64), "space": np.array([2, 3], np.int64),
        "bias": helpers.random(4),
    }  # fmt: skip
    body = (
        "c1 = Conv<pads=[1,1,1,1]>(input, k1) r = Relu(c1) "
        f"{middle} c2 = Conv(q, k2) x2 = Relu(c2) {mean} y = Gemm<transB=1>(m, dense, bias)"
    )
    used = {name: array for name, array in arrays.items() if f"{name}" in body.replace(",", " ")}
    return helpers.model(
        f"agraph (float[N,3,8,8] input) => (float[N,4] y) {{{body}}}", opset=opset, **used
    )


@pytest.mark.parametrize("opset", [*range(7, NEWEST + 1)])
def test_every_operator_set(opset):
    check(of_opset(opset))


def test_ir_version_3_lists_weights_as_inputs():
    source = of_opset(8)
    source.ir_version = 3
    for item in source.graph.initializer:
        source.graph.input.append(MAKE(item.name, item.data_type, item.dims))
    check(source)


def test_identity_of_initialisers_and_unsorted_nodes():
    b, x = plain()
    source = finish(b, x)
    shared = helper.make_node("Identity", [source.graph.node[0].input[2]], ["copy"], name="copy")
    source.graph.node[0].input[2] = "copy"
    reference = onnx.ModelProto()
    reference.CopyFrom(source)
    reference.graph.node.insert(0, shared)
    source.graph.node.append(shared)  # behind its reader
    check(source, reference=reference)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_other_float_types_become_float32(kind):
    b, x = plain()
    source = finish(b, x)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    reference = onnx.ModelProto()
    reference.CopyFrom(source)
    for item in source.graph.initializer:
        item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item).astype(dtype), item.name))
    for value in [*source.graph.input, *source.graph.output]:
        value.type.tensor_type.elem_type = kind
    model = check(source, reference=reference, limit=5e-3)
    assert any("float32" in str(note) for note in model.notes)


def test_mixed_precision_with_casts():
    b, x = plain()
    half = b.add("Cast", [x], to=TensorProto.FLOAT16)
    weight = numpy_helper.from_array((helpers.random(6, 6, 1, 1) / 3).astype(np.float16), "half")
    b.weights.append(weight)
    y = b.add("Cast", [b.add("Conv", [half, "half"])], to=TensorProto.FLOAT)
    check(finish(b, b.add("Relu", [y])), limit=5e-3)


def test_a_rectifier_that_only_a_zero_point_makes():
    """QDQ files drop Relu: the zero point of uint8 is 0, the lowest integer."""
    b = networks.Builder(2)
    for name, array in {"s": np.float32(0.02), "z": np.uint8(0)}.items():
        b.weights.append(numpy_helper.from_array(np.asarray(array), name))
    x = b.conv("input", 3, 6)
    x = b.add("DequantizeLinear", [b.add("QuantizeLinear", [x, "s", "z"]), "s", "z"])
    model = check(finish(b, x), limit=0.03, neurons=["Clip", "Relu"])
    assert any("clips: Clip(0, 5.1)" in str(note) for note in model.notes)


def test_functions_and_constant_conditions():
    b, x = plain()
    nodes = [
        helper.make_node("Neg", ["v"], ["n"]), helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Relu", ["v"], ["p"]), helper.make_node("Add", ["p", "r"], ["o"]),
    ]  # fmt: skip
    function = helper.make_function(
        "local", "Both", ["v"], ["o"], nodes, [helper.make_opsetid("", 18)]
    )
    b.nodes.append(helper.make_node("Both", [x], ["both"], name="both", domain="local"))
    y = b.conv("both", 6, 6)
    b.weights.append(numpy_helper.from_array(np.array(True), "always"))

    def branch(op):
        out = MAKE(f"{op}_out", TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(op, [y], [f"{op}_out"])], op, [], [out])

    y = b.add("If", ["always"], then_branch=branch("Relu"), else_branch=branch("Neg"))
    check(finish(b, y, functions=[function]), neurons=["Relu", "PRelu", "Relu", "Relu"])


def affine(b, x, channels=6, norm=False):
    """A normalisation left over, as BatchNormalization or as Mul and Add."""
    generator = np.random.default_rng(7)
    arrays = [generator.uniform(0.5, 1.5, channels), generator.normal(0, 0.3, channels)]
    if norm:
        arrays += [generator.normal(0, 0.3, channels), generator.uniform(0.5, 1.5, channels)]
    names = []
    for array in arrays:
        names.append(f"affine_{len(b.weights)}")
        shaped = array.astype(np.float32).reshape(-1 if norm else (1, -1, 1, 1))
        b.weights.append(numpy_helper.from_array(shaped, names[-1]))
    if norm:
        return b.add("BatchNormalization", [x, *names])
    return b.add("Add", [b.add("Mul", [x, names[0]]), names[1]])


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("place", ["behind Conv", "before Conv", "behind Concat", "behind Add",
                                   "behind MaxPool", "behind Relu"])  # fmt: skip
def test_normalisations_left_over(place, norm):
    b, x = plain()
    channels = 6
    if place == "behind Conv":
        x = b.add("Relu", [affine(b, b.conv(x, 6, 6), norm=norm)])
    elif place == "before Conv":
        x = b.add("Relu", [b.conv(affine(b, b.add("Neg", [x]), norm=norm), 6, 6)])
    elif place == "behind Concat":
        x, channels = b.add("Concat", [x, b.add("Relu", [b.conv(x, 6, 6)])], axis=1), 12
        x = b.add("Relu", [affine(b, x, 12, norm=norm)])
    elif place == "behind Add":
        x = b.add("Relu", [affine(b, b.add("Add", [x, b.conv(x, 6, 6)]), norm=norm)])
    elif place == "behind MaxPool":
        x = b.add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])
        x = affine(b, x, norm=norm)
    else:
        x = affine(b, x, norm=norm)
    check(finish(b, x, channels))


def ints(b, *numbers):
    name = f"ints_{len(b.weights)}"
    b.weights.append(numpy_helper.from_array(np.array(numbers, np.int64), name))
    return name


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("pads", [(1, 1, 1, 1), (0, 2, 1, 0)])
@pytest.mark.parametrize("reader", ["Conv", "MaxPool"])
def test_padding(mode, pads, reader):
    b, x = plain()
    padded = b.add("Pad", [x, ints(b, 0, 0, pads[0], pads[1], 0, 0, pads[2], pads[3])], mode=mode)
    if reader == "MaxPool":
        padded = b.add("MaxPool", [padded], kernel_shape=[2, 2], strides=[2, 2])
    check(finish(b, padded, opset=19))


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1]])
def test_average_pooling(count, ceil, pads):
    b, x = plain()
    x = b.add("AveragePool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=pads, ceil_mode=ceil,
              count_include_pad=count)  # fmt: skip
    check(finish(b, x))


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(
    "transformation", ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]
)
def test_resizing(mode, transformation):
    b, x = plain()
    b.weights.append(numpy_helper.from_array(np.array([1, 1, 2, 1.5], np.float32), "scales"))
    x = b.add("Resize", [x, "", "scales"], mode=mode, coordinate_transformation_mode=transformation)
    check(finish(b, x))


CONVOLUTIONS = {
    "transposed": ("ConvTranspose", (6, 6, 3, 3), {"strides": [2, 2], "output_padding": [1, 1]}),
    "grouped": ("Conv", (6, 2, 3, 3), {"group": 3}),
    "depthwise": ("Conv", (6, 1, 3, 3), {"group": 6, "pads": [1, 0, 2, 1]}),
    "dilated": ("Conv", (6, 6, 3, 3), {"dilations": [2, 1]}),
    "same": ("Conv", (6, 6, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "grouped transposed": ("ConvTranspose", (6, 3, 2, 2), {"group": 2, "strides": [2, 2]}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name):
    op, shape, attributes = CONVOLUTIONS[name]
    b, x = plain()
    check(finish(b, b.add("Relu", [b.add(op, [x, b.weight(*shape)], **attributes)])))


@pytest.mark.parametrize("rank", [1, 3])
def test_other_ranks(rank):
    b = networks.Builder(2)
    b.shape = (3, *[6] * rank)
    ones = [1] * rank
    x = b.add("Relu", [b.add("Conv", ["input", b.weight(6, 3, *[3] * rank)], pads=ones * 2)])
    x = b.add("MaxPool", [x], kernel_shape=[2] * rank, strides=[2] * rank)
    x = b.add("Relu", [b.add("Conv", [x, b.weight(5, 6, *[3] * rank)], pads=ones * 2)])
    x = b.add("AveragePool", [x], kernel_shape=[3] * rank)
    flat = b.add("Flatten", [x])
    source = b.model(b.add("Gemm", [flat, b.weight(4, 5), b.weight(4)], transB=1), [4])
    check(source, networks.images(6, shape=b.shape))


def test_shared_weights_and_one_activation_read_by_many():
    b, x = plain()
    weight = b.weight(6, 6, 3, 3)
    first = b.add("Relu", [b.add("Conv", [x, weight], pads=[1] * 4)])
    second = b.add("Relu", [b.add("Conv", [first, weight], pads=[1] * 4)])
    pooled = b.add("MaxPool", [x], kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
    joined = b.add("Concat", [b.add("Add", [x, second]), pooled, x], axis=1)
    check(finish(b, joined, 18))


def test_dynamic_sizes_need_input_shape():
    b, x = plain()
    source = finish(b, x)
    for index, name in ((2, "height"), (3, "width")):
        source.graph.input[0].type.tensor_type.shape.dim[index].dim_param = name
    with pytest.raises(UsageError, match="--input-shape input:1,3"):
        onnx2snn.convert(source)
    check(source, input_shapes={"input": (1, 3, 8, 8)})


def test_a_fixed_batch_and_channels_last():
    """As TensorFlow exports: NHWC with a Transpose at the input, one before the dense layer."""
    b = networks.Builder(2)
    x = b.add("Transpose", ["input"], perm=[0, 3, 1, 2])
    x = b.add("Relu", [b.conv(x, 3, 6)])
    x = b.add("Transpose", [x], perm=[0, 2, 3, 1])
    shape = b.add("Shape", [x])
    batch = b.add("Slice", [shape, ints(b, 0), ints(b, 1)])
    x = b.add("Reshape", [x, b.add("Concat", [batch, ints(b, -1)], axis=0)])
    x = b.add("Relu", [b.add("Add", [b.add("MatMul", [x, b.weight(384, 7, scale=0.1)]),
                                     b.weight(7)])])  # fmt: skip
    b.shape = (8, 8, 3)
    source = b.model(b.add("MatMul", [x, b.weight(7, 4)]), [4])
    images = networks.images(6, shape=(8, 8, 3))
    check(source, images)
    source.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    source.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    expected = [helpers.run(source)({"input": image[None]}) for image in images]
    model = onnx2snn.convert(source, calibration=images, recipe="refine")
    found = model.network().run(images, timesteps=16).logits
    wanted = np.concatenate([next(iter(answer.values())) for answer in expected])
    assert np.linalg.norm(found - wanted) < 2e-3 * np.linalg.norm(wanted)


def test_weights_standardised_by_a_normalisation_in_training_mode():
    """As PyTorch exports weight standardisation: statistics of the weights, not of the batch."""
    b, x = plain()
    for name, array in {
        "kernel": helpers.random(6, 6, 3, 3),
        "gain": np.full(6, 0.3, np.float32),
        "zeros": np.zeros(6, np.float32),
        "ones": np.ones(6, np.float32),
    }.items():
        b.weights.append(numpy_helper.from_array(array, name))  # fmt: skip
    flat = b.add("Reshape", ["kernel", ints(b, 1, 6, -1)])
    outputs = ["standard", "running_mean", "running_var"]
    b.nodes.append(helper.make_node("BatchNormalization", [flat, "gain", "zeros", "zeros", "ones"],
                                    outputs, name="standardise", training_mode=1))  # fmt: skip
    weight = b.add("Reshape", ["standard", ints(b, 6, 6, 3, 3)])
    source = finish(b, b.add("Relu", [b.add("Conv", [x, weight], pads=[1] * 4)]))
    model = check(source, neurons=["Relu", "Relu", "Relu"])
    assert not any(node.op_type == "BatchNormalization" for node in model.ann.graph.node)


def test_a_shape_chain_that_depends_on_the_batch_may_stay_between_neurons():
    """Expand to [N·2, 1, C·H·W / 2], as exporters write multi-head attention."""
    b, x = plain()
    shape = b.add("Shape", [x], start=0, end=1)
    twice = b.add("Mul", [shape, ints(b, 2)])
    split = b.add("Reshape", [x, b.add("Concat", [twice, ints(b, 3, 8, 8)], axis=0)])
    wide = b.add("Expand", [split, b.add("Concat", [twice, ints(b, 3, 8, 8)], axis=0)])
    back = b.add("Reshape", [wide, b.add("Concat", [shape, ints(b, 6, 8, 8)], axis=0)])
    check(finish(b, back))


def frames(parts, *, pool=True, tokens=False):
    """A shared network on every frame of [N, parts, 3, 8, 8], whose answers are averaged."""
    b = networks.Builder(5)
    b.weights += [
        onnx.numpy_helper.from_array(np.float32(number), name)
        for name, number in (("zero", 0), ("six", 6))
    ]
    x = b.add("Reshape", ["input", ints(b, -1, 3, 8, 8)])
    x = b.add("Relu", [b.conv(x, 3, 4)])
    if pool:
        x = b.add("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = b.add("Clip", [b.conv(x, 4, 5), "zero", "six"])
    x = b.add("Flatten", [b.add("GlobalAveragePool", [x])])
    if tokens:
        x = b.add("Sigmoid", [b.add("Gemm", [x, b.weight(5, 5)])])
    x = b.add("Reshape", [x, ints(b, -1, parts, 5)])
    x = b.add("ReduceMean", [x, ints(b, 1)], keepdims=0)
    b.shape = (parts, 3, 8, 8)
    return b.model(b.add("Gemm", [x, b.weight(5, 4)]), [4])


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("pool", [False, True])
def test_frames_in_the_batch_are_channels_of_layers_with_a_state(pool, tokens):
    images = networks.images(6, shape=(2, 3, 8, 8))
    model = check(frames(2, pool=pool, tokens=tokens), images)
    assert any("2 parts of an image are one image" in str(note) for note in model.notes)
    single = onnx2snn.convert(frames(1, pool=pool, tokens=tokens), calibration=images[:, :1])
    whole = onnx2snn.evaluate(model, images, timesteps=[2])
    part = onnx2snn.evaluate(single, images[:, :1], timesteps=[2])
    last = 20  # the dense weights behind the mean
    assert whole["ann"]["macs_per_image"] - last == 2 * (part["ann"]["macs_per_image"] - last)
    assert whole["steps"][0]["synops_per_image"] > 0


def merged_shortcut():
    """Frames in the batch, with a shortcut from the static head around a neuron."""
    b = networks.Builder(8)
    x = b.conv(b.add("Reshape", ["input", ints(b, -1, 3, 8, 8)]), 3, 4)
    y = b.add("Add", [b.conv(b.add("Relu", [x]), 4, 4), x])
    y = b.add("Relu", [b.conv(b.add("Relu", [y]), 4, 5)])
    y = b.add("Reshape", [b.add("GlobalAveragePool", [y]), ints(b, -1, 2, 5)])
    y = b.add("ReduceMean", [y, ints(b, 1)], keepdims=0)
    b.shape = (2, 3, 8, 8)
    return b.model(b.add("Gemm", [y, b.weight(5, 4)]), [4])


@pytest.mark.parametrize("backend", ["numpy", "onnxruntime"])
def test_several_rows_for_an_image_cross_chunks_batches_and_early_exit(backend):
    images = networks.images(40, shape=(2, 3, 8, 8))
    model = check(merged_shortcut(), images)
    model = onnx2snn.convert(merged_shortcut(), calibration=images)
    network = model.network(backend)
    whole = network.run(images, timesteps=[1, 2, 5]).by_step
    for size in (1, 7):
        parts = network.run(images, timesteps=[1, 2, 5], batch_size=size).by_step
        for step, answers in whole.items():
            for name, array in answers.items():
                assert parts[step][name] == pytest.approx(array, rel=1e-3, abs=2e-2)
    small = onnx2snn_runtime.Network(model.proto, backend=backend, memory=1)
    assert small.run(images[:3], timesteps=5).logits == pytest.approx(
        whole[5][next(iter(whole[5]))][:3], rel=1e-3, abs=2e-2
    )
    exits = []
    for threshold in np.geomspace(0.1, 2, 20):
        network.metadata["early_exit"]["thresholds"] = [threshold, 0.0]
        exits.append(network.run(images, early_exit=True))
    early = max(exits, key=lambda found: min(sum(found.exit_steps == 1), sum(found.exit_steps > 1)))
    assert len(set(early.exit_steps.tolist())) == 2
    for count in set(early.exit_steps.tolist()):
        alone = network.run(images, timesteps=count).logits
        left = early.exit_steps == count
        assert early.logits[left] == pytest.approx(alone[left], rel=1e-3, abs=2e-2)


def test_a_reshape_to_parts_with_a_size_left_open():
    """[k·N, C, -1] of a chain of shapes: the open size is known, so that the batch may be open."""
    b, x = plain(channels=4)
    rows = b.add("Mul", [b.add("Shape", [x], start=0, end=1), ints(b, 2)])
    x = b.add("Reshape", [x, b.add("Concat", [rows, ints(b, 2, -1)], axis=0)])
    x = b.add("Relu", [b.add("MatMul", [x, b.weight(64, 6)])])
    x = b.add("Reshape", [x, ints(b, -1, 4, 6)])
    x = b.add("ReduceMean", [x, ints(b, 1)], keepdims=0)
    model = check(b.model(b.add("Gemm", [x, b.weight(6, 4)]), [4]))
    assert not any(node.op_type == "Shape" for node in model.ann.graph.node)


@pytest.mark.parametrize("recipe", ["fast", "refine"])
def test_attention_among_the_tokens_of_each_part(recipe):
    """As in MobileViT: LayerNormalization, products, Softmax on [k·N, tokens, channels]."""
    b, x = plain(channels=4)
    tokens = b.add("Reshape", [x, ints(b, -1, 2, 64)])
    tokens = b.add("Transpose", [tokens], perm=[0, 2, 1])
    tokens = b.add("Reshape", [tokens, ints(b, -1, 32, 2)])  # [4·N, 32, 2]
    normed = b.add("LayerNormalization", [tokens, b.ones(2)], axis=2)
    query, key = (b.add("MatMul", [normed, b.weight(2, 3)]) for _ in range(2))
    scores = b.add("MatMul", [query, b.add("Transpose", [key], perm=[0, 2, 1])])
    mixed = b.add("MatMul", [b.add("Softmax", [scores], axis=2), tokens])
    gated = b.add("Mul", [b.add("Sigmoid", [mixed]), b.add("Relu", [mixed])])
    gated = b.add("Relu", [b.add("MatMul", [gated, b.weight(2, 2)])])
    x = b.add("Reshape", [gated, ints(b, -1, 4, 64)])
    x = b.add("ReduceMean", [x, ints(b, 1)], keepdims=0)
    source = b.model(b.add("Gemm", [x, b.weight(64, 4)]), [4])
    images = networks.images(6)
    model = check(source, images)
    assert {"LayerNormalization", "MatMul", "Softmax", "Mul"} <= {x.op for x in model.layers}
    model = onnx2snn.convert(source, calibration=images, recipe=recipe)
    expected = helpers.run(source)({"input": images})
    (name,) = expected
    found = model.network().run(images, timesteps=256 if recipe == "fast" else 16).outputs[name]
    assert np.linalg.norm(found - expected[name]) <= 0.02 * np.linalg.norm(expected[name])
    assert onnx2snn.evaluate(model, images, timesteps=2)["steps"][0]["energy_uj"] > 0
