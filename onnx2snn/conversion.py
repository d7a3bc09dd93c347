"""The conversion in one function: read, normalise, classify, calibrate, rewrite, verify."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from onnx2snn.calibration.batch_statistics import read_statistics
from onnx2snn.calibration.images import CalibrationSource
from onnx2snn.decision import deciding_output
from onnx2snn.doubts import doubts, refuse_constant, shortcomings
from onnx2snn.integer.between import with_neurons_between
from onnx2snn.integer.build import to_integers
from onnx2snn.options import check_options, check_preference, idle_options, starting_recipes
from onnx2snn.passes import Note, normalise, to_proto
from onnx2snn.preparation import Preparation, Progress, prepare
from onnx2snn.recipes import PREFERENCES, Recipe
from onnx2snn.rewriting.built import Built
from onnx2snn.source_model import read, refuse_invalid
from onnx2snn.spiking_model import SpikingModel
from onnx2snn.tuning.tune import tune
from onnx2snn.tuning.tune_exit import DEFAULT_LOSS, tune_on
from onnx2snn.verification.verify import verify
from onnx2snn_runtime.backends import Backend, open_backend
from onnx2snn_runtime.data.input_preprocessing import Preprocessings, to_document
from onnx2snn_runtime.data.inputs import open_inputs
from onnx2snn_runtime.errors import BackendError, ModelError, UnsupportedError
from onnx2snn_runtime.files.beside import kept_alive
from onnx2snn_runtime.files.inference import check_shapes
from onnx2snn_runtime.format import write_metadata
from onnx2snn_runtime.planning.plan import tensor_shape
from onnx2snn_runtime.planning.whole_inputs import take_whole

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
    max_timesteps: int | None = None,
    prefer: str = PREFERENCES[0],
    relays: bool | None = None,
    shortcuts: bool | None = None,
    preprocess: str | Preprocessings | Mapping[str, str] | None = None,
    input_shapes: Mapping[str, Sequence[int | str]] | None = None,
    exit_loss: float = DEFAULT_LOSS,
    decides: str | None = None,
    precision: str = "float",
    strict: bool = False,
    allow_analog: bool = False,
    backend: str = "auto",
    threads: int | None = None,
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
        max_timesteps: steps at most, for ``target_drop``: 8 where not given.
        prefer: for ``target_drop``: ``balanced``: the least energy, where each step beyond the
            fourth must make up for a quarter more; ``energy``: nothing but the least energy;
            ``latency``: the fewest steps, and as much as possible after the first one, for early
            exit.
        relays: neurons stand in front of weights that would meet values: sums over other weights,
            or what gates send (see ``onnx2snn.rewriting.relays``). Default: for ``target_drop``
            unless it prefers latency, and where ``precision`` needs them.
        shortcuts: neurons of the code ``refine`` have a finer output for ways without weights
            (see ``onnx2snn.rewriting.shortcuts``). Default: for ``target_drop`` unless it prefers
            latency.
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
        threads: CPU threads, None for all that may be used.
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
    numbers = {"v0": v0, "scale": scale, "rule": threshold, "percentile": percentile,
               "per_channel": per_channel}  # fmt: skip
    starts = starting_recipes(
        recipe, precision, target_drop, prefer, relays, shortcuts, burst_limit=burst, **numbers
    )
    most = MAX_TIMESTEPS if max_timesteps is None else max_timesteps
    check_options(starts, calibration_samples, target_drop, most, exit_loss, seed)
    check_preference(prefer, target_drop)
    engine, _ = open_backend(backend, threads)
    given = read(model)
    preprocessing = given.preprocessing(preprocess)
    data = None if calibration is None else open_inputs(calibration, given.inputs)
    source = CalibrationSource(data, calibration_samples, preprocessing, seed)

    network, notes, _held = normal_network(given.ann, input_shapes or {}, engine, precision)
    refuse_constant(source, network)
    decides, remark = deciding(network, source, decides)
    statistics = read_statistics(given.ann, network) if source.is_noise else {}
    preparations = [
        prepare(network, start, source, engine, progress, decides=decides, statistics=statistics,
                strict=strict, allow_analog=allow_analog)
        for start in starts
    ]  # fmt: skip
    warn(doubts(source, preparations[0], given.ann, notes))

    prepared = [
        (item, replace(start, relays=item.relays > 0, shortcuts=bool(item.shortcuts)))
        for item, start in zip(preparations, starts, strict=True)
    ]
    tuning = None
    (preparation, settings), *_ = prepared
    if target_drop is not None and preparation.histograms:
        tuning = tune(prepared, target_drop, most, progress, prefer)
        settings = tuning.chosen.recipe
        preparation = next(item for item, start in prepared if start.name == settings.name)

    network = preparation.network
    built = build(preparation, settings, precision)
    # noise tells whether the network is right only with thresholds that are made for noise
    tried = build(preparation.on_noise, settings, precision) if preparation.on_noise else built
    check = verify(network, tried, settings, source, engine, decides, progress)
    notes = [*notes, *built.notes]
    exit_rule = tune_on(source, network, built.spiking, settings, engine, decides, exit_loss)
    result = SpikingModel(
        built.spiking, network, settings, built.placed, built.thresholds, check, notes, tuning,
        built.record, [*source.notes, *filter(None, [remark])], exit_rule,
    )  # fmt: skip
    take_whole(built.spiking, given.whole_inputs)
    write_metadata(built.spiking, {
        **result.record(),
        "precision": precision,
        "decides": decides,
        "preprocessing": to_document(preprocessing),
        "source_sha256": given.sha256,
        "calibration": preparation.record(),
        "typical": preparation.typical,
    })  # fmt: skip
    warn(shortcomings(result, preparation, target_drop))
    given_options = {**numbers, "shortcuts": shortcuts or None}
    warn(idle_options(settings, tuning is not None, given_options, max_timesteps))
    return result


def normal_network(
    ann: onnx.ModelProto,
    input_shapes: Mapping[str, Sequence[int | str]],
    engine: Backend,
    precision: str,
) -> tuple[onnx.ModelProto, list[Note], list[NDArray[Any]]]:
    """The normal form of a network, what the passes did, and the arrays beside the network.

    Who keeps the network must keep the arrays.

    Raises:
        ModelError: the model cannot be executed, or its shapes do not fit together.
        UnsupportedError: something has no normal form.
    """
    try:
        normal, notes = normalise(ann, input_shapes=input_shapes, run=engine.compile)
    except BackendError as problem:  # it was tried on noise: the fault is the model's
        refuse_invalid(ann)
        raise ModelError(
            f"the model cannot be executed: {problem.message}", problem.findings
        ) from problem
    except (ModelError, UnsupportedError) as problem:
        if not problem.findings:
            refuse_invalid(ann)
        raise
    network = to_proto(normal)
    if precision == "int8":
        network = with_neurons_between(network)
    check_shapes(network)
    return network, notes, kept_alive(network)


def deciding(
    network: onnx.ModelProto, source: CalibrationSource, wanted: str | None
) -> tuple[str, str]:
    """Which output tells the classes, and a remark where others might.

    Raises:
        UsageError: there is no such output.
    """
    shapes = {value.name: tensor_shape(value) for value in network.graph.output}
    return deciding_output(shapes, source.labels(source.count), wanted)


def warn(lines: Iterable[str]) -> None:
    """Warn of each, as of the call of `convert`."""
    for line in lines:
        warnings.warn(line, UserWarning, stacklevel=3)


def build(preparation: Preparation, settings: Recipe, precision: str) -> Built:
    """The spiking network of a recipe, in floats or in whole numbers.

    Raises:
        UnsupportedError: with everything that has no integer form.
    """
    if precision == "int8":
        return to_integers(preparation, settings)
    spiking, thresholds = preparation.spiking(settings)
    return Built(spiking, preparation.placed, thresholds)
