"""``--precision int8``: whole numbers, the same bits everywhere, and no sum out of its range."""

import itertools
import re
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_oracle import Oracle
from networks import Builder, images, small_cnn
from onnx import TensorProto, helper, numpy_helper

import onnx2snn
from onnx2snn.integer.signals import quantise
from onnx2snn_runtime.backends import backend_classes
from onnx2snn_runtime.errors import UnsupportedError, UsageError
from onnx2snn_runtime.format import read_metadata
from onnx2snn_runtime.network import Network

EXACT = 2**24
RECIPES = ("fast", "paper", "if")
STEPS = 6
LONG = 2000


def every_operator():
    """Clip, depthwise, grouped, Add of a spike, Concat, AveragePool, MaxPool, unfolded BN, Gemm."""
    b = Builder(3)
    low, high = b.weight(1), b.weight(1)
    b.weights[-2].CopyFrom(numpy_helper.from_array(np.float32(0), low))
    b.weights[-1].CopyFrom(numpy_helper.from_array(np.float32(1.2), high))
    x = b.add("Clip", [b.conv("input", 3, 6), low, high])
    y = b.add("Relu", [b.conv(x, 1, 6, group=6)])
    y = b.add("Relu", [b.add("Add", [b.conv(y, 3, 6, group=2), x])])
    parts = [abs(b.generator.normal(1, 0.3, 6)), b.generator.normal(0, 0.2, 6)]
    named = [b.weight(6) for _ in range(4)]
    for tensor, values in zip(b.weights[-4:], [*parts, np.zeros(6), np.ones(6)], strict=True):
        tensor.CopyFrom(numpy_helper.from_array(np.float32(values), tensor.name))
    y = b.add("Relu", [b.conv(b.add("BatchNormalization", [y, *named]), 6, 6)])
    z = b.add("AveragePool", [y], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4,
              count_include_pad=1)  # fmt: skip
    w = b.add("MaxPool", [y], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    x = b.add("Relu", [b.conv(b.add("Concat", [z, w], axis=1), 12, 8)])
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [x])])
    logits = b.add("Gemm", [flat, b.weight(4, 8), b.weight(4)], transB=1)
    return b.model(logits, [4])


def strong_shortcut():
    """Weights beside which the shortcut is large: its integer factor makes most of the sum."""
    b = Builder(4)
    x = b.add("Relu", [b.conv("input", 3, 4)])
    bias = b.weight(4, scale=1e-3)
    y = b.add("Conv", [x, b.weight(4, 4, 1, 1, scale=1e-3), bias], kernel_shape=[1, 1])
    x = b.add("Relu", [b.add("Add", [y, x])])
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [x])])
    return b.model(b.add("Gemm", [flat, b.weight(4, 4), b.weight(4)], transB=1), [4])


def whole(model, recipe="fast", **options):
    """The integer network of a model, calibrated on noise of its input's shape."""
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return onnx2snn.convert(
            model, calibration=images(32, shape=shape), recipe=recipe, precision="int8", **options
        )


