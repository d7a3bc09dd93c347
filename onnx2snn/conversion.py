"""The conversion in one function: read, normalise, classify, calibrate, rewrite, verify."""

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir

from onnx2snn import __version__
from onnx2snn.calibrate import LayerCalibration, check_rule, collect, set_threshold
from onnx2snn.calibration_images import CalibrationSource
from onnx2snn.classify import Placed, Role, classify
from onnx2snn.passes import normalise
from onnx2snn.reach import keep_reach
from onnx2snn.recipes import Recipe, find_recipe
from onnx2snn.rewrite import rewrite
from onnx2snn.spiking_model import SpikingModel
from onnx2snn.tune_exit import DEFAULT_LOSS, tune_on
from onnx2snn.verify import verify
from onnx2snn_runtime.backends import Backend, open_backend
from onnx2snn_runtime.data import open_inputs
from onnx2snn_runtime.errors import ModelError, UsageError
from onnx2snn_runtime.files import load_model
from onnx2snn_runtime.format import FORMAT_VERSION, is_spiking, write_metadata
from onnx2snn_runtime.plan import tensor_shape
from onnx2snn_runtime.preprocessing import Preprocessing

Progress = Callable[[str, int, int], None]
"""Told the stage, how many images are done, and how many there are."""

CALIBRATION_SAMPLES = 512
BATCH_BYTES = 256 * 2**20
MAX_BATCH = 64


def convert(
    model: str | Path | onnx.ModelProto,
    *,
    calibration: Any = None,
    calibration_samples: int = CALIBRATION_SAMPLES,
    recipe: str | Recipe = "fast",
    burst: int | None = None,
    v0: float | None = None,
    scale: float | None = None,
    threshold: str | None = None,
    percentile: float | None = None,
    per_channel: bool | None = None,
    preprocess: str | Preprocessing | None = None,
    input_shapes: Mapping[str, Sequence[int | str]] | None = None,
    exit_loss: float = DEFAULT_LOSS,
    strict: bool = False,
    allow_analog: bool = False,
    backend: str = "auto",
    seed: int = 0,
    progress: Progress = lambda stage, done, total: None,
) -> SpikingModel:
    """Turn a trained CNN into a spiking neural network.

    Args:
        model: path of an ONNX file, or the model itself.
        calibration: images for the thresholds: a path or an array (see ``open_data``), for several
            inputs a mapping or an ``.npz`` by their names; None takes noise and warns.
        calibration_samples: how many of them at most.
        recipe: ``fast``, ``paper``, ``if``, ``refine``, or a ``Recipe``.
        burst: burst limit γ, spikes per neuron and step at most.
        v0: initial charge in units of the threshold, 0 ≤ v0 < 1.
        scale: factor on the calibrated threshold.
        threshold: threshold rule, ``max``, ``percentile`` or ``mse``.
        percentile: percentile of the rule ``percentile``.
        per_channel: one threshold per channel instead of per layer.
        preprocess: what turns uint8 pictures into the model's input, as ``--preprocess``.
        input_shapes: sizes of dynamic inputs, batch first.
        exit_loss: points of agreement that early exit may lose; its rule is tuned to this.
        strict: refuse graded operators, and a network whose check fails.
        allow_analog: accept a network in which nothing spikes.
        backend: backend for calibration and the check.
        seed: seed of the noise that stands in for calibration images.
        progress: is told how far long stages are.

    Returns:
        The spiking network, checked against the ANN layer by layer.

    Raises:
        ModelError: the file cannot be read or is not valid.
        UnsupportedError: with everything that cannot be converted.
        DataError: the calibration images do not fit.
        UsageError: an option is out of range.
    """
    settings = (find_recipe(recipe) if isinstance(recipe, str) else recipe).with_options(
        burst_limit=burst, v0=v0, scale=scale, rule=threshold, percentile=percentile,
        per_channel=per_channel,
    )  # fmt: skip
    check_rule(settings.rule)
    if not 0.0 <= exit_loss <= 100.0:
        raise UsageError(f"--exit-loss must lie in 0..100, got {exit_loss}")
    if calibration_samples < 1:
        raise UsageError(f"--calibration-samples must be at least 1, got {calibration_samples}")
    engine, _ = open_backend(backend)
    steps = preprocess if isinstance(preprocess, Preprocessing) else Preprocessing.parse(preprocess)
    ann, digest = read(model)
    weights = {item.name for item in ann.graph.initializer}
    inputs = [value.name for value in ann.graph.input if value.name not in weights]
    datasets = {} if calibration is None else open_inputs(calibration, inputs)
    source = CalibrationSource(datasets, calibration_samples, steps, seed)

    normal, notes = normalise(ann, input_shapes=input_shapes or {}, run=engine.compile)
    network = onnx_ir.to_proto(normal)
    placed = classify(network, strict=strict, allow_analog=allow_analog)
    thresholds = calibrate(network, placed, settings, source, engine, progress)
    spiking = rewrite(network, placed, thresholds, settings)
    check = verify(network, spiking, placed, thresholds, settings, source, engine, progress)
    exit_rule = tune_on(source, network, spiking, settings, engine, exit_loss)

    result = SpikingModel(spiking, network, settings, placed, thresholds, check, notes)
    write_metadata(spiking, {
        "format_version": FORMAT_VERSION,
        "onnx2snn": __version__,
        "recipe": settings.as_dict(),
        "recommended_t": settings.recommended_timesteps,
        "layers": [layer.as_dict() for layer in result.layers],
        "preprocessing": steps.to_json() if steps else None,
        "source_sha256": digest,
        "calibration": {"images": source.count, "noise": source.is_noise},
        "work": result.work.as_dict(),
        "verified": check.passed,
        "early_exit": exit_rule.to_json() if exit_rule else None,
    })  # fmt: skip
    for note in notes:
        if note.is_warning:
            warnings.warn(note.text, UserWarning, stacklevel=2)
    if source.is_noise:
        warnings.warn(
            "no calibration images: thresholds come from random noise and are probably poor; "
            "give real images with --calibration",
            UserWarning,
            stacklevel=2,
        )
    return result


