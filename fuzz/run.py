"""The mutation loop: ``python -m fuzz.run --count 1000 [TARGET …]``.

Every input is decided by seed, target and index alone. Anything but our own errors is a find: the
input is kept in ``--keep`` and the loop goes on. An input that takes longer than ``--seconds`` ends
the process with a traceback. Prints one JSON document; exit code 1 if there is a find.
"""

import argparse
import faulthandler
import json
import logging
import random
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from fuzz.mutations import mutated
from fuzz.seeds import seeds
from fuzz.targets import TARGETS

MODELS = ("model", "model_file", "spiking", "convert")


def fuzz(name: str, count: int, seed: int, seconds: float, keep: Path | None) -> dict[str, Any]:
    """Feed one target with mutated inputs; returns what came of it."""
    corpus, met, finds = seeds(name), Counter[str](), {}
    slowest = 0.0
    start = time.monotonic()
    for index in range(count):
        data = mutated(random.Random(f"{seed}/{name}/{index}"), corpus, is_model=name in MODELS)
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / "current").write_bytes(data)
        faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__)
        before = time.monotonic()
        try:
            met[TARGETS[name](data) or "accepted"] += 1
        except (Exception, SystemExit) as problem:
            met["find"] += 1
            text = f"{type(problem).__name__}: {str(problem)[:200]}"
            if text not in finds:
                finds[text] = index
                if keep is not None:
                    (keep / f"{name}-{seed}-{index}").write_bytes(data)
        slowest = max(slowest, time.monotonic() - before)
    faulthandler.cancel_dump_traceback_later()
    return {
        "inputs": count,
        "met": dict(sorted(met.items())),
        "finds": finds,
        "slowest_seconds": round(slowest, 3),
        "seconds": round(time.monotonic() - start, 1),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> int:
    """Run the loop on the targets that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=list(TARGETS), metavar="TARGET")
    parser.add_argument("--count", type=int, default=200, help="inputs per target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20.0, help="limit on one input")
    parser.add_argument("--keep", type=Path, help="folder for inputs that found something")
    options = parser.parse_args()
    logging.disable()
    result = {
        name: fuzz(name, options.count, options.seed, options.seconds, options.keep)
        for name in options.targets
    }
    print(json.dumps(result, indent=1))
    return int(any(part["finds"] for part in result.values()))


if __name__ == "__main__":
    sys.exit(main())
