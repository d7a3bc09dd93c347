"""``onnx2snn convert``."""

import argparse
import tempfile
import warnings
from pathlib import Path
from typing import Any

from onnx2snn.console import number_range, print_json, print_out, print_table, progress_bar, say
from onnx2snn.spiking_model import SpikingModel
from onnx2snn.tuning.tune import Tuning
from onnx2snn_runtime.cli import printable
from onnx2snn_runtime.data.input_preprocessing import parse_all
from onnx2snn_runtime.errors import UnsupportedError, UsageError
from onnx2snn_runtime.files.models import check_writable, refuse_folder

NOT_VERIFIED = 1


def run(options: argparse.Namespace) -> int:
    """Convert a network and write the file; what cannot be converted is listed in a table."""
    try:
        return convert_and_write(options)
    except UnsupportedError as error:
        if options.debug or not error.findings:
            raise
        rows = [
            [printable(finding.node or finding.tensor), printable(finding.op),
             printable(finding.why), printable(finding.advice or error.advice)]
            for finding in error.findings
        ]  # fmt: skip
        header = ["node", "operator", "reason", "what to do"]
        print_table(f"error: {printable(error.message)}", header, rows, error=True)
        return error.exit_code


def convert_and_write(options: argparse.Namespace) -> int:
    """Convert a network and write the file."""
    source = Path(options.model)
    refuse_folder(source)
    output = Path(options.output) if options.output else default_output(source)
    if not options.dry_run:
        inputs = [source, *([options.calibration] if options.calibration else [])]
        check_writable(output, inputs=inputs)
    with progress_bar(quiet=options.quiet) as progress, warnings.catch_warnings(record=True) as met:
        warnings.simplefilter("always", UserWarning)
        result = converted(
            source,
            calibration=options.calibration,
            calibration_samples=options.calibration_samples,
            recipe=options.recipe,
            burst=options.burst,
            v0=options.v0,
            scale=options.scale,
            threshold=options.threshold,
            percentile=options.percentile,
            per_channel=options.per_channel,
            target_drop=options.target_drop,
            max_timesteps=options.max_timesteps,
            prefer=options.prefer,
            relays=options.relays,
            shortcuts=options.shortcuts,
            preprocess=parse_all(options.preprocess),
            input_shapes=parse_shapes(options.input_shape),
            exit_loss=options.exit_loss,
            decides=options.decides,
            precision=options.precision,
            strict=options.strict,
            allow_analog=options.allow_analog,
            backend=options.backend,
            threads=options.threads,
            seed=options.seed,
            progress=progress,
        )
    notes = [str(item.message) for item in met if item.category is UserWarning]
    written = not options.dry_run and (result.check.passed or not options.strict)
    if written:
        result.save(output)
    if options.json:
        print_json(document(result, output if written else None, notes))
    else:
        show(result, options)
    for remark in result.remarks:
        say(f"note: {remark}", quiet=options.quiet)
    for note in notes:
        say(f"warning: {note}")
    if not result.check.passed:
        say(f"warning: the check failed: {result.check.text}")
        if options.strict:
            say("error: nothing was written (--strict)")
            return NOT_VERIFIED
    if written:
        say(f"wrote {output}", quiet=options.quiet)
    return 0


def converted(source: Path, **options: Any) -> SpikingModel:
    """Convert an ONNX file, or a file of a framework through its exporter."""
    from onnx2snn import convert
    from onnx2snn.frameworks import FILES, export_file

    if source.suffix.lower() not in FILES:
        return convert(source, **options)
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "model.onnx"
        export_file(source, exported)
        return convert(exported, **options)


def default_output(source: Path) -> Path:
    """``MODEL.snn.onnx`` beside ``MODEL.onnx``; the same for the files of frameworks."""
    from onnx2snn.frameworks import FILES

    known = source.suffix.lower() in (".onnx", *FILES)
    stem = source.stem if known else source.name
    return source.with_name(f"{stem}.snn.onnx")


def parse_shapes(given: list[str]) -> dict[str, list[int | str]]:
    """``NAME:1,3,32,32`` to a mapping.

    Raises:
        UsageError: the text has another form.
    """
    shapes: dict[str, list[int | str]] = {}
    for text in given:
        name, _, sizes = text.rpartition(":")
        try:
            shape = [int(size) for size in sizes.split(",")]
        except ValueError:
            shape = []
        if not name or not shape or any(size < 1 for size in shape):
            raise UsageError(f"--input-shape must look like NAME:1,3,32,32, got {text!r}")
        shapes[name] = list(shape)
    return shapes


def show(result: SpikingModel, options: argparse.Namespace) -> None:
    """The layers as a table, and what the passes noted."""
    if options.quiet:
        return
    rows = []
    for layer in result.layers:
        threshold = number_range(layer.threshold)
        error = "" if layer.error is None else f"{layer.error:.3f}"
        saturated = f"{100 * layer.saturated:.2f} %" if layer.threshold else ""
        dead = f"{100 * layer.dead:.0f} %" if layer.threshold else ""
        rows.append([layer.name, layer.op, layer.role, layer.neurons, threshold, saturated, dead,
                     error])  # fmt: skip
    header = [
        "layer",
        "operator",
        "becomes",
        "neurons",
        "threshold",
        "above γ·θ",
        "dead\nchannels",
        "error",
    ]
    print_table(f"{Path(options.model).name}: recipe {result.recipe.name}", header, rows)
    print_out(result.summary())
    if result.tuning:
        show_tuning(result.tuning)
        print_out(f"energy of the ANN: {result.ann_energy_uj:.2f} µJ per image")
    if options.verbose:
        for note in result.notes:
            say(f"note: {note}")


def show_tuning(tuning: Tuning) -> None:
    """The settings that no other beats, and the one that was taken."""
    rows = []
    for trial in tuning.pareto:
        recipe = trial.recipe
        unit = recipe.threshold_scale if recipe.precision is None else recipe.precision
        agreement = "" if trial.agreement is None else f"{trial.agreement:.2f}"
        taken = "taken" if trial == tuning.chosen else ""
        rows.append([
            recipe.name, trial.timesteps, f"{unit:.4f}", f"{trial.spikes / 1e3:.1f}",
            f"{trial.energy_uj:.2f}", agreement, trial.loss_text, taken,
        ])  # fmt: skip
    header = ["recipe", "T", "unit", "k spikes", "µJ", "agreement %", "expected loss", ""]
    loss = "points" if tuning.chosen.agreement is not None else "percent of the output's norm"
    title = f"best settings tried on calibration images; expected loss on new images in {loss}"
    print_table(title, header, rows)


def document(result: SpikingModel, output: Path | None, warned: list[str]) -> dict[str, Any]:
    """What ``convert --json`` prints."""
    return {
        "output": str(output) if output else None,
        "recipe": result.recipe.as_dict(),
        "precision": "float" if result.integer is None else "int8",
        "layers": [layer.as_dict() for layer in result.layers],
        "work": result.work.as_dict(),
        "verified": result.check.passed,
        "check": {
            "text": result.check.text,
            "agreement": result.check.agreement,
            "output_error": result.check.output_error,
            "timesteps": result.check.timesteps,
            "images": result.check.images,
        },
        "tuning": result.tuning.as_dict() if result.tuning else None,
        "early_exit": result.exit_rule.to_json() if result.exit_rule else None,
        "notes": [*map(str, result.notes), *result.remarks],
        "warnings": warned,
    }