def read(model: str | Path | onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """The source model and its sha256."""
    if isinstance(model, onnx.ModelProto):
        loaded = onnx.ModelProto()
        loaded.CopyFrom(model)
        digest = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    else:
        loaded = load_model(model)
        with Path(model).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    if is_spiking(loaded):
        raise ModelError(
            "the model is a spiking network already", advice="run it: onnx2snn run MODEL INPUT"
        )
    return loaded, digest


def calibrate(
    network: onnx.ModelProto,
    placed: list[Placed],
    recipe: Recipe,
    source: CalibrationSource,
    backend: Backend,
    progress: Progress,
) -> dict[str, LayerCalibration]:
    """Threshold of every neuron layer, by the name of its output tensor."""
    layers = {item.node.output[0]: item.node for item in placed if item.role is Role.NEURON}
    if not layers:
        return {}
    done = 0

    def advance(images: int) -> None:
        nonlocal done
        done += images
        progress("calibrate", done, source.count)

    size = batch_size(network)
    batches = source.batches(network, size)
    histograms = collect(network, layers, batches, backend, advance)
    ranks = {value.name: len(tensor_shape(value)) for value in network.graph.value_info}
    ranks.update({value.name: len(tensor_shape(value)) for value in network.graph.output})
    return {
        name: keep_reach(
            set_threshold(histogram, ranks.get(name, 2), recipe), histogram, layers[name], recipe
        )
        for name, histogram in histograms.items()
    }


def batch_size(network: onnx.ModelProto) -> int:
    """How many images at once keep all activations of the ANN within the memory budget."""
    values = sum(
        int(np.prod([size for size in tensor_shape(value) if isinstance(size, int)]))
        for value in network.graph.value_info
    )
    return max(1, min(MAX_BATCH, BATCH_BYTES // max(1, 4 * values)))
