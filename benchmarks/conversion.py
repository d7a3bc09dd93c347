"""How long conversions take, and how much memory: each by the command line, in its own process.

Prints a Markdown table with wall time, processor time and peak memory.

    python benchmarks/conversion.py --shared ../shared
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from cases import CIFAR_JPEGS, EMBEDDED, SQUEEZENET, Case, present

MEBIBYTE = 2**20
KIBIBYTE = 2**10  # unit of ru_maxrss on Linux
CASES = {  # and how many calibration images
    Case("embedded CNN", *EMBEDDED, "unit"): 256,
    Case("ResNet-20", "models/cifar10_resnet20_legacy.onnx", *CIFAR_JPEGS, "imagenet"): 512,
    Case("SqueezeNet 1.1", *SQUEEZENET): 200,
}
OPTIONS = (("--recipe", "fast"), ("--recipe", "refine"), ("--target-drop", "0.1"))


def run(command: list[str]) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and peak MiB of a command, whose answer nobody reads.

    Raises:
        RuntimeError: it fails.
    """
    started = time.perf_counter()
    nowhere = (os.POSIX_SPAWN_OPEN, sys.stdout.fileno(), os.devnull, os.O_WRONLY, 0)
    process = os.posix_spawn(command[0], command, os.environ, file_actions=[nowhere])
    _, status, usage = os.wait4(process, 0)
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{' '.join(command)} failed")
    seconds = time.perf_counter() - started
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * KIBIBYTE / MEBIBYTE


def main() -> None:
    """Convert every network with every option."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--only", default="", help="part of a network's name")
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores\n")
    print("| network | calibration images | options | seconds | CPU seconds | peak MiB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for case in present(CASES, options.shared, options.only):
        model, calibration, _ = case.files(options.shared)
        samples = CASES[case]
        for extra in OPTIONS:
            with tempfile.TemporaryDirectory() as folder:
                seconds, processor, peak = run([
                    sys.executable, "-m", "onnx2snn", "convert", str(model), "-q",
                    "--calibration", str(calibration), "--calibration-samples", str(samples),
                    "--preprocess", case.preprocess, "-o", f"{folder}/out.snn.onnx", *extra,
                ])  # fmt: skip
            print(f"| {case.name} | {samples} | `{' '.join(extra)}` | {seconds:.1f} "
                  f"| {processor:.1f} | {peak:.0f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
