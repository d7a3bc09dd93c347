"""The public names of the package are what they say, in whatever order they are imported."""

import itertools
import subprocess
import sys

import pytest

FUNCTIONS = ("compare", "convert", "evaluate")


@pytest.mark.parametrize("order", list(itertools.permutations(FUNCTIONS))[:3])
def test_submodules_do_not_hide_functions(order):
    code = "".join(f"import onnx2snn.{name}\n" for name in order)
    code += "".join(f"assert callable(onnx2snn.{name})\n" for name in FUNCTIONS)
    code += f"from onnx2snn import {', '.join(order)}\nassert callable({order[0]})\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
