"""``onnx2snn export``: a spiking network in the form that another program wants."""

import argparse
from pathlib import Path

from onnx2snn.console import print_json, say
from onnx2snn_runtime.cli import printable
from onnx2snn_runtime.files.models import check_writable, load_model, save_model, write_bytes_atomic


def run(options: argparse.Namespace) -> int:
    """Write the network as one ONNX Loop or as a NIR graph."""
    source = Path(options.model)
    output = Path(options.nir or options.output or loop_name(source))
    check_writable(output, inputs=[source])
    model = load_model(source)
    losses: list[str] = []
    if options.nir:
        from onnx2snn.export.nir import nir_bytes, to_nir

        graph, losses = to_nir(model, lossy=options.lossy)
        for loss in losses:
            say(f"note: {printable(loss)}")
        write_bytes_atomic(output, nir_bytes(graph))
    else:
        from onnx2snn.export.unroll import unroll_loop

        save_model(unroll_loop(model), output)
    if options.json:
        form = "nir" if options.nir else options.unroll
        print_json({"form": form, "output": str(output), "losses": losses})
    say(f"wrote {output}", quiet=options.quiet)
    return 0


def loop_name(source: Path) -> Path:
    """``MODEL.loop.onnx`` beside ``MODEL.snn.onnx``."""
    stem = source.name.removesuffix(".onnx").removesuffix(".snn")
    return source.with_name(f"{stem}.loop.onnx")
