"""Files that other tools have written anew: what ONNX does not ask for may be gone."""

import networks
import numpy as np
import onnx
import pytest

import onnx2snn
import onnx2snn_runtime

IMAGES = networks.images(24)


@pytest.mark.parametrize("recipe", ["fast", "refine"])
@pytest.mark.parametrize("backend", ["numpy", "auto"])
@pytest.mark.parametrize("gone", ["all", "every second"])
def test_shapes_need_not_be_stated(recipe, backend, gone, tmp_path):
    whole = onnx2snn.convert(networks.small_cnn(), calibration=IMAGES, recipe=recipe).proto
    bare = onnx.ModelProto()
    bare.CopyFrom(whole)
    del bare.graph.value_info[:]
    if gone != "all":
        bare.graph.value_info.extend(whole.graph.value_info[::2])
    onnx.checker.check_model(bare, full_check=True)
    onnx.save(bare, tmp_path / "bare.onnx")
    onnx.save(whole, tmp_path / "whole.onnx")
    found, expected = (
        onnx2snn_runtime.load(tmp_path / f"{name}.onnx", backend=backend)
        for name in ("bare", "whole")
    )
    assert np.array_equal(found.run(IMAGES, 3).logits, expected.run(IMAGES, 3).logits)
    first, second = (
        onnx2snn.evaluate(network, IMAGES, timesteps=[2])["steps"] for network in (found, expected)
    )
    assert first == second