def plain_loop(model, x, steps):
    """Nothing but onnxruntime; outputs of every step."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}
    feeds = {
        v.name: np.zeros([len(x) if isinstance(d, str) else d for d in v.shape], kinds[v.type])
        for v in session.get_inputs()
    }
    names = [value.name for value in session.get_outputs()]
    for _ in range(steps):
        feeds["input"] = x
        outputs = dict(zip(names, session.run(names, feeds), strict=True))
        feeds |= {n.removesuffix(".next"): v for n, v in outputs.items() if n.endswith(".next")}
        yield outputs


def assert_all_alike(model, x, steps=STEPS):
    """Engines, plain onnxruntime and the oracle, in spikes and in answers, at every step."""
    answer = model.graph.output[0].name
    oracle, expected, spikes = Oracle(model), [], {}
    for _ in range(steps):
        values = oracle.run(x)
        expected.append(values[answer])
        for node in model.graph.node:
            if node.op_type.startswith("IntegerIF"):
                spikes[node.name] = spikes.get(node.name, 0) + np.abs(values[node.output[0]])
    for step, outputs in enumerate(plain_loop(model, x, steps)):
        np.testing.assert_array_equal(outputs[answer], expected[step])
    for name, backend in backend_classes().items():
        if backend.unavailable():
            continue
        network = Network(model, backend=name)
        result = network.run(x, timesteps=range(1, steps + 1), record=True)
        found = [result.by_step[t][answer] for t in range(1, steps + 1)]
        np.testing.assert_array_equal(np.stack(found), np.stack(expected), err_msg=name)
        assert set(result.spikes) == set(spikes)
        for layer, counts in spikes.items():
            np.testing.assert_array_equal(result.spikes[layer], counts, err_msg=f"{name} {layer}")
    return oracle


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("build", [small_cnn, every_operator])
def test_every_engine_has_the_bits_of_the_oracle(build, recipe):
    result = whole(build(), recipe)
    oracle = assert_all_alike(result.proto, images(3, seed=5))
    assert sum(map(int, oracle.largest.values())) > 0


@pytest.mark.parametrize("v0", [0.0, 0.3, 0.75])
def test_any_initial_charge(v0):
    assert_all_alike(whole(small_cnn(), v0=v0).proto, images(2, seed=5))


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("build", [every_operator, strong_shortcut])
def test_nothing_leaves_its_proven_range(build, recipe):
    """Images far beyond calibration, a new one at every step, for as long as is proven."""
    model = whole(build(), recipe).proto
    record = read_metadata(model)["integer"]
    oracle, generator = Oracle(model), np.random.default_rng(0)
    for step in range(min(LONG, record["max_timesteps"])):
        sign = generator.choice([-1, 1], (2, 3, 8, 8)) if step % 8 == 7 else 1
        oracle.run((1e6 * sign * np.ones((2, 3, 8, 8))).astype(np.float32))
    bounds, answer = record["largest_sums"], model.graph.output[0].name
    for name, bound in bounds.items():
        seen = f"{name}.signal" if name == answer else name
        assert oracle.largest[seen] <= bound, name
    assert max(oracle.partial.values()) < EXACT
    assert max(oracle.largest.values()) < EXACT
    assert max(oracle.over_time.values()) < 2**31


def test_signals_in_the_file_are_whole_numbers():
    """Every float tensor between the rounding of the image and the readout, in onnxruntime."""
    model = whole(every_operator()).proto
    inner = {
        name
        for node in model.graph.node
        for name in node.output[:1]
        if node.op_type not in ("Div", "Round", "Tick", "IntegerReadout")
    }
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    known = {output.name for output in watched.graph.output}
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in sorted(inner - known)
    )
    for outputs in plain_loop(watched, images(2, seed=5), 4):
        for name in inner:
            assert np.array_equal(outputs[name], np.rint(outputs[name])), name


def test_batches_chunks_and_threads_do_not_matter():
    model = whole(every_operator()).proto
    x = images(7, seed=6)
    expected = Network(model, backend="numpy").run(x, timesteps=[3, 8])
    settings_tried = itertools.product(("numpy", "onnxruntime"), (1, 2), (None, 2), (None, 200_000))
    for backend, threads, size, memory in settings_tried:
        if backend_classes()[backend].unavailable():
            continue
        network = Network(model, backend=backend, threads=threads, memory=memory)
        found = network.run(x, timesteps=[3, 8], batch_size=size)
        for t, answer in expected.by_step.items():
            for name, values in answer.items():
                np.testing.assert_array_equal(found.by_step[t][name], values)


def test_sequences_of_frames():
    model = whole(every_operator()).proto
    x = np.random.default_rng(3).normal(0, 1, (5, 2, 3, 8, 8)).astype(np.float32)
    oracle = Oracle(model)
    expected = [oracle.run(frame)[model.graph.output[0].name] for frame in x]
    for name, backend in backend_classes().items():
        if not backend.unavailable():
            found = Network(model, backend=name).run(x, timesteps=5).logits
            np.testing.assert_array_equal(found, expected[-1])


def test_several_answers_each_in_its_own_units():
    """A neuron's output and logits that do not end alike: both come near the ANN."""
    b = Builder(7)
    x = b.add("Relu", [b.conv("input", 3, 4)])
    y = b.add("Relu", [b.conv(x, 4, 4)])
    pooled = b.add("MaxPool", [b.add("Relu", [b.conv(y, 4, 4)])], kernel_shape=[8, 8])
    logits = b.add("Gemm", [b.add("Flatten", [pooled]), b.weight(5, 4), b.weight(5)], transB=1)
    ends = b.add("Softmax", [b.add("Gemm", [b.add("Flatten", [y]), b.weight(3, 256)], transB=1)])
    model = b.model(logits, [5], more_outputs={y: [4, 8, 8], ends: [3]})
    x = images(3, seed=9)
    result = whole(model, threshold="max")
    assert result.check.passed
    assert max(layer.error for layer in result.layers) < 0.1
    names = [value.name for value in model.graph.output]
    expected = dict(zip(
        names,
        onnxruntime.InferenceSession(model.SerializeToString()).run(names, {"input": x}),
        strict=True,
    ))  # fmt: skip
    for backend in ("numpy", "auto"):
        found = Network(result.proto, backend=backend).run(x, timesteps=60).outputs
        for name in names:
            error = np.abs(found[name] - expected[name]).max()
            assert error <= 0.05 * np.abs(expected[name]).max(), name


