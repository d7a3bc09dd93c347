"""The command line, in a process of its own or in this one."""

import contextlib
import io
import os
import subprocess
import sys

from onnx2snn.cli import main


def call(*arguments, module="onnx2snn", cwd=None, timeout=120):
    """Run a command; returns the finished process."""
    environment = {**os.environ, "NO_COLOR": "1", "PYTHONWARNINGS": ""}
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, timeout=timeout, env=environment, check=False,
    )  # fmt: skip


def call_here(*arguments):
    """The same in this process, where a start costs nothing."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(list(map(str, arguments)))
        except SystemExit as end:  # argparse
            code = end.code
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())
