"""``onnx2snn compare``."""

import argparse
from pathlib import Path
from typing import Any

from onnx2snn.console import print_json, print_out, print_table, progress_bar, say
from onnx2snn_runtime.cli import printable
from onnx2snn_runtime.data.input_preprocessing import parse_all
from onnx2snn_runtime.errors import UsageError
from onnx2snn_runtime.files.models import check_writable, write_text_atomic
from onnx2snn_runtime.run_command import check_backend_arguments, open_network


def run(options: argparse.Namespace) -> int:
    """Compare layer by layer; print the table or the JSON document, write the picture."""
    from onnx2snn.comparison.compare import compare

    check_backend_arguments(options)
    if options.top is not None and options.top < 1:
        raise UsageError(f"--top must be at least 1, got {options.top}")
    if options.plot:
        from onnx2snn.report.drawing import open_matplotlib

        if Path(options.plot).suffix.lower() != ".svg":
            raise UsageError(f"--plot writes an SVG: the name must end in .svg, got {options.plot}")
        check_writable(options.plot, inputs=[options.ann, options.model, options.data])
        open_matplotlib()  # better to hear that it is missing before the work than after it
    network = open_network(options)
    with progress_bar(quiet=options.quiet) as progress:
        found = compare(
            options.ann,
            network,
            options.data,
            timesteps=options.timesteps,
            limit=options.limit,
            batch_size=options.batch_size,
            preprocessing=parse_all(options.preprocess),
            progress=lambda done, total: progress("compare", done, total),
        )
    if options.plot:
        from onnx2snn.report.layer_figures import comparison_figure

        write_text_atomic(options.plot, comparison_figure(found))
        say(f"wrote {options.plot}", quiet=options.quiet)
    if options.json:
        print_json(found)
    else:
        show(found, worst_first=options.worst_first, top=options.top)
    return 0


def show(found: dict[str, Any], *, worst_first: bool, top: int | None) -> None:
    """The table, and where the network departs."""
    layers = found["layers"]
    if worst_first:
        layers = sorted(layers, key=badness, reverse=True)
    shown = layers[:top]
    header = ["layer", "operator", "error", "half way", "r", "saturated", "silent", "rate"]
    rows = [
        [
            printable(layer["name"]) + (" ◀" if layer["name"] == found["first_departing"] else ""),
            layer["op"],
            number(layer["error"], "not finite"),
            number(layer["early_error"], "not finite"),
            number(layer["correlation"]),
            percent(layer["saturated"] if layer["rate"] is not None else None),
            percent(layer["silent"]),
            "" if layer["rate"] is None else f"{layer['rate']:.3f}",
        ]
        for layer in shown
    ]
    title = f"ANN against SNN: {found['samples']} images, T = {found['timesteps']}"
    print_table(title, header, rows)
    if len(shown) < len(layers):
        print_out(f"{len(layers) - len(shown)} more layers; --json has all")
    same = "" if found["agreement"] is None else f", same class {found['agreement']:.1f} %"
    print_out(f"outputs: error {number(found['output_error'], 'not finite')}{same}")
    if len(found["output_errors"]) > 1:
        each = found["output_errors"].items()
        print_out("of each: " + printable(", ".join(f"{name} {e:.4f}" for name, e in each)))
    print_out(printable(found["cause"]) if found["cause"] else "no layer departs from the ANN")
    for note in found["notes"]:
        say(f"note: {note}")


def badness(layer: dict[str, Any]) -> float:
    """Error of a layer; what is not finite is worst."""
    return float("inf") if layer["error"] is None else float(layer["error"])


def number(value: float | None, otherwise: str = "") -> str:
    """Four digits behind the point."""
    return otherwise if value is None else f"{value:.4f}"


def percent(share: float | None) -> str:
    """A share of 1 as a percentage, empty where there is none."""
    return "" if share is None else f"{100 * share:.1f} %"
