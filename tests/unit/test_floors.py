"""The lowest versions that the packaging allows are those without known holes.

Source: the advisories of the projects; what each floor keeps out stands beside it.
"""

import itertools
import re
import tomllib
from pathlib import Path

import pytest

FLOORS = {
    # 1.21: links out of the folder, hard links, setattr through external data (CVE-2026-27489,
    # 34445, 34446, 34447), hub module; 1.22: circles of functions; 1.23: overflows in raw data
    "onnx": (1, 23),
    "numpy": (1, 16, 3),  # pickles by default, CVE-2019-6446
    "pillow": (10, 3),  # overflow in _imagingcms, CVE-2024-28219
    "jinja2": (3, 1, 6),  # escapes from the sandbox, CVE-2025-27516
    "protobuf": (6, 33, 5),  # recursion, CVE-2025-4565 and CVE-2026-0994
}


def declared():
    path = Path(__file__).resolve().parents[2] / "pyproject.toml"
    if not path.is_file():
        pytest.skip("pyproject.toml is not beside tests/")
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    extras = itertools.chain.from_iterable(project["optional-dependencies"].values())
    lines = [*project["dependencies"], *extras]
    return dict(re.match(r"([\w-]+)(?:\[.*?\])?>=([\d.]+)", line).groups() for line in lines)


@pytest.mark.parametrize("name", FLOORS)
def test_floor(name):
    found = declared()
    assert name in found
    version = tuple(int(part) for part in found[name].split("."))
    assert version >= FLOORS[name], found[name]
