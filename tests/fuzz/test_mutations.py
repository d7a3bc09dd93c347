"""From damaged inputs only our own errors escape: a smoke run of the mutation loop."""

import pytest

targets = pytest.importorskip("fuzz.targets", reason="the folder fuzz/ is not beside tests/")
from fuzz.run import fuzz  # noqa: E402

COUNTS = {"convert": 40, "journal": 60}


@pytest.mark.parametrize("name", targets.TARGETS)
def test_only_our_errors_escape(name):
    result = fuzz(name, COUNTS.get(name, 250), seed=0, seconds=30.0, keep=None)
    assert not result["finds"]
    assert sum(result["met"].values()) == result["inputs"]
    assert len(result["met"]) > 1 or name == "journal"  # neither all refused nor all accepted
