"""``onnx2snn export``: a spiking network in the form that another program wants."""

import argparse
from pathlib import Path

from onnx2snn.console import say
from onnx2snn_runtime.files import check_writable, load_model, save_model


def run(options: argparse.Namespace) -> int:
    """Write the network as one ONNX Loop."""
    from onnx2snn.unroll import unroll_loop

    source = Path(options.model)
    stem = source.name.removesuffix(".onnx").removesuffix(".snn")
    output = Path(options.output) if options.output else source.with_name(f"{stem}.loop.onnx")
    check_writable(output, inputs=[source])
    save_model(unroll_loop(load_model(source)), output)
    say(f"wrote {output}", quiet=options.quiet)
    return 0
