"""Which CNNs convert, and how exactly: 108 architectures from three exporters, random weights.

Steps, each on what those before left in --folder; a network that fails or takes too long
does not stop the run, and what is there already is not done again (--again does it again):

    python benchmarks/coverage_table.py export  --folder coverage
    python benchmarks/coverage_table.py convert --folder coverage     # quickly, nothing measured
    python benchmarks/coverage_table.py measure --folder coverage
    python benchmarks/coverage_table.py report  --folder coverage --markdown docs/coverage.md

``restore`` in front of them lays out what docs/coverage.json has of an earlier run, so that only
the rest is done; ``count`` counts anew what share of the work is done by spikes.

``export`` needs PyTorch, timm, torchvision, Keras with TensorFlow, and tf2onnx; the others need
only onnx2snn with the extra ``cpu``. An environment of its own, from the root of the repository:

    python -m venv coverage-env
    coverage-env/bin/pip install torch==2.13.0 onnxscript '.[cpu]'
    coverage-env/bin/pip install keras tensorflow-cpu tf2onnx
    coverage-env/bin/pip install --no-deps timm torchvision==0.28.0
    coverage-env/bin/pip install pyyaml huggingface_hub safetensors

``--no-deps`` keeps a torchvision for CUDA from replacing the PyTorch for CPUs.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coverage_networks
import coverage_report
import numpy as np
from coverage_networks import Network

CALIBRATION_IMAGES, TEST_IMAGES = 64, 4
REACH = 2.0  # γ·θ in units of the layer's largest activation in the rate runs
BURST = 15
RUNS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "rate": (
        {"recipe": "fast", "per_channel": False, "threshold": "max", "scale": REACH / BURST,
         "burst": BURST, "v0": 0.5},
        (4, 16, 64, 256),
    ),
    "refine": ({"recipe": "refine"}, (4, 8, 12, 16)),
    "fast": ({"recipe": "fast"}, (2, 4, 8, 16)),
}  # fmt: skip
SECOND_EXPORTER = {"rate": (64,)}  # of the same network: whether it comes to the same
NOISE = 1e-4  # relative change of the input for the sensitivity
FEW_IMAGES = 8  # where nothing is measured
CHECK_IMAGES = 2  # of the check that ends a conversion; here more is measured afterwards


def measure(network: Network, file: Path, *, is_first: bool) -> dict[str, Any]:
    """Convert one file and compare its answers with onnxruntime's on the file."""
    import onnxruntime

    import onnx2snn
    from onnx2snn.verification import verify

    verify.IMAGES = CHECK_IMAGES

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(file), options)
    calibration, images = network.images(CALIBRATION_IMAGES, 1), network.images(TEST_IMAGES, 2)
    names = [output.name for output in session.get_outputs()]
    feeds = {session.get_inputs()[0].name: images}
    expected = dict(zip(names, session.run(names, feeds), strict=True))
    nearby = images + NOISE * np.random.default_rng(3).standard_normal(images.shape) * images.std()
    feeds = {name: nearby.astype(np.float32) for name in feeds}
    moved = dict(zip(names, session.run(names, feeds), strict=True))
    del session
    result: dict[str, Any] = {"sensitivity": worst_error(moved, expected, centre=False)}
    result |= {"errors": {}, "centred": {}, "verified": {}, "seconds": {}}
    source: Any = file
    for run, (settings, timesteps) in RUNS.items():
        if not is_first:
            if run not in SECOND_EXPORTER:
                continue
            timesteps = SECOND_EXPORTER[run]  # noqa: PLW2901
        started = time.perf_counter()
        spiking = onnx2snn.convert(source, calibration=calibration, **settings)
        result["seconds"][run] = round(time.perf_counter() - started, 1)
        result["verified"][run] = spiking.check.text
        if source is file:
            result |= describe(spiking)
            source = spiking.ann
        found = spiking.network().run(images, timesteps=list(timesteps)).by_step
        for kind, centre in (("errors", False), ("centred", True)):
            result[kind][run] = {
                str(t): worst_error(found[t], expected, centre=centre) for t in timesteps
            }
    return result


def describe(spiking: Any) -> dict[str, Any]:
    """Layers by role, and the shares of work."""
    roles: dict[str, list[str]] = {}
    for layer in spiking.layers:
        roles.setdefault(layer.role, []).append(layer.op)
    return {
        "layers": {
            role: {op: ops.count(op) for op in sorted(set(ops))} for role, ops in roles.items()
        },
        "spiking_layers": len(roles.get("neuron", [])),
        "work": spiking.work.as_dict(),
        "notes": [str(note) for note in spiking.notes],
    }


def worst_error(found: Any, expected: dict[str, Any], *, centre: bool) -> float:
    """Largest relative L2 error of the outputs.

    ``centre``: relative to the deviation of the outputs over the images, not to their norm.
    """
    errors = [0.0]
    for name, array in expected.items():
        if array.dtype.kind != "f":
            continue
        reference = array.astype(np.float64)
        distance = np.linalg.norm(found[name] - reference)
        norm = np.linalg.norm(reference - reference.mean(axis=0) if centre else reference)
        errors.append(float(distance / max(norm, 1e-12)))
    return max(errors) if np.all(np.isfinite(errors)) else float("inf")


