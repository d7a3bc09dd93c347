"""Steps the spiking network on calibration images and compares it with the ANN, layer by layer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from onnx2snn.calibration.calibrate import with_outputs
from onnx2snn.calibration.images import CalibrationSource
from onnx2snn.decision import told_classes
from onnx2snn.energy.costs import multiplications
from onnx2snn.recipes import Recipe
from onnx2snn.rewriting.built import Built
from onnx2snn.rewriting.classify import Role
from onnx2snn.verification.diagnose import FALLING, TOLERANCE, Evidence, cause
from onnx2snn.verification.layer_means import LayerMeans
from onnx2snn_runtime.answers import class_scores, is_probability
from onnx2snn_runtime.backends.base import Backend
from onnx2snn_runtime.engine import Engine
from onnx2snn_runtime.planning.planner import make_plan

TIMESTEPS = {"rate": 64, "refine": 16}
IMAGES = 16
BUDGET = 20e9  # multiplications that the check may cost


@dataclass(frozen=True)
class Check:
    """How far the spiking network is from the ANN.

    Attributes:
        passed: the outputs approach the ANN's.
        text: the verdict in one line.
        timesteps: number of steps run.
        images: number of images.
        agreement: share of images with the same largest output, or None.
        output_error: relative error of the outputs.
        layer_errors: output tensor of a layer to its relative error.
    """

    passed: bool
    text: str
    timesteps: int = 0
    images: int = 0
    agreement: float | None = None
    output_error: float = 0.0
    layer_errors: dict[str, float] = field(default_factory=dict)


def verify(
    ann: onnx.ModelProto,
    built: Built,
    recipe: Recipe,
    source: CalibrationSource,
    backend: Backend,
    decides: str,
    progress: Callable[[str, int, int], None],
) -> Check:
    """Compare layer means with the ANN's activations, relative to the layer's deviation.

    The output ``decides`` tells classes.
    """
    layers = {
        item.node.output[0]: item for item in built.placed
        if item.role in (Role.NEURON, Role.POOL, Role.GRADED)
    }  # fmt: skip
    if not any(item.role is Role.NEURON for item in layers.values()):
        return Check(True, "nothing spikes: the network is the ANN itself")
    timesteps = TIMESTEPS[recipe.code]
    macs = max(1, sum(multiplications(ann).values()))
    images = max(1, min(IMAGES, int(BUDGET / (macs * timesteps))))
    feeds = next(source.batches(ann, images))
    progress("check", 0, 1)
    extra = [*layers, *(output.name for output in ann.graph.output)]
    reference = backend.compile(with_outputs(ann, extra))(feeds)
    half, soon = timesteps // 2, min(recipe.recommended_timesteps, timesteps)
    observer = LayerMeans(timesteps, refine=recipe.code == "refine")
    engine = Engine(make_plan(built.spiking), backend)
    answers = dict(engine.run(feeds, sorted({soon, half, timesteps}), observer=observer))
    progress("check", 1, 1)

    names = {
        item.node.name: tensor for tensor, item in layers.items()
        if item.node.name in observer.sums
    }  # fmt: skip
    errors, early = {}, {}
    for name, tensor in names.items():
        if tensor in reference:
            worth = (built.units or {}).get(tensor, np.float32(1))
            errors[tensor] = relative_error(observer.mean(name) * worth, reference[tensor])
            early[tensor] = relative_error(observer.early[name] * worth, reference[tensor])
    outputs = {name: answers[timesteps][name] for name in engine.plan.outputs}
    error = max(_output_error(outputs[name], reference[name]) for name in outputs)
    before = max(_output_error(answers[half][name], reference[name]) for name in outputs)
    early_error = max(_output_error(answers[soon][name], reference[name]) for name in outputs)
    binary = is_probability(ann, decides)
    agreement = class_agreement(
        *(class_scores(answers[decides], binary) for answers in (outputs, reference))
    )
    finite = all(np.all(np.isfinite(value)) for value in outputs.values())
    passed = bool(finite and (error <= TOLERANCE or error <= FALLING * before))
    count = len(next(iter(feeds.values())))
    text = _verdict(passed, error, agreement, count, timesteps)
    if soon < timesteps:
        text += f"; {early_error:.3f} after the recommended {soon}"
    if not passed:
        sent = {names[name]: name for name in observer.spikes if name in names}
        refine = recipe.code == "refine"  # whose bursts at the limit are how it finds its unit
        saturated = {} if refine else {t: observer.saturated(name) for t, name in sent.items()}
        silent = frozenset(t for t, name in sent.items() if not observer.spikes[name].any())
        text += "; " + cause(
            Evidence(errors, early, saturated, silent, built.thresholds, source.is_noise, finite)
        )
    return Check(passed, text, timesteps, count, agreement, error, errors)


def _output_error(found: Any, expected: Any) -> float:
    return relative_error(found, expected) if expected.dtype.kind == "f" else 0.0


def relative_error(found: Any, expected: Any) -> float:
    """L2 distance relative to the deviation of the expected values from their mean."""
    expected = np.asarray(expected, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # infinite answers give no number, which tells enough
        distance = length(np.asarray(found, dtype=np.float64) - expected)
        spread = length(expected - expected.mean())
    return distance / spread if spread > 1e-12 else distance


def length(values: Any) -> float:
    """L2 norm, added up by NumPy: a dot product of BLAS depends on the number of threads."""
    return float(np.sqrt(np.square(values).sum()))


def class_agreement(found: Any, expected: Any) -> float | None:
    """Share of images with the same class, or None where the output tells no classes."""
    classes = told_classes(expected)
    return None if classes is None else float(np.mean(told_classes(found) == classes))


def _verdict(
    passed: bool, error: float, agreement: float | None, images: int, timesteps: int
) -> str:
    same = "" if agreement is None else f", same class {round(agreement * images)}/{images}"
    word = ("ok" if error <= TOLERANCE else "still falling") if passed else "DEPARTS"
    return f"{word}: output error {error:.3f} after {timesteps} steps on {images} images{same}"
