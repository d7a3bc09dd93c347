"""Write hostile files: ``python -m attacks FOLDER [NAME …]``."""

import sys
from pathlib import Path

from attacks import ATTACKS


def main() -> int:
    """Build every attack in a folder of its own and print the command that must fail."""
    if len(sys.argv) < 2:
        print(f"{__doc__}\n" + "\n".join(ATTACKS))
        return 2
    for name in sys.argv[2:] or ATTACKS:
        attack = ATTACKS[name]
        folder = Path(sys.argv[1]) / name.replace(" ", "_")
        folder.mkdir(parents=True, exist_ok=True)
        arguments = " ".join(map(str, attack.build(folder)))
        print(f"exit {attack.code}: onnx2snn {arguments}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
