"""The page of faults names attacks and tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_every_name_exists():
    page = ROOT / "docs" / "reliability.md"
    if not page.is_file():
        pytest.skip("docs/ is not beside tests/")
    attacks = pytest.importorskip("attacks", reason="the folder attacks/ is not beside tests/")
    sources = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/*/test_*.py"))
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    names = [name for row in rows for name in re.findall(r"`([^`]+)`", row.rsplit("|", 2)[-2])]
    assert len(names) > 100
    for name in names:
        assert name in attacks.ATTACKS or f"def {name}(" in sources, name
