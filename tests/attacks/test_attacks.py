"""Every attack ends in one typed error with its exit code, and leaves nothing behind."""

import faulthandler
import resource
import signal
import sys
from pathlib import Path

import networks
import pytest

import onnx2snn
from onnx2snn.cli import main

attacks = pytest.importorskip("attacks", reason="the folder attacks/ is not beside tests/")

SECONDS = 10
BYTES = 2**30
ANY = -1  # which of the model's errors it is depends on who finds it first


@pytest.fixture(scope="session")
def compiled_laws():
    """The laws are compiled at first use, once on a machine: that is no part of an attack."""
    for recipe in ("fast", "refine"):
        onnx2snn.convert(networks.small_cnn(), calibration=networks.images(4), recipe=recipe)


@pytest.fixture
def limits(compiled_laws):
    """Ten seconds of processor time, and a gigabyte more than the process holds at the start."""

    def stop(signum, frame):
        raise SystemExit("the time limit was met")

    statm = Path("/proc/self/statm")  # of Linux
    held = int(statm.read_text().split()[1]) * resource.getpagesize() if statm.exists() else peak()
    before = signal.signal(signal.SIGPROF, stop)
    highest = peak()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # a loaded machine does not count
    faulthandler.dump_traceback_later(
        12 * SECONDS, exit=True, file=sys.__stderr__
    )  # a library that does not return
    yield
    faulthandler.cancel_dump_traceback_later()
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)
    assert peak() == highest or peak() - held < BYTES


def peak():
    """Most bytes of memory that the process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def contents(folder):
    return {
        path: path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_attack_is_refused(name, tmp_path, capsys, limits):
    attack = attacks.ATTACKS[name]
    arguments = [str(argument) for argument in attack.build(tmp_path)]
    before = contents(tmp_path)
    try:
        code = main(arguments)
    except SystemExit as stopped:  # argparse
        code = stopped.code
    stdout, stderr = capsys.readouterr()
    assert "error:" in stderr, (code, stdout, stderr)
    assert code == attack.code or (attack.code == ANY and code in (2, 3, 4)), (code, stderr)
    assert attack.words in stderr
    assert "Traceback" not in stderr
    assert "internal error" not in stderr
    assert "\x1b" not in stderr
    assert contents(tmp_path) == before


def test_there_are_enough():
    assert len(attacks.ATTACKS) >= 120
