"""One full conversion and run on the base dependencies alone.

Not collected by pytest: run it with the Python of an environment that holds the wheel and no
extra, from a folder that is not the checkout (see ``.ci/run``).
"""

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from onnx2snn.embedded import (
    EMBEDDED_CALIBRATION,
    EMBEDDED_MODEL,
    EMBEDDED_TEST,
    embedded_file,
)

EXTRAS = ("onnxruntime", "numba", "cupy", "matplotlib", "jinja2", "torch")
IMAGES = 32
CALIBRATION_IMAGES = 32
TIMESTEPS = 4
LEAST_CORRECT = 26


def run(*command: str | Path) -> None:
    """Run a command of the environment this Python belongs to; end the script where it fails."""
    program, *arguments = map(str, command)
    print("$", program, *arguments, flush=True)
    path = Path(sys.executable).parent / program
    completed = subprocess.run([str(path), *arguments], check=False)
    if completed.returncode:
        raise SystemExit(f"{program} ended with exit code {completed.returncode}")


def logits_in(path: Path) -> np.ndarray:
    """The only array [IMAGES, classes] of floats that the run wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        print(f"{path.name}: " + ", ".join(f"{k} {arrays[k].shape}" for k in arrays.files))
        found = [
            arrays[name]
            for name in arrays.files
            if arrays[name].shape == (IMAGES, 10) and arrays[name].dtype.kind == "f"
        ]
    if not found:
        raise SystemExit(f"{path.name} holds no float array of shape ({IMAGES}, 10)")
    return found[0]


def main() -> None:
    """Convert the embedded model, run it on a few test images, check the answers."""
    present = [name for name in EXTRAS if importlib.util.find_spec(name) is not None]
    if present:
        raise SystemExit(f"not a base installation: {', '.join(present)} can be imported")
    with np.load(embedded_file(EMBEDDED_TEST), allow_pickle=False) as test:
        images, labels = test["images"][:IMAGES], test["labels"][:IMAGES]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spiking, inputs, answers = (
            folder / file for file in ("fashion.snn.onnx", "images.npz", "answers.npz")
        )
        np.savez(inputs, images=images, labels=labels)
        run(
            "onnx2snn",
            "convert",
            embedded_file(EMBEDDED_MODEL),
            "-o",
            spiking,
            "--calibration",
            embedded_file(EMBEDDED_CALIBRATION),
            "--calibration-samples",
            str(CALIBRATION_IMAGES),
            "--preprocess",
            "unit",
        )
        run("onnx2snn-run", spiking, inputs, "--timesteps", str(TIMESTEPS), "-o", answers)
        logits = logits_in(answers)
    if not np.isfinite(logits).all():
        raise SystemExit("the answers are not finite")
    correct = int((logits.argmax(1) == labels).sum())
    print(f"{correct} of {IMAGES} images right after {TIMESTEPS} timesteps")
    if correct < LEAST_CORRECT:
        raise SystemExit(f"expected at least {LEAST_CORRECT}")


if __name__ == "__main__":
    main()
