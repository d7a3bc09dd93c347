"""``onnx2snn report``, and the part of ``onnx2snn eval`` that writes the same page."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from onnx2snn.console import print_json, say
from onnx2snn_runtime.data.input_preprocessing import parse_all
from onnx2snn_runtime.errors import DataError
from onnx2snn_runtime.files.disk import shown
from onnx2snn_runtime.files.models import check_writable, write_text_atomic
from onnx2snn_runtime.network import Network


def run(options: argparse.Namespace) -> int:
    """Write the page of stored results."""
    from onnx2snn.report.results import read_results

    results = Path(options.results)
    if results.is_dir():
        raise DataError(f"{shown(results)} is a folder, expected what eval --json --report prints")
    output = Path(options.output) if options.output else results.with_suffix(".html")
    check_writable(output, inputs=[options.results])
    write_page(read_results(options.results), output, quiet=options.quiet)
    if options.json:
        print_json({"results": str(options.results), "output": str(output)})
    return 0


def check_report(options: argparse.Namespace, inputs: list[str]) -> None:
    """Before long work: the page can be written, and what draws it is installed.

    Raises:
        StorageError: there is no such folder, or no permission.
        UsageError: the extra ``report`` is missing.
    """
    from onnx2snn.report.drawing import import_extra, open_matplotlib

    check_writable(options.report, inputs=inputs)
    open_matplotlib()
    import_extra("jinja2")


def add_report(result: dict[str, Any], network: Network, options: argparse.Namespace) -> None:
    """Measure what the page shows beyond ``result``, add it as ``report``, write the page."""
    from onnx2snn.report.collect import IMAGES, collect

    files = {"SNN": options.model, "data": options.data}
    if options.against:
        files["ANN"] = options.against
    result["report"] = collect(
        network,
        options.data,
        timesteps=max(step["t"] for step in result["steps"]),
        image=options.report_image,
        limit=min(IMAGES, result["samples"]),
        preprocessing=parse_all(options.preprocess),
        command=shlex.join(["onnx2snn", *sys.argv[1:]]),
        files=files,
    )
    write_page(result, Path(options.report), quiet=options.quiet)


def write_page(results: dict[str, Any], output: Path, *, quiet: bool) -> None:
    """Render and write, and say so."""
    from onnx2snn.report.page import render

    files = (results.get("report") or {}).get("provenance", {}).get("files", {})
    title = str(files.get("SNN", {}).get("name") or output.stem)
    write_text_atomic(output, render(results, title))
    say(f"wrote {output}", quiet=quiet)