def test_the_tuner_chooses_a_recipe_that_has_integers():
    result = whole(small_cnn(), None, target_drop=2.0)
    assert result.tuning is not None
    assert result.recipe.code == "rate"
    assert_all_alike(result.proto, images(2, seed=5))


@st.composite
def random_cnns(draw):
    """One to five blocks of operators; weights may follow weights without an activation."""
    b, channels, size = Builder(draw(st.integers(0, 999)), size=6), 4, 6
    x = b.add("Relu", [b.conv("input", 3, channels)])
    blocks = ("conv", "add", "branch", "average", "max", "concat", "depthwise", "bottleneck", "up")
    for kind in draw(st.lists(st.sampled_from(blocks), min_size=1, max_size=5)):
        if kind == "conv":
            x = b.add("Relu", [b.conv(x, channels, channels, draw(st.sampled_from((1, 3))))])
        elif kind == "depthwise":
            x = b.add("Relu", [b.conv(x, 1, channels, group=channels)])
        elif kind == "add":
            x = b.add("Relu", [b.add("Add", [b.conv(x, channels, channels), x])])
        elif kind == "branch":
            both = [b.conv(x, channels, channels, 1), b.conv(x, channels, channels)]
            x = b.add("Relu", [b.add("Add", both)])
        elif kind == "bottleneck":
            narrow = b.conv(x, channels, 3, 1)
            x = b.add("Relu", [b.add("Add", [b.conv(narrow, 3, channels, 1), x])])
        elif kind == "up" and size <= 6:
            wide = b.add("ConvTranspose", [x, b.weight(channels, 2, 2, 2)], strides=[2, 2])
            x = b.add("Relu", [b.conv(wide, 2, channels)])
            size *= 2
        elif kind == "concat" and channels <= 8:
            x = b.add("Concat", [x, b.add("Relu", [b.conv(x, channels, channels)])], axis=1)
            channels *= 2
        elif kind in ("average", "max") and size >= 2:
            op = {"average": "AveragePool", "max": "MaxPool"}[kind]
            x = b.add(op, [x], kernel_shape=[2, 2], strides=[2, 2])
            size //= 2
    pooled = b.add("GlobalAveragePool", [x]) if draw(st.booleans()) else x
    features = channels if pooled != x else channels * size * size
    flat = b.add("Flatten", [pooled])
    logits = b.add("Gemm", [flat, b.weight(3, features), b.weight(3)], transB=1)
    return b.model(logits, [3])


@settings(max_examples=15)
@given(random_cnns(), st.sampled_from(RECIPES))
def test_random_networks(model, recipe):
    assert_all_alike(whole(model, recipe).proto, images(2, seed=5, shape=(3, 6, 6)), steps=4)


@given(st.integers(0, 999), st.integers(1, 40), st.sampled_from((127, 31)))
def test_the_bound_holds_for_every_order(seed, count, levels):
    """Inputs within their bounds, added in the worst order, stay within ``partial``."""
    generator = np.random.default_rng(seed)
    weight, bias = generator.normal(0, 1, (3, count)), generator.normal(0, 5, 3)
    low, high = -generator.integers(0, 16, (3, count)), generator.integers(0, 16, (3, count))
    found = quantise(weight, bias, np.stack([low, high]), levels, None)
    assert np.abs(found.weight).max() <= levels
    for _ in range(5):
        terms = found.weight * generator.integers(low, high + 1)
        worst = np.maximum(terms.clip(min=0).sum(1), -terms.clip(max=0).sum(1))
        assert (worst + np.abs(found.bias)).max() <= found.partial
        total = terms.sum(1) + found.bias
        assert (total >= found.low).all() and (total <= found.high).all()
    rounding = np.abs(weight - found.weight * found.scale[:, np.newaxis])
    assert (rounding <= 0.5001 * found.scale[:, np.newaxis]).all()


@pytest.mark.parametrize("recipe", RECIPES)
def test_means_approach_the_ann(recipe):
    model = every_operator()
    x = images(4, seed=8)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    expected = session.run(None, {"input": x})[0]
    found = Network(whole(model, recipe, threshold="max").proto).run(x, timesteps=120).logits
    assert np.abs(found - expected).max() <= 0.08 * np.abs(expected).max()


def test_accuracy_of_the_embedded_network(embedded):
    scores = {}
    for precision in ("float", "int8"):
        network = onnx2snn.convert(
            embedded.model, calibration=embedded.calibration, calibration_samples=64,
            precision=precision,
        ).network()  # fmt: skip
        measured = onnx2snn.evaluate(network, embedded.test, limit=1000, timesteps=[4])
        scores[precision] = measured["steps"][0]["accuracy"]
    assert scores["int8"] >= scores["float"] - 0.5, scores


