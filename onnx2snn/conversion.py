"""The conversion in one function: read, normalise, classify, calibrate, rewrite, verify."""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import onnx

from onnx2snn import __version__
from onnx2snn.batch_statistics import read_statistics
from onnx2snn.built import Built
from onnx2snn.calibration_images import CalibrationSource
from onnx2snn.decision import deciding_output
from onnx2snn.doubts import doubts, other_answers, refuse_constant
from onnx2snn.integer.between import with_neurons_between
from onnx2snn.integer.build import to_integers
from onnx2snn.options import check_codes, check_options, check_precision, check_preference
from onnx2snn.passes import normalise, to_proto
from onnx2snn.passes.float32 import INTEGERS
from onnx2snn.passes.quantisation import StripQuantisation
from onnx2snn.preparation import Preparation, Progress, prepare
from onnx2snn.recipes import PREFERENCES, Recipe, find_recipe
from onnx2snn.spiking_model import SpikingModel
from onnx2snn.tune import tune
from onnx2snn.tune_exit import DEFAULT_LOSS, tune_on
from onnx2snn.verify import verify
from onnx2snn_runtime.backends import open_backend
from onnx2snn_runtime.errors import BackendError, ModelError
from onnx2snn_runtime.files import load_model
from onnx2snn_runtime.format import FORMAT_VERSION, is_spiking, write_metadata
from onnx2snn_runtime.inference import check_shapes
from onnx2snn_runtime.input_preprocessing import Preprocessings, by_input, to_document, told
from onnx2snn_runtime.inputs import open_inputs
from onnx2snn_runtime.model_checks import check_model
from onnx2snn_runtime.plan import tensor_shape
from onnx2snn_runtime.preprocessing import PRESETS

CALIBRATION_SAMPLES = 512
MAX_TIMESTEPS = 8


