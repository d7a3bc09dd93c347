"""The pages: they build without a warning, and their code does what they say."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import networks
import numpy as np
import pytest

import onnx2snn

ROOT = Path(__file__).resolve().parents[2]
needs_pages = pytest.mark.skipif(
    not (ROOT / "mkdocs.yml").exists(), reason="the pages are not beside the tests"
)


def code_of(page):
    """The Python blocks of a page, as one program."""
    return "\n".join(
        re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    )


@needs_pages
@pytest.mark.slow
@pytest.mark.parametrize("name, modules", [("pytorch", ["torch", "onnxscript"]),
                                           ("keras", ["keras", "tf2onnx"])])  # fmt: skip
def test_tutorials_run(name, modules, tmp_path):
    for module in modules:
        found = subprocess.run(
            [sys.executable, "-c", f"import {module}"], capture_output=True, check=False
        )
        if found.returncode:
            pytest.skip(f"needs {module}")
    program = tmp_path / "tutorial.py"
    program.write_text(code_of(ROOT / "docs" / "tutorials" / f"{name}.md"))
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, cwd=tmp_path, timeout=600,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@needs_pages
@pytest.mark.slow
def test_the_site_builds_strictly(tmp_path):
    mkdocs = os.environ.get("MKDOCS") or shutil.which("mkdocs")
    if not mkdocs:
        pytest.skip("needs mkdocs: pip install 'onnx2snn[docs]'")
    done = subprocess.run(
        [mkdocs, "build", "--strict", "--site-dir", tmp_path / "site"],
        capture_output=True, text=True, cwd=ROOT, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "site" / "reference" / "index.html").exists()


def loop_of_the_readme():
    """Its only block that imports onnxruntime."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.S | re.M)
    (loop,) = (block for block in blocks if "import numpy, onnxruntime" in block)
    return loop.replace("range(8)", "range(4)") + "logits = results[outputs[0]]"


@needs_pages
@pytest.mark.parametrize("page", ["README.md", "docs/howto/deploy.md"])
@pytest.mark.parametrize("precision", ["float", "int8"])
def test_the_loop_over_timesteps(tmp_path, page, precision):
    pytest.importorskip("onnxruntime", reason="the pages are about onnxruntime")
    snn = onnx2snn.convert(
        networks.small_cnn(), calibration=networks.images(32), precision=precision
    )
    snn.save(tmp_path / "model.snn.onnx")
    images = networks.images(5, seed=9)
    code = loop_of_the_readme() if page == "README.md" else code_of(ROOT / page)
    code = code.replace('"model.snn.onnx"', repr(str(tmp_path / "model.snn.onnx")))
    names = {"images": images}
    exec(compile(code, page, "exec"), names)
    expected = snn.network().run(images, 4).logits
    np.testing.assert_allclose(names["logits"], expected, rtol=0, atol=0.02)
