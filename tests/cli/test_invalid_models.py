"""Models that are not valid ONNX: one block with the cause, exit code 3, no traceback."""

import networks
import numpy as np
import onnx
import pytest
from command_line import call

from attacks.spiking import number


def inputs(op, count):
    def change(model):
        for node in model.graph.node:
            if node.op_type == op:
                del node.input[count:]

    return change


def no_outputs(model):
    del model.graph.output[:]


def output_like_a_state(model):
    model.graph.node[-1].output[0] = model.graph.output[0].name = "input.next"


BROKEN = {
    "no kernel_shape": (number("MaxPool", "kernel_shape", None), "kernel_shape"),
    "kernel of another rank": (number("MaxPool", "kernel_shape", [2]), "kernel"),
    "groups that do not fit": (number("Conv", "group", 2), "Conv"),
    "unknown attribute": (number("Relu", "foo", 3), "foo"),
    "axis out of range": (number("Flatten", "axis", 9), "axis"),
    "no input": (inputs("Relu", 0), "Relu"),
    "too few inputs": (inputs("Conv", 1), "Conv"),
    "no outputs": (no_outputs, "no outputs"),
    "an output called as a state": (output_like_a_state, "input.next"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_the_cause_is_told(case, tmp_path):
    change, words = BROKEN[case]
    model = networks.small_cnn()
    change(model)
    onnx.save(model, tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=networks.images(40))
    done = call("convert", tmp_path / "net.onnx", "--calibration", tmp_path / "data.npz")
    assert done.returncode == 3, done.stderr
    assert words in done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "net.snn.onnx").exists()


def test_a_window_without_elements_is_refused_by_name(tmp_path):
    """Dilated taps that all lie in the padding: the maximum of nothing."""
    b = networks.Builder(2, size=3)
    x = b.add("Relu", [b.conv("input", 3, 4, 1)])
    x = b.add("MaxPool", [x], kernel_shape=[2, 2], dilations=[4, 4], pads=[1, 1, 1, 1])
    x = b.add("Flatten", [b.add("GlobalAveragePool", [b.add("Relu", [b.conv(x, 4, 4, 1)])])])
    model = b.model(b.add("Gemm", [x, b.weight(3, 4)], transB=1), [3])
    onnx.save(model, tmp_path / "net.onnx")
    for recipe in ("fast", "refine"):
        done = call("convert", tmp_path / "net.onnx", "--recipe", recipe)
        assert done.returncode == 4, done.stderr
        assert "MaxPool" in done.stderr
        assert "no element" in done.stderr.replace("\n", " ")


@pytest.mark.parametrize("sizes", [("H", "W"), (5, 5)])
def test_windows_larger_than_their_map(sizes, tmp_path):
    """Behind a negative size onnx's own inference of a Slice ends the process."""
    b = networks.Builder(2)
    x = b.add("Conv", ["input", b.weight(3, 3, 9, 9)])
    bounds = [b.constant([number]) for number in (1, 8, 2)]
    x = b.add("Slice", [b.add("Relu", [x]), *bounds])
    x = b.add("Flatten", [b.add("GlobalAveragePool", [b.add("Relu", [b.conv(x, 3, 3, 1)])])])
    model = b.model(b.add("Gemm", [x, b.weight(3, 3)], transB=1), [3])
    for dimension, size in zip(
        model.graph.input[0].type.tensor_type.shape.dim[2:], sizes, strict=True
    ):
        dimension.Clear()
        if isinstance(size, int):
            dimension.dim_value = size
        else:
            dimension.dim_param = size
    onnx.save(model, tmp_path / "net.onnx")
    option = [] if sizes == (5, 5) else ["--input-shape", "input:1,3,5,5"]
    done = call("convert", tmp_path / "net.onnx", *option)
    assert done.returncode == 3, done.stderr
    assert "Conv" in done.stderr
    if option:
        assert (
            call("convert", tmp_path / "net.onnx", "--input-shape", "input:1,3,20,20").returncode
            == 0
        )
