"""Finer outputs on shortcuts: where they are, what they cost, and that roundings stop adding up."""

import re
from dataclasses import replace

import networks
import numpy as np
import onnxruntime
import pytest
from passes.helpers import run

import onnx2snn
from onnx2snn.energy.estimate import EnergyMeter
from onnx2snn.evaluation.stand_in import to_ann
from onnx2snn.passes import normalise, to_proto
from onnx2snn.recipes import find_recipe
from onnx2snn.rewriting.classify import classify
from onnx2snn.rewriting.shortcuts import shortcuts
from onnx2snn_runtime import Network
from onnx2snn_runtime.errors import ModelError

IMAGES = networks.images(96, seed=2)
TUNED = replace(
    find_recipe("refine"), precision=1 / 64, dead_zone=0.6, recommended_timesteps=4
)  # fmt: skip


def residual(blocks=3, channels=8, seed=3, share=1.0):
    """Residual blocks of two convolutions each, as in ResNet; ``share`` of the sum is theirs."""
    b = networks.Builder(seed)
    x = b.add("Relu", [b.conv("input", 3, channels)])
    for _ in range(blocks):
        inner = b.add("Relu", [b.conv(x, channels, channels)])
        part = b.add("Mul", [b.conv(inner, channels, channels), b.constant(share, np.float32)])
        x = b.add("Relu", [b.add("Add", [part, x])])
    return head(b, x, channels)


def head(b, x, channels):
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [x])])
    return b.model(b.add("Gemm", [flat, b.weight(4, channels), b.weight(4)], transB=1), [4])


def strided():
    """A shortcut of the paper's first variant: every second pixel, and channels of zeros."""
    b = networks.Builder(4)
    x = b.add("Relu", [b.conv("input", 3, 8)])
    bounds = [b.constant(numbers) for numbers in ([0, 0], [99, 99], [2, 3], [2, 2])]
    kept = b.add("Slice", [x, *bounds])
    wide = b.add("Pad", [kept, b.constant([0, 4, 0, 0, 0, 4, 0, 0])])
    y = b.conv(b.add("Relu", [b.conv(x, 8, 16, strides=[2, 2])]), 16, 16)
    return head(b, b.add("Relu", [b.add("Add", [y, wide])]), 16)


def joined():
    """Concat in front of a convolution: the way around meets weights as well."""
    b = networks.Builder(5)
    x = b.add("Relu", [b.conv("input", 3, 8)])
    y = b.add("Relu", [b.conv(x, 8, 8)])
    return head(b, b.add("Relu", [b.conv(b.add("Concat", [x, y], axis=1), 16, 8)]), 8)


def depthwise():
    """Nine weights a channel are too few to be worth a second output."""
    b = networks.Builder(6)
    x = b.add("Relu", [b.conv("input", 3, 8)])
    weight = b.weight(8, 1, 3, 3)
    y = b.add("Conv", [x, weight], pads=[1] * 4, group=8)
    return head(b, b.add("Relu", [b.add("Add", [y, x])]), 8)


def answered():
    """The sum is an answer too, and neurons do not read all of it."""
    b = networks.Builder(7)
    x = b.add("Relu", [b.conv("input", 3, 8)])
    total = b.add("Add", [b.conv(x, 8, 8), x])
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [b.add("Relu", [total])])])
    logits = b.add("Gemm", [flat, b.weight(4, 8), b.weight(4)], transB=1)
    return b.model(logits, [4], more_outputs={total: [8, 8, 8]})


FOUND = {"residual": (residual(), 3), "strided": (strided(), 1), "joined": (joined(), 0),
         "depthwise": (depthwise(), 0), "answered": (answered(), 0)}  # fmt: skip


def convert(model, **changes):
    return onnx2snn.convert(model, calibration=IMAGES, recipe=replace(TUNED, **changes))


def finer_units(model):
    plan = Network(model.proto).plan
    return [unit for unit in plan.stateful if unit.operator.family == "RefineFurther"]


@pytest.mark.parametrize("name", FOUND)
def test_where_shortcuts_are(name):
    model, count = FOUND[name]
    normal = to_proto(normalise(model, run=run)[0])
    found = shortcuts(normal, classify(normal))
    assert len(found) == count
    readers = {node.name: node for node in normal.graph.node}
    assert all(activation in readers[node].input for node, activation in found)
    converted = convert(model, shortcuts=True)
    assert len(finer_units(converted)) == count
    assert converted.recipe.shortcuts == (count > 0)
    assert converted.check.passed
    assert ("finer output" in converted.summary()) == (count > 0)


