"""``onnx2snn demo``: the embedded network, converted and measured."""

import argparse
import tempfile
from pathlib import Path

from onnx2snn.commands.eval import show_evaluation
from onnx2snn.console import print_json, progress_bar, say
from onnx2snn.embedded import (
    EMBEDDED_CALIBRATION,
    EMBEDDED_MODEL,
    EMBEDDED_TEST,
    embedded_file,
)


def run(options: argparse.Namespace) -> int:
    """Convert the embedded network with two recipes and print the accuracy tables."""
    from onnx2snn import convert, evaluate

    model, test = embedded_file(EMBEDDED_MODEL), embedded_file(EMBEDDED_TEST)
    results = {}
    for recipe in ("fast", "refine"):
        with progress_bar(quiet=options.quiet) as progress:
            spiking = convert(
                model,
                calibration=embedded_file(EMBEDDED_CALIBRATION),
                recipe=recipe,
                preprocess="unit",
                progress=progress,
            )
        with tempfile.TemporaryDirectory() as folder, progress_bar(quiet=options.quiet) as progress:
            path = Path(folder) / "demo.snn.onnx"
            spiking.save(path)
            results[recipe] = evaluate(
                path,
                test,
                timesteps=(1, 2, 4, 8),
                against=model,
                progress=lambda done, total: progress("evaluate", done, total),
            )
        if not options.json:
            show_evaluation(results[recipe], f"Fashion-MNIST CNN, recipe {recipe}")
    if options.json:
        print_json(results)
    say("next: onnx2snn YOUR_MODEL.onnx --calibration YOUR_IMAGES.npz", quiet=options.quiet)
    return 0
