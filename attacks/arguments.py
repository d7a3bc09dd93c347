"""Options out of range, and places where nothing can be written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attacks.base import good_data, good_model, good_spiking, put
from attacks.registry import Build, attack, table


def convert(folder: Path, options: Sequence[Any]) -> Sequence[Any]:
    """Convert with these options."""
    return ["convert", good_model(folder), "-o", folder / "out.snn.onnx", *options]


def run(folder: Path, options: Sequence[Any]) -> Sequence[Any]:
    """Run with these options."""
    return ["run", good_spiking(folder), good_data(folder), *options]


def evaluate(folder: Path, options: Sequence[Any]) -> Sequence[Any]:
    """Evaluate with these options."""
    return ["eval", good_spiking(folder), good_data(folder), *options]


CONVERT: dict[str, tuple[Sequence[Any], str]] = {
    "burst 0": (["--burst", "0"], "--burst"),
    "burst 10^9": (["--burst", "1000000000"], "--burst"),
    "percentile 0": (["--percentile", "0"], "--percentile"),
    "percentile 101": (["--percentile", "101"], "--percentile"),
    "percentile NaN": (["--percentile", "nan"], "--percentile"),
    "v0 NaN": (["--v0", "nan"], "--v0"),
    "v0 1": (["--v0", "1"], "--v0"),
    "scale 0": (["--scale", "0"], "--scale"),
    "scale infinite": (["--scale", "inf"], "--scale"),
    "unknown recipe": (["--recipe", "slow"], "refine"),
    "unknown backend": (["--backend", "abacus"], "numpy"),
    "no calibration images": (["--calibration-samples", "0"], "--calibration-samples"),
    "input shape": (["--input-shape", "x:1,-3"], "--input-shape"),
    "input shape of 10^4000": (["--input-shape", "x:1," + "9" * 4000], "--input-shape"),
    "preprocess": (["--preprocess", "mean=a"], "--preprocess"),
    "preprocess std 0": (["--preprocess", "std=0"], "std"),
    "model limit 0": (["--max-model-bytes", "0"], "--max-model-bytes"),
    "data limit nonsense": (["--max-data-bytes", "many"], "--max-data-bytes"),
}
table("convert", 2, CONVERT, convert)

RUN: dict[str, tuple[Sequence[Any], str]] = {
    "T 0": (["-T", "0"], "at least 1"),
    "T negative": (["-T", "-5"], "at least 1"),
    "T 10^9": (["-T", "1000000000"], "1..1000000"),
    "T 1.5": (["-T", "1.5"], "invalid int"),
    "batch size 0": (["--batch-size", "0"], "at least 1"),
    "memory negative": (["--memory", "-1"], "at least 1"),
    "threads 0": (["--threads", "0"], "--threads"),
}
table("run", 2, RUN, run)

EVALUATE: dict[str, tuple[Sequence[Any], str]] = {
    "timesteps text": (["--timesteps", "1,x"], "--timesteps"),
    "timesteps 0": (["--timesteps", "0,1"], "at least 1"),
    "timesteps 10^9": (["--timesteps", "1000000000"], "1..1000000"),
    "timesteps empty": (["--timesteps", ""], "--timesteps"),
    "limit 0": (["--limit", "0"], "--limit"),
    "limit negative": (["--limit", "-1"], "--limit"),
    "workers 0": (["--workers", "0"], "--workers"),
    "no address of a cluster": (["--ray", "nowhere"], "--ray"),
}
table("eval", 2, EVALUATE, evaluate)


def _to(folder: Path, *names: str) -> Sequence[Any]:
    return ["convert", good_model(folder), "-o", folder.joinpath(*names)]


def _over_data(folder: Path) -> Sequence[Any]:
    data = good_data(folder)
    return ["convert", good_model(folder), "--calibration", data, "-o", data]


def _onto_folder(folder: Path) -> Sequence[Any]:
    (folder / "taken").mkdir(exist_ok=True)
    return _to(folder, "taken")


def _below_file(folder: Path) -> Sequence[Any]:
    put(folder / "file", b"content")
    return _to(folder, "file", "out.snn.onnx")


def _linked_input(folder: Path) -> Sequence[Any]:
    link = folder / "link.onnx"
    if not link.exists():
        link.symlink_to(good_model(folder))
    return ["convert", good_model(folder), "-o", link]


attack("output: over the model", 2, "same file", lambda f: _to(f, "good.onnx"))
attack("output: over the model by a link", 2, "same file", _linked_input)
attack("output: over the data", 2, "same file", _over_data)
attack("output: onto a folder", 5, "it is a folder", _onto_folder)
attack("output: below a file", 5, "", _below_file)
attack("output: folder missing", 5, "mkdir -p", lambda f: _to(f, "none", "out.snn.onnx"))
attack(
    "output: onto a device", 5, "a device", lambda f: ["convert", good_model(f), "-o", "/dev/null"]
)
attack("output: a name of 5,000 letters", 5, "", lambda f: _to(f, "a" * 5000))
attack("output: /proc", 5, "", lambda f: ["convert", good_model(f), "-o", "/proc/none.onnx"])
OLD = b"an old file"
NO_MODEL = b"no model: what is there is refused before anything is read"


def _kept(command: str, option: str, *others: str) -> Build:
    """Name a file that exists as the output, with ``--no-clobber``."""

    def build(folder: Path) -> Sequence[Any]:
        inputs = [put(folder / name, NO_MODEL) for name in ("model.onnx", *others)]
        return [command, *inputs, option, put(folder / "old.svg", OLD), "--no-clobber"]

    return build


KEPT = {
    "convert": _kept("convert", "-o"),
    "run": _kept("run", "-o", "data.npz"),
    "eval": _kept("eval", "--report", "data.npz"),
    "compare": _kept("compare", "--plot", "model.snn.onnx", "data.npz"),
    "report": _kept("report", "-o"),
    "export to NIR": _kept("export", "--nir"),
}
for _name, _build in KEPT.items():
    attack(f"output: exists, {_name}", 5, "--no-clobber", _build)
attack("run output: folder missing", 5, "", lambda f: run(f, ["-o", f / "none" / "out.npz"]))
attack("run output: over the model", 2, "same file", lambda f: run(f, ["-o", f / "good.snn.onnx"]))
attack("spiking model given to convert", 3, "already", lambda f: ["convert", good_spiking(f)])
attack(
    "ANN given to run", 3, "not a spiking network", lambda f: ["run", good_model(f), good_data(f)]
)
attack("ANN given to eval", 3, "not a spiking", lambda f: ["eval", good_model(f), good_data(f)])
attack("no such command", 3, "did you mean convert", lambda f: ["cnvert"])
