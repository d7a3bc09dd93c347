"""Any small CNN: convert raises our typed error, or the SNN approaches the ANN."""

import warnings

import networks
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from small_graphs import graphs

from onnx2snn import convert
from onnx2snn_runtime.errors import Onnx2SnnError

EARLY, LATE = 32, 256
CLOSE = 0.02  # relative error that is close enough at LATE
IMAGES = networks.images(16, seed=3, shape=(2, 6, 6))


@settings(max_examples=40)
@given(model=graphs(), relays=st.booleans())
def test_convert_refuses_or_approaches(model, relays):
    expected = ReferenceEvaluator(model).run(None, {"input": IMAGES})[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            spiking = convert(model, calibration=IMAGES, threshold="max", relays=relays,
                              backend="numpy")  # fmt: skip
        except Onnx2SnnError as refusal:
            assert str(refusal)
            return
    network = spiking.network(backend="numpy")
    answers = network.run(IMAGES, timesteps=[EARLY, LATE]).by_step
    early, late = (relative_error(answers[t], expected) for t in (EARLY, LATE))
    assert late <= max(CLOSE, early / 2)


def relative_error(outputs, expected):
    (found,) = outputs.values()
    return float(np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-6))
