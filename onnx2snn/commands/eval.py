"""``onnx2snn eval``."""

import argparse
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import Any

from onnx2snn.commands.report import add_report, check_report
from onnx2snn.console import print_json, print_out, print_table, progress_bar, say
from onnx2snn.report.verdict import energy_sentences, typical_sentences, verdict
from onnx2snn_runtime.cli import INTERRUPTED
from onnx2snn_runtime.data.input_preprocessing import parse_all
from onnx2snn_runtime.data.inputs import InputData, open_inputs
from onnx2snn_runtime.errors import UsageError
from onnx2snn_runtime.files.models import check_writable, write_bytes_atomic
from onnx2snn_runtime.network import Network
from onnx2snn_runtime.run_command import (
    answers,
    archive,
    check_backend_arguments,
    open_network,
    remarks,
)

BELOW_LIMIT = 1


def run(options: argparse.Namespace) -> int:
    """Measure a network and print the table."""
    from onnx2snn.doubts import FEWEST_IMAGES, strange_labels
    from onnx2snn.evaluation.evaluate import Interrupted, evaluate

    check_backend_arguments(options)
    inputs = [options.model, options.data, *filter(None, [options.against])]
    if options.report:
        check_report(options, inputs)
    if options.output:
        check_writable(options.output, inputs=[*inputs, *filter(None, [options.report])])
    steps = None if options.timesteps is None else parse_timesteps(options.timesteps)
    network = open_network(options)
    data = open_inputs(options.data, list(network.input_shapes))
    if options.report:
        from onnx2snn.report.collect import check_image

        check_image(options.report_image, min(data.count, options.limit or data.count))
    if options.max_drop is not None and data.labels is None:
        raise UsageError("--max-drop needs data with labels of classes")
    if options.max_drop is not None and not math.isfinite(options.max_drop):
        raise UsageError(f"--max-drop must be a number of points, got {options.max_drop}")
    try:
        with progress_bar(quiet=options.quiet) as progress, _spoken(ray=options.ray is not None):
            result = evaluate(
                network,
                data,
                timesteps=steps,
                against=options.against,
                limit=options.limit,
                batch_size=options.batch_size,
                early_exit=options.early_exit,
                typical=options.typical,
                workers=options.workers,
                ray=options.ray,
                preprocessing=parse_all(options.preprocess),
                resume=options.model if options.resume else None,
                progress=lambda done, total: progress("evaluate", done, total),
            )
    except Interrupted as stopped:
        tell(stopped.document, options)
        hint = "" if options.resume else "; --resume keeps a journal to go on from"
        say(f"interrupted: this is the result of {stopped.document['samples']} images{hint}")
        if options.output or options.report:
            say("nothing but this has been written")
        return INTERRUPTED
    try:
        if options.report:
            add_report(result, network, options)
        if options.output:
            write_answers(network, data, result["steps"][-1]["t"], options)
    finally:  # hours of work are told, whatever happens to the files beside it
        tell(result, options)
    if options.typical and result["typical"] is None:
        say("note: the typical method is measured by classes, and this network tells none")
    unlabelled = ["no labels of classes: accuracy is not known"] if data.labels is None else []
    for line in remarks(network, data, options, *unlabelled):
        say(line)
    right, count = result["ann"]["accuracy"], result["samples"]
    if right is not None and count >= FEWEST_IMAGES:
        for doubt in strange_labels(right, f"{count} images"):
            say(f"warning: {doubt}")
    if options.max_drop is None:
        return 0
    return check_drop(result, options.max_drop)