def test_more_steps_than_proven_are_refused():
    network = whole(small_cnn()).network()
    most = read_metadata(network.model)["integer"]["max_timesteps"]
    assert network.max_timesteps == most >= 64
    network.run(images(1), timesteps=most)
    for call in (network.run, lambda x, timesteps: next(network.stream(x, timesteps))):
        with pytest.raises(UsageError, match=f"{most} timesteps"):
            call(images(1), timesteps=most + 1)
    with pytest.raises(UsageError, match="proven"):
        network.observe({"input": images(1)}, [most + 1], list)


def test_the_float_file_does_not_change():
    model, data = small_cnn(), images(16)
    plain = onnx2snn.convert(model, calibration=data)
    told = onnx2snn.convert(model, calibration=data, precision="float")
    assert plain.proto == told.proto


def network_of(*operators, channels=4):
    """Conv, Relu, some operators, Conv, Relu, GAP, Gemm."""
    b = Builder(1)
    x = b.add("Relu", [b.conv("input", 3, channels)])
    for op, attributes in operators:
        x = b.conv(x, channels, channels) if op == "Conv" else b.add(op, [x], **attributes)
    x = b.add("Relu", [b.conv(x, channels, channels)])
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [x])])
    return b.model(b.add("Gemm", [flat, b.weight(3, channels), b.weight(3)], transB=1), [3])


@pytest.mark.parametrize(
    ("operators", "op", "why"),
    [
        ([("Sigmoid", {})], "Sigmoid", "activation"),
        ([("LeakyRelu", {"alpha": 0.1})], "LeakyRelu", "activation"),
        ([("Softmax", {"axis": 1})], "Softmax", "graded"),
        ([("AveragePool", {"kernel_shape": [3, 3], "pads": [1] * 4})], "AveragePool", "numbers of"),
    ],
)  # fmt: skip
def test_what_has_no_integer_form_is_refused(operators, op, why):
    with pytest.raises(UnsupportedError) as refusal:
        whole(network_of(*operators))
    assert refusal.value.exit_code == 4
    (finding, *_) = [item for item in refusal.value.findings if item.op == op]
    assert finding.node and finding.advice
    assert re.search(why, finding.why), finding.why


def long_sums(channels):
    """A Gemm over 64 · channels spikes."""
    b = Builder(2)
    x = b.add("Flatten", [b.add("Relu", [b.conv("input", 3, channels, 1)])])
    return b.model(b.add("Gemm", [x, b.weight(3, 64 * channels), b.weight(3)], transB=1), [3])


def test_long_sums_get_fewer_bits_and_then_are_refused():
    """γ · Σ|Wq| of 64 · 60 weights passes 2^24 with 8 bits, of 64 · 300 with any."""
    with warnings.catch_warnings(record=True) as met:
        warnings.simplefilter("always")
        result = onnx2snn.convert(
            long_sums(60), calibration=images(8), burst=255, per_channel=False, precision="int8"
        )
    (gemm,) = [node.name for node in result.proto.graph.node if node.op_type == "Gemm"]
    assert result.integer["weight_bits"][gemm] == 7
    assert any("7 bits" in str(item.message) for item in met)
    assert_all_alike(result.proto, images(2, seed=5), steps=3)
    with pytest.raises(UnsupportedError, match=re.escape("2^24")) as refusal:
        whole(long_sums(300), burst=255, per_channel=False)
    assert "--burst" in refusal.value.findings[0].advice


def test_a_neuron_stands_between_weights_and_weights():
    """The identity spikes both ways: the linear bottleneck is as near the ANN as the rest."""
    model = network_of(("Conv", {}), ("Conv", {}), ("Relu", {}))
    result = whole(model, threshold="max")
    names = [layer.output for layer in result.layers if layer.op == "Clip"]
    assert names == ["conv_2.relay"]  # between the two convolutions, and nowhere else
    assert result.check.passed
    assert max(layer.error for layer in result.layers) < 0.05


def test_all_findings_at_once():
    with pytest.raises(UnsupportedError) as refusal:
        whole(network_of(("Sigmoid", {}), ("Conv", {}), ("Tanh", {})))
    assert {finding.op for finding in refusal.value.findings} == {"Sigmoid", "Tanh"}


def test_refining_code_and_unknown_precision_are_refused():
    with pytest.raises(UsageError, match="whole numbers") as refusal:
        whole(small_cnn(), "refine")
    assert "fast, paper or if" in refusal.value.advice
    with pytest.raises(UsageError, match="int4"):
        onnx2snn.convert(small_cnn(), precision="int4")
