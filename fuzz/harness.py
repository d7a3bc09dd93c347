"""Coverage-guided fuzzing with Atheris (``pip install atheris``), libFuzzer's options behind it.

python -m fuzz.seeds corpus
python -m fuzz.harness spiking corpus/spiking -max_total_time=600 -rss_limit_mb=2048 -timeout=10
"""

import logging
import sys

import atheris

with atheris.instrument_imports(include=["onnx2snn", "onnx2snn_runtime"]):
    from fuzz.targets import TARGETS


def main() -> None:
    """Give a target to the fuzzer."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"{__doc__}\ntargets: {', '.join(TARGETS)}")
    run = TARGETS[sys.argv.pop(1)]
    logging.disable()
    atheris.Setup(sys.argv, lambda data: run(data) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