def in_child(task: Callable[[], dict[str, Any]], limit: float) -> dict[str, Any]:
    """Run a task in a process of its own; what it raises, or that it died, is the result."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def call() -> None:
        started = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = {"status": "ok", **task()}
        except Exception as error:
            refused = type(error).__name__ in ("UnsupportedError", "UsageError")
            result = {
                "status": "refused" if refused else "error",
                "reason": f"{type(error).__name__}: {error}",
                "traceback": traceback.format_exc()[-3000:],
            }
        result["wall_s"] = round(time.perf_counter() - started, 1)
        result["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        sender.send(result)

    process = context.Process(target=call)
    process.start()
    sender.close()
    try:
        if not receiver.poll(limit):
            process.kill()
            return {"status": "error", "reason": f"not done after {limit:.0f} s"}
        return receiver.recv()
    except EOFError:
        process.join()
        return {"status": "error", "reason": f"the process died with code {process.exitcode}"}
    finally:
        process.join()


def export_all(options: argparse.Namespace, chosen: list[Network]) -> None:
    """Write the ONNX files that are not there yet."""
    missing = coverage_networks.import_libraries({network.library for network in chosen})
    for library, reason in missing.items():
        print(f"no {library} networks: {reason}; see the top of this file for what to install")
    options.folder.mkdir(parents=True, exist_ok=True)
    for network in chosen:
        if network.library in missing:
            continue
        todo = [
            exporter
            for exporter in network.exporters
            if options.again or is_wanted(options.folder, network, exporter)
        ]
        if not todo:
            continue

        def task(network: Network = network, todo: list[str] = todo) -> dict[str, Any]:
            if network.library != "keras":
                import torch

                torch.set_num_threads(1)
            built: dict[str, Any] = {}
            outcomes = {}
            for exporter in todo:
                file = options.folder / f"{network.name}.{exporter}.onnx"
                try:
                    runs = coverage_networks.export(network, exporter, file, built)
                    outcomes[exporter] = {
                        "status": "ok", "bytes": file.stat().st_size, "runs elsewhere": runs
                    }  # fmt: skip
                except Exception as error:
                    reason = str(error).strip().splitlines() or [""]
                    text = f"{type(error).__name__}: {reason[0][:300]}"
                    outcomes[exporter] = {"status": "export failed", "reason": text}
            return {"outcomes": outcomes}

        result = in_child(task, options.limit * len(todo))
        for exporter in todo:
            outcome = result.get("outcomes", {}).get(
                exporter, {"status": "export failed", "reason": result.get("reason", "")}
            )
            path = record_path(options.folder, network, exporter, "export")
            path.write_text(json.dumps(outcome, indent=1))
            print(f"{network.name} {exporter}: {outcome['status']} {outcome.get('reason', '')} "
                  f"({result.get('wall_s')} s)", flush=True)  # fmt: skip


def is_wanted(folder: Path, network: Network, exporter: str) -> bool:
    """Whether an export has not been tried, or its file is gone and not measured yet."""
    export, result = (record_path(folder, network, exporter, kind) for kind in ("export", "result"))
    if not export.exists():
        return True
    is_gone = not is_exported(folder, network, exporter)
    return was_exported(folder, network, exporter) and is_gone and not result.exists()


def was_exported(folder: Path, network: Network, exporter: str) -> bool:
    """Whether there is or has been a file."""
    record = record_path(folder, network, exporter, "export")
    return record.exists() and json.loads(record.read_text())["status"] == "ok"


def is_exported(folder: Path, network: Network, exporter: str) -> bool:
    """Whether there is a file to convert."""
    file = folder / f"{network.name}.{exporter}.onnx"
    return was_exported(folder, network, exporter) and file.exists()


def has_oracle(folder: Path, network: Network, exporter: str) -> bool:
    """Whether there is a file that onnxruntime can run, to compare with."""
    if not is_exported(folder, network, exporter):
        return False
    record = record_path(folder, network, exporter, "export")
    return bool(json.loads(record.read_text()).get("runs elsewhere", True))


def convert_all(options: argparse.Namespace, chosen: list[Network]) -> None:
    """Only convert the files that are not measured yet: whether it works."""
    import onnx2snn
    from onnx2snn.verification import verify

    verify.IMAGES = CHECK_IMAGES
    for network in chosen:
        for exporter in network.exporters:
            file = options.folder / f"{network.name}.{exporter}.onnx"
            path = record_path(options.folder, network, exporter, "conversion")
            kept = [path, record_path(options.folder, network, exporter, "result")]
            if not is_exported(options.folder, network, exporter) or (
                any(record.exists() for record in kept) and not options.again
            ):
                continue

            def task(network: Network = network, file: Path = file) -> dict[str, Any]:
                images = network.images(FEW_IMAGES, 1)
                spiking = onnx2snn.convert(file, calibration=images, recipe="refine")
                return {"verified": {"refine": spiking.check.text}}

            result = in_child(task, options.limit)
            path.write_text(json.dumps(result, indent=1))
            reason = str(result.get("reason", "")).splitlines() or [""]
            print(f"{network.name} {exporter}: {result['status']} {reason[0]} "
                  f"({result.get('wall_s')} s)", flush=True)  # fmt: skip


def measure_all(options: argparse.Namespace, chosen: list[Network]) -> None:
    """Convert and measure the files that are there."""
    folder = str(Path(__file__).resolve().parent)
    sys.path[:] = [entry for entry in sys.path if entry != folder]  # numba looks for a "coverage"
    import onnxruntime  # noqa: F401  imported once, before the processes are forked

    import onnx2snn

    assert callable(onnx2snn.convert)  # imports the converter

    for network in chosen:
        results: dict[str, Any] = {}
        for exporter in network.exporters:
            file = options.folder / f"{network.name}.{exporter}.onnx"
            path = record_path(options.folder, network, exporter, "result")
            if path.exists() and not options.again:
                results.update(json.loads(path.read_text()))
                continue
            if not has_oracle(options.folder, network, exporter):
                continue
            first = exporter == network.exporters[0] or "errors" not in results
            result = in_child(
                lambda n=network, f=file, i=first: measure(n, f, is_first=i), options.limit
            )
            results.update(result)
            path.write_text(json.dumps(result, indent=1))
            rate = result.get("errors", {}).get("rate", {})
            reason = str(result.get("reason", "")).splitlines() or [""]
            print(f"{network.name} {exporter}: {result['status']} {reason[0]} "
                  f"{ {t: round(e, 4) for t, e in rate.items()} } ({result.get('wall_s')} s)",
                  flush=True)  # fmt: skip


def count_all(options: argparse.Namespace, chosen: list[Network]) -> None:
    """Count the work of measured networks anew: what it is called may have changed."""
    from onnx2snn.passes import normalise, to_proto
    from onnx2snn.rewriting.classify import classify
    from onnx2snn.rewriting.work import measure_work
    from onnx2snn_runtime.backends import open_backend
    from onnx2snn_runtime.files.models import load_model

    run = open_backend("auto")[0].compile
    for network in chosen:
        for exporter in network.exporters:
            path = record_path(options.folder, network, exporter, "result")
            known = json.loads(path.read_text()) if path.exists() else {}
            if "work" not in known or not is_exported(options.folder, network, exporter):
                continue

            def task(file: Path = options.folder / f"{network.name}.{exporter}.onnx") -> Any:
                ann = to_proto(normalise(load_model(file), run=run)[0])
                return {"work": measure_work(ann, classify(ann)).as_dict()}

            result = in_child(task, options.limit)
            if result["status"] == "ok":
                path.write_text(json.dumps({**known, "work": result["work"]}, indent=1))
            print(f"{network.name} {exporter}: {result['status']} {result.get('reason', '')}",
                  flush=True)  # fmt: skip


def restore(options: argparse.Namespace, chosen: list[Network]) -> None:
    """Lay out what a report has of all steps; the files are exported anew where they are needed."""
    options.folder.mkdir(parents=True, exist_ok=True)
    known = {(row["name"], row["exporter"]): row for row in json.loads(options.output.read_text())}
    for network in chosen:
        for exporter in network.exporters:
            row = known.get((network.name, exporter), {})
            for kind in ("export", "conversion", "result"):
                if row.get(kind):
                    path = record_path(options.folder, network, exporter, kind)
                    path.write_text(json.dumps(row[kind], indent=1))


def record_path(folder: Path, network: Network, exporter: str, kind: str) -> Path:
    """Where a step keeps what it found."""
    return folder / f"{network.name}.{exporter}.{kind}.json"


def report(options: argparse.Namespace, chosen: list[Network]) -> None:
    """Write what all steps have kept."""
    coverage_report.write(options, chosen, record_path)


STEPS = {
    "restore": restore,
    "export": export_all,
    "convert": convert_all,
    "measure": measure_all,
    "count": count_all,
    "report": report,
}


def main() -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=list(STEPS))
    parser.add_argument("--folder", type=Path, default=Path("coverage"), help="files and results")
    parser.add_argument("--only", default="", help="names, separated by commas")
    parser.add_argument("--group", default="", help="survey, keras or timm")
    parser.add_argument("--again", action="store_true", help="also what is done already")
    parser.add_argument("--limit", type=float, default=600, help="seconds for one file")
    parser.add_argument("--output", type=Path, default=Path("docs/coverage.json"),
                        help="JSON of report, and of restore")  # fmt: skip
    parser.add_argument("--markdown", type=Path, help="report: page to write")
    options = parser.parse_args()
    names = set(filter(None, options.only.split(",")))
    chosen = [
        network
        for network in coverage_networks.networks()
        if (not names or network.name in names) and options.group in ("", network.group)
    ]
    STEPS[options.step](options, chosen)


if __name__ == "__main__":
    main()