@contextmanager
def _spoken(*, ray: bool) -> Iterator[None]:
    """Warnings as lines for people; what Ray prints goes to stderr, stdout is for the answer."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
        if ray:
            stack.enter_context(redirect_stdout(sys.stderr))
        yield


def write_answers(
    network: Network, data: InputData, timesteps: int, options: argparse.Namespace
) -> None:
    """Write what the network answers after so many steps."""
    preprocessing = parse_all(options.preprocess) or network.preprocessing
    outputs, *_ = answers(
        network, data, preprocessing, timesteps, options.batch_size, limit=options.limit
    )
    write_bytes_atomic(options.output, archive(outputs))
    say(f"wrote {options.output}", quiet=options.quiet)


def tell(result: dict[str, Any], options: argparse.Namespace) -> None:
    """Print what was measured."""
    if options.json:
        print_json(result)
    else:
        show_evaluation(result, options.model)


def parse_timesteps(text: str) -> list[int]:
    """``1,2,4`` to a list.

    Raises:
        UsageError: not whole numbers from 1.
    """
    try:
        steps = [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--timesteps must look like 1,2,4,8, got {text!r}") from None
    if min(steps) < 1:
        raise UsageError(f"--timesteps must be at least 1, got {text!r}")
    return steps


def check_drop(result: dict[str, Any], limit: float) -> int:
    """Exit code of ``--max-drop``: the loss at the last timestep against the limit.

    Raises:
        UsageError: the data has no labels.
    """
    last, ann = result["steps"][-1], result["ann"]["accuracy"]
    if last["accuracy"] is None or ann is None:
        raise UsageError("--max-drop needs labels, and a network that tells classes")
    drop = ann - last["accuracy"]
    if drop > limit:
        say(f"the network loses {drop:.2f} points at T = {last['t']}, more than {limit}")
        return BELOW_LIMIT
    return 0


def show_evaluation(result: dict[str, Any], title: str) -> None:
    """The measured table."""

    def number(value: float | None, digits: int = 2) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    def counted(value: float) -> str:
        return f"{value:.3g}" if value < 1 else f"{value:.2f}"

    ann, energy = result["ann"], result["ann"]["energy_uj"]
    rows = [
        [
            f"{step['t']}, recommended" if step["t"] == result["recommended_t"] else step["t"],
            number(step["accuracy"]),
            number(step["agreement"]),
            number(step["output_error"], 4),
            f"{step['spikes_per_image'] / 1e3:.1f}",
            counted(step["synops_per_image"] / 1e6),
            counted(step["energy_uj"]),
            f"{step['energy_uj'] / energy:.2f}" if energy else "",
        ]
        for step in result["steps"]
    ]
    skip, quantised = result["ann_skip_zeros"], result["quantised_ann"]
    rows.append(["ANN", number(ann["accuracy"]), "", "", "", "", counted(energy), "1.00"])
    rows.append(["ANN, zeros skipped", "", "", "", "", "", counted(skip["energy_uj"]),
                 f"{skip['energy_uj'] / energy:.2f}" if energy else ""])  # fmt: skip
    rows.append([f"ANN, {quantised['bits']} bits", number(quantised["accuracy"]),
                 number(quantised["agreement"]), "", "", "", "", ""])  # fmt: skip
    typical = result["typical"]
    if typical:
        sign = "≥ " if typical["lower_bound"] else ""
        rows.append([f"typical, {sign}{typical['t']}", number(typical["accuracy"]),
                     number(typical["agreement"]), "",
                     f"{typical['spikes_per_image'] / 1e3:.1f}",
                     counted(typical["synops_per_image"] / 1e6),
                     f"{sign}{counted(typical['energy_uj'])}",
                     f"{sign}{typical['energy_uj'] / energy:.2f}" if energy else ""])  # fmt: skip
    header = [
        "T",
        "accuracy %",
        "agreement %",
        "output error",
        "k spikes",
        "M SynOps",
        "µJ",
        "× ANN",
    ]
    print_table(f"{title}: {result['samples']} images", header, rows)
    early = result.get("early_exit")
    if early:
        shown = ", ".join(f"T={t} {count}" for t, count in early["distribution"].items())
        print_out(f"early exit: mean T {early['mean_t']:.2f}, accuracy "
                  f"{number(early['accuracy'])} %, agreement {early['agreement']:.2f} %, "
                  f"{abs(early['loss']):.2f} points of agreement "
                  f"{'less' if early['loss'] >= 0 else 'more'} than at T = {early['last_t']}, "
                  f"{counted(early['energy_uj'])} µJ; "
                  f"the rule is to cost {early['stated_loss']:g} points of accuracy")  # fmt: skip
        print_out(f"images by the step they left at: {shown}")
    integer = ", ".join(f"T={s['t']} {counted(s['energy_int_uj'])}" for s in result["steps"])
    whole = result["recipe"]["arithmetic"] == "int8"
    kind, supposed = ("its integer", "") if whole else ("8-bit integer", ", if that suffices")
    print_out(f"energy in {kind} arithmetic{supposed}, µJ: SNN {integer}; "
              f"quantised ANN {counted(quantised['energy_int_uj'])}")  # fmt: skip
    if result["steps"][-1]["agreement"] is None:
        print_out("the output is not [N,classes]: there is no accuracy and no agreement, "
                  "the output error stands")  # fmt: skip
    told = verdict(result)
    beside = [*energy_sentences(result, told.step), *typical_sentences(result)]
    print_out("\n".join([told.headline, *beside]))
    print_out("energy: an estimate of arithmetic only (45 nm, Horowitz 2014)")