def convert(
    model: str | Path | onnx.ModelProto,
    *,
    calibration: Any = None,
    calibration_samples: int = CALIBRATION_SAMPLES,
    recipe: str | Recipe | None = None,
    burst: int | None = None,
    v0: float | None = None,
    scale: float | None = None,
    threshold: str | None = None,
    percentile: float | None = None,
    per_channel: bool | None = None,
    target_drop: float | None = None,
    max_timesteps: int = MAX_TIMESTEPS,
    prefer: str = PREFERENCES[0],
    relays: bool | None = None,
    preprocess: str | Preprocessings | Mapping[str, str] | None = None,
    input_shapes: Mapping[str, Sequence[int | str]] | None = None,
    exit_loss: float = DEFAULT_LOSS,
    decides: str | None = None,
    precision: str = "float",
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
            inputs a mapping, an ``.npz`` or a folder by their names; None takes noise and warns.
        calibration_samples: how many of them at most.
        recipe: ``fast`` (the default), ``paper``, ``if``, ``refine``, or a ``Recipe``.
        burst: burst limit γ, spikes per neuron and step at most.
        v0: initial charge in units of the threshold, 0 ≤ v0 < 1.
        scale: factor on the calibrated threshold.
        threshold: threshold rule, ``max``, ``percentile`` or ``mse``.
        percentile: percentile of the rule ``percentile``.
        per_channel: one threshold per channel instead of per layer.
        target_drop: choose the settings: the least energy whose expected loss of accuracy on new
            images is at most this many points. With a recipe only its settings are searched.
        max_timesteps: steps at most, for ``target_drop``.
        prefer: for ``target_drop``: ``balanced``: the least energy, where each step beyond the
            fourth must make up for a quarter more; ``energy``: nothing but the least energy;
            ``latency``: the fewest steps, and as much as possible after the first one, for early
            exit.
        relays: neurons stand in front of weights that would meet values: sums over other weights,
            or what gates send (see ``onnx2snn.relays``). Default: for ``target_drop`` unless it
            prefers latency, and where ``precision`` needs them.
        preprocess: what turns uint8 pictures into the model's input, as ``--preprocess``; for
            several inputs also a mapping by their names.
        input_shapes: sizes of dynamic inputs, batch first.
        exit_loss: points of accuracy that early exit may be expected to cost (`tune_exit`).
        decides: with several outputs the one that tells classes: settings, early exit and accuracy
            look at it. Default: the first that can, with labels one that is wide enough for them.
        precision: ``float``, or ``int8``: the network computes in whole numbers with weights of
            8 bits, and every engine gives the same bits (see ``onnx2snn.integer``).
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
    check_precision(precision, relays)
    if relays is None and target_drop is not None:
        relays = prefer != "latency" or precision == "int8"
    starts = [
        (find_recipe(entry) if isinstance(entry, str) else entry).with_options(
            burst_limit=burst, v0=v0, scale=scale, rule=threshold, percentile=percentile,
            per_channel=per_channel, relays=relays,
        )
        for entry in candidates(recipe, target_drop, precision)
    ]  # fmt: skip
    check_codes(precision, starts)
    check_options(starts, calibration_samples, target_drop, max_timesteps, exit_loss, seed)
    check_preference(prefer, target_drop)
    engine, _ = open_backend(backend)
    steps = told(preprocess)
    ann, digest = read(model)
    weights = {item.name for item in ann.graph.initializer}
    inputs = [value.name for value in ann.graph.input if value.name not in weights]
    known = by_input(steps, inputs)  # names of no input are refused
    whole = [name for name in integer_inputs(ann) if name in inputs and name not in known]
    if whole:  # they take the numbers of pictures as they are
        steps = {**known, **dict.fromkeys(whole, PRESETS["none"])}
    data = None if calibration is None else open_inputs(calibration, inputs)
    source = CalibrationSource(data, calibration_samples, steps, seed)

    try:
        normal, notes = normalise(ann, input_shapes=input_shapes or {}, run=engine.compile)
    except BackendError as problem:  # it was tried on noise: the fault is the model's
        raise ModelError(
            f"the model cannot be executed: {problem.message}", problem.findings
        ) from problem
    network = to_proto(normal)
    if precision == "int8":
        network = with_neurons_between(network)
    check_shapes(network)
    refuse_constant(source, network)
    known_labels = source.labels(source.count)
    shapes = {value.name: tensor_shape(value) for value in network.graph.output}
    decides, remark = deciding_output(shapes, known_labels, decides)
    statistics = read_statistics(ann, network) if source.is_noise else {}
    preparations = [
        prepare(network, start, source, engine, progress, decides=decides, statistics=statistics,
                strict=strict, allow_analog=allow_analog)
        for start in starts
    ]  # fmt: skip
    prepared = [
        (item, replace(start, relays=item.relays > 0))
        for item, start in zip(preparations, starts, strict=True)
    ]
    tuning = None
    (preparation, settings), *_ = prepared
    strange = doubts(source, preparation)
    if any(note.pass_name == StripQuantisation.name for note in notes):
        strange = chain(strange, other_answers(ann, source, preparation))
    for doubt in strange:
        warnings.warn(doubt, UserWarning, stacklevel=2)
    if target_drop is not None and preparation.histograms:
        tuning = tune(prepared, target_drop, max_timesteps, progress, prefer)
        settings = tuning.chosen.recipe
        preparation = next(item for item, start in prepared if start.name == settings.name)
    network = preparation.network
    built = build(preparation, settings, precision)
    # noise tells whether the network is right only with thresholds that are made for noise
    tried = build(preparation.on_noise, settings, precision) if preparation.on_noise else built
    check = verify(network, tried, settings, source, engine, decides, progress)
    spiking, notes = built.spiking, [*notes, *built.notes]
    exit_rule = tune_on(source, network, spiking, settings, engine, decides, exit_loss)

    result = SpikingModel(
        spiking,
        network,
        settings,
        built.placed,
        built.thresholds,
        check,
        notes,
        tuning,
        built.record,
        [*source.notes, *filter(None, [remark])],
    )
    write_metadata(spiking, {
        "format_version": FORMAT_VERSION,
        "onnx2snn": __version__,
        "recipe": settings.as_dict(),
        "precision": precision,
        "integer": built.record,
        "decides": decides,
        "recommended_t": settings.recommended_timesteps,
        "layers": [layer.as_dict() for layer in result.layers],
        "preprocessing": to_document(steps),
        "source_sha256": digest,
        "calibration": {"images": source.count, "noise": source.is_noise,
                        "from_statistics": preparation.from_statistics},
        "tuning": tuning.as_dict() if tuning else None,
        "typical": preparation.typical,
        "work": result.work.as_dict(),
        "notes": [str(note) for note in notes],
        "verified": check.passed,
        "early_exit": exit_rule.to_json() if exit_rule else None,
    })  # fmt: skip
    if tuning is not None and not tuning.reached:
        chosen = tuning.chosen
        warnings.warn(
            f"no setting is expected to lose at most {target_drop} points; taken is the most "
            f"accurate one, expected to lose {chosen.loss_text}",
            UserWarning,
            stacklevel=2,
        )
    for note in notes:
        if note.is_warning:
            warnings.warn(note.text, UserWarning, stacklevel=2)
    if source.is_noise:
        warnings.warn(without_images(preparation), UserWarning, stacklevel=2)
    return result


def build(preparation: Preparation, settings: Recipe, precision: str) -> Built:
    """The spiking network of a recipe, in floats or in whole numbers.

    Raises:
        UnsupportedError: with everything that has no integer form.
    """
    if precision == "int8":
        return to_integers(preparation, settings)
    spiking, thresholds = preparation.spiking(settings)
    return Built(spiking, preparation.placed, thresholds)


def without_images(preparation: Preparation) -> str:
    """The warning of a conversion that was given no calibration images."""
    layers, known = len(preparation.histograms), preparation.from_statistics
    if not known:
        return (
            "no calibration images: thresholds come from random noise and are probably poor; "
            "give real images with --calibration"
        )
    rest = f", of the other {layers - known} from random noise" if known < layers else ""
    return (
        f"no calibration images: thresholds of {known} layers are estimated from the statistics "
        f"of BatchNormalization{rest}; give real images with --calibration"
    )


def integer_inputs(ann: onnx.ModelProto) -> list[str]:
    """Names of the inputs that take whole numbers, weights among them."""
    return [value.name for value in ann.graph.input if value.type.tensor_type.elem_type in INTEGERS]


def candidates(
    recipe: str | Recipe | None, target_drop: float | None, precision: str
) -> Sequence[str | Recipe]:
    """The recipes to start from: the one that is asked for, or the best of each code to search."""
    if recipe is not None:
        return (recipe,)
    return ("fast",) if target_drop is None or precision == "int8" else ("refine", "fast")


def read(model: str | Path | onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """The source model and its sha256.

    Raises:
        ModelError: it cannot be read, or is a spiking network already.
    """
    if isinstance(model, onnx.ModelProto):
        loaded = onnx.ModelProto()
        loaded.CopyFrom(model)
        check_model(loaded)
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