@pytest.mark.parametrize("name", ["residual", "strided"])
def test_plain_onnxruntime_agrees(name):
    model = convert(FOUND[name][0], shortcuts=True)
    session = onnxruntime.InferenceSession(model.proto.SerializeToString())
    ours = Network(model.proto, backend="numpy").run({"input": IMAGES[:8]}, range(1, 7)).by_step
    states = {i.name: np.zeros([8 if isinstance(s, str) else s for s in i.shape],
                               np.int64 if "int64" in i.type else np.float32)
              for i in session.get_inputs() if i.name != "input"}  # fmt: skip
    names = [output.name for output in session.get_outputs()]
    for t in range(1, 7):
        found = dict(zip(names, session.run(None, {"input": IMAGES[:8], **states}), strict=True))
        states = {name: found[f"{name}.next"] for name in states}
        (expected,) = ours[t].values()
        np.testing.assert_allclose(found[names[0]], expected, atol=1e-3)


def test_a_spike_on_the_shortcut_is_one_operation():
    """With 8 channels and 3×3 weights a spike in the middle meets 72 of them, and the sum."""
    model = convert(residual(), shortcuts=True)
    network = Network(model.proto)
    meter = EnergyMeter(model.proto, network.plan)
    for unit in finer_units(model):
        assert np.all(meter.fan_out[unit.name] == 1)
        (first,) = [x for x in network.plan.stateful if x.output == unit.inputs[-1]]
        assert meter.fan_out[first.name].reshape(8, 8, 8)[:, 3, 3].tolist() == [73.0] * 8


def test_roundings_do_not_add_up_from_block_to_block():
    """In the same units the error of a deep network is smaller, and its first outputs send less."""
    source = residual(blocks=12, share=0.2)
    feeds = {"input": networks.images(32, seed=9)}
    errors, sent = {}, {}
    for has_shortcuts in (False, True):
        model = convert(source, shortcuts=has_shortcuts, unevenness=0.0)
        network = Network(model.proto)
        (ann,) = network.backend.compile(model.ann)(feeds).values()
        result = network.run(feeds, timesteps=4, record=True)
        (answer,) = result.outputs.values()
        errors[has_shortcuts] = np.linalg.norm(answer - ann) / np.linalg.norm(ann)
        sent[has_shortcuts] = sum(
            float(np.abs(counts).sum()) for name, counts in result.spikes.items()
            if not name.endswith(".shortcut")
        )  # fmt: skip
    assert errors[True] < 0.75 * errors[False]
    assert sent[True] < 0.8 * sent[False]


def test_the_ann_in_the_file_has_no_second_outputs():
    model = convert(residual(), shortcuts=True)
    (found,) = (
        Network(model.proto).backend.compile(to_ann(model.proto))({"input": IMAGES[:4]}).values()
    )
    (expected,) = Network(model.proto).backend.compile(model.ann)({"input": IMAGES[:4]}).values()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_compare_and_eval_know_them():
    source = residual()
    model = convert(source, shortcuts=True)
    found = onnx2snn.compare(source, model.proto, IMAGES[:16])
    rows = [layer for layer in found["layers"] if layer["name"].endswith(".shortcut")]
    assert len(rows) == 3
    for row in rows:
        first = next(
            x for x in found["layers"] if x["name"] == row["name"].removesuffix(".shortcut")
        )
        assert row["tensor"] == first["tensor"]
        assert row["error"] < first["error"]
    results = onnx2snn.evaluate(model.proto, IMAGES[:16], against=source, timesteps=[2, 4])
    assert results["steps"][-1]["output_error"] < results["steps"][0]["output_error"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, True), ({"prefer": "energy"}, True), ({"prefer": "latency"}, False),
     ({"burst": 2}, False), ({"burst": 5}, True), ({"shortcuts": False}, False)],
)  # fmt: skip
def test_the_tuner_takes_them_where_energy_counts(options, expected):
    model = onnx2snn.convert(
        residual(2), calibration=IMAGES, recipe="refine", target_drop=5.0, **options
    )
    assert model.recipe.shortcuts == expected
    assert bool(finer_units(model)) == expected


def test_the_option_is_for_the_code_that_has_them():
    model = onnx2snn.convert(residual(), calibration=IMAGES, recipe="refine", shortcuts=True)
    assert len(finer_units(model)) == 3
    with pytest.warns(UserWarning, match="--shortcuts changes nothing here"):
        model = onnx2snn.convert(residual(), calibration=IMAGES, recipe="fast", shortcuts=True)
    assert not finer_units(model)


def redirected(node):
    """Reads the image for the first estimate."""
    node.input[1] = "input"


def unmoving(node):
    """Says that the first estimate is a constant."""
    (moving,) = [item for item in node.attribute if item.name == "moving"]
    moving.ints[:] = [0]


@pytest.mark.parametrize(
    ("change", "expected"),
    [(redirected, r"\[\?,3,8,8\] for neurons \[\?,8,8,8\]"), (unmoving, "does not fit the law")],
)
def test_changed_files_are_refused(change, expected):
    proto = convert(residual(), shortcuts=True).proto
    change(next(node for node in proto.graph.node if node.op_type.startswith("RefineFurther")))
    with pytest.raises(ModelError, match=r"fault") as caught:
        Network(proto)
    assert any(re.search(expected, str(finding)) for finding in caught.value.findings)
