"""Whole numbers on the command line, and what a changed file of them is told."""

import json

import numpy as np
import onnx
import pytest
from networks import Builder, images, small_cnn
from onnx import TensorProto, numpy_helper

from onnx2snn.cli import main
from onnx2snn_runtime.errors import ModelError
from onnx2snn_runtime.network import Network


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network, images, and the integer network."""
    folder = tmp_path_factory.mktemp("integer")
    onnx.save(small_cnn(), folder / "net.onnx")
    labels = np.arange(32) % 4
    np.savez(folder / "data.npz", images=images(32), labels=labels)
    assert main([
        "convert", str(folder / "net.onnx"), "--calibration", str(folder / "data.npz"),
        "--precision", "int8", "-q",
    ]) == 0  # fmt: skip
    return folder


def printed(capsys, *arguments):
    """What a command prints as JSON."""
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_inspect_shows_precision_and_bits(folder, capsys):
    found = printed(capsys, "inspect", folder / "net.snn.onnx")
    assert found["precision"] == "int8"
    assert set(found["weight_bits"].values()) == {8}
    assert main(["inspect", str(folder / "net.snn.onnx")]) == 0
    text = capsys.readouterr().out
    assert "8 bits in 5 layers" in text
    assert f"proven for {found['metadata']['integer']['max_timesteps']} timesteps" in text


def test_convert_says_what_it_did(folder, capsys):
    found = printed(capsys, "convert", folder / "net.onnx", "--calibration", folder / "data.npz",
                    "--precision", "int8", "--dry-run")  # fmt: skip
    assert found["precision"] == "int8"


def test_eval_and_compare_work_in_units_of_the_ann(folder, capsys):
    network, data = folder / "net.snn.onnx", folder / "data.npz"
    found = printed(capsys, "eval", network, data, "--against", folder / "net.onnx",
                    "--timesteps", "4,32")  # fmt: skip
    early, late = found["steps"]
    assert late["output_error"] < early["output_error"] < 0.2
    assert late["energy_int_uj"] > early["energy_int_uj"] > 0
    compared = printed(capsys, "compare", folder / "net.onnx", network, data, "-T", "32")
    assert compared["first_departing"] is None
    assert all(layer["error"] < 0.1 for layer in compared["layers"])


def test_the_plan_of_energy_is_that_of_the_float_network(folder, capsys, tmp_path):
    """Averages as convolutions of ones and factors on shortcuts are no multiplications.

    A weight that rounds to zero costs nothing: the figures differ by a hundredth.
    """
    b = Builder(2)
    x = b.add("Relu", [b.conv("input", 3, 4)])
    x = b.add("Relu", [b.add("Add", [b.conv(x, 4, 4), x])])
    x = b.add("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = b.add("Relu", [b.conv(x, 4, 4)])
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [x])])
    onnx.save(
        b.model(b.add("Gemm", [flat, b.weight(4, 4), b.weight(4)], transB=1), [4]),
        tmp_path / "net.onnx",
    )
    figures = {}
    for precision in ("float", "int8"):
        written = tmp_path / f"{precision}.snn.onnx"
        assert main([
            "convert", str(tmp_path / "net.onnx"), "--calibration", str(folder / "data.npz"),
            "--precision", precision, "-o", str(written), "-q",
        ]) == 0  # fmt: skip
        capsys.readouterr()
        figures[precision] = printed(capsys, "eval", written, folder / "data.npz")
    plain, whole = figures["float"], figures["int8"]
    macs = [found["ann"]["macs_per_image"] for found in (plain, whole)]
    assert macs[1] == pytest.approx(macs[0], rel=0.02)
    for one, other in zip(plain["steps"], whole["steps"], strict=True):
        per_spike = [step["synops_per_image"] / step["spikes_per_image"] for step in (one, other)]
        assert per_spike[1] == pytest.approx(per_spike[0], rel=0.02)


def test_too_many_steps(folder, capsys):
    code = main(["run", str(folder / "net.snn.onnx"), str(folder / "data.npz"), "-T", "100000"])
    assert code == 2
    assert "proven not to overflow" in capsys.readouterr().err


def test_the_typical_method_stands_beside_floats(folder, capsys):
    code = main(["eval", str(folder / "net.snn.onnx"), str(folder / "data.npz"), "--typical"])
    assert code == 2
    assert "--precision float" in capsys.readouterr().err


def test_refusals_have_codes(folder, capsys, tmp_path):
    b = Builder(1)
    x = b.conv(b.add("Sigmoid", [b.conv("input", 3, 4)]), 4, 4)
    onnx.save(b.model(b.add("Relu", [b.conv(x, 4, 4)]), [4, 8, 8]), tmp_path / "odd.onnx")
    code = main(["convert", str(tmp_path / "odd.onnx"), "--precision", "int8"])
    text = capsys.readouterr().err
    assert code == 4
    assert "Sigmoid" in text
    assert "what to do" in text
    assert not (tmp_path / "odd.snn.onnx").exists()
    options = ["--precision", "int8", "--recipe", "refine"]
    assert main(["convert", str(folder / "net.onnx"), *options]) == 2


def test_a_second_conversion_writes_the_same_bytes(folder, tmp_path):
    assert main([
        "convert", str(folder / "net.onnx"), "--calibration", str(folder / "data.npz"),
        "--precision", "int8", "-o", str(tmp_path / "again.onnx"), "-q",
    ]) == 0  # fmt: skip
    assert (tmp_path / "again.onnx").read_bytes() == (folder / "net.snn.onnx").read_bytes()


def threshold_of(model):
    """A threshold, to be changed."""
    name = next(node for node in model.graph.node if node.op_type == "IntegerIF").input[1]
    return next(item for item in model.graph.initializer if item.name == name)


def test_thresholds_must_be_whole(folder):
    for change in (0.5, 2.0**24):
        model = onnx.load(folder / "net.snn.onnx")
        tensor = threshold_of(model)
        array = numpy_helper.to_array(tensor) + np.float32(change)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        with pytest.raises(ModelError, match="whole numbers"):
            Network(model, backend="numpy")


def test_states_must_be_integers(folder):
    model = onnx.load(folder / "net.snn.onnx")
    for value in (*model.graph.input, *model.graph.output):
        if "input_sum" in value.name:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    with pytest.raises(ModelError, match="must be INT32"):
        Network(model, backend="numpy")
