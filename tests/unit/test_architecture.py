"""The page ``docs/architecture.md``: its examples do their work, its modules exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
PAGE = ROOT / "docs" / "architecture.md"

CONVERTED = """
import networks, numpy as np, onnx2snn
from onnx.reference import ReferenceEvaluator

def network(op, opset=18, **attributes):
    b = networks.Builder(3)
    x = b.add("Relu", [b.conv("input", 3, 6)])
    x = b.add(op, [b.conv(x, 6, 6)], **attributes)
    return b.model(b.conv(b.add("Relu", [b.conv(x, 6, 6)]), 6, 4), [4, 8, 8], opset=opset)

def error(source, timesteps, **options):
    images = networks.images(6)
    expected = ReferenceEvaluator(source).run(None, {"input": images})[0]
    model = onnx2snn.convert(source, calibration=images, **options)
    found = model.network().run(images, timesteps=timesteps).logits
    return model, np.linalg.norm(found - expected) / np.linalg.norm(expected - expected.mean())
"""

# What each example must do once it is added: heading to code behind the example.
CHECKS = {
    "Operator": CONVERTED
    + """
from conformance.test_node_cases import test_node_cases_of_the_onnx_package
from onnx2snn.commands.ops import table
test_node_cases_of_the_onnx_package("MeanVarianceNormalization")
(row,) = [row for row in table() if row["operator"] == "MeanVarianceNormalization"]
assert row["becomes"] == "graded operator", row
model, far = error(network("MeanVarianceNormalization", axes=[2, 3]), 128)
assert [layer.role for layer in model.layers] == ["neuron", "graded", "neuron"]
assert far < 0.02, far
""",
    "Activation": CONVERTED
    + """
for recipe, timesteps, limit in (("fast", 128, 0.02), ("refine", 16, 1e-3)):
    model, far = error(network("Atan"), timesteps, recipe=recipe)
    assert [layer.role for layer in model.layers] == ["neuron"] * 3
    assert far < limit, (recipe, far)
""",
    "Law": """
from backends.test_ladder import test_the_reference_is_the_function_in_the_file
from spiking_layers import Layer
test_the_reference_is_the_function_in_the_file(Layer("Leaky", "Relu", attributes={"decay": 0.9}))
""",
    "Backend": """
import sys, pytest
from onnx2snn_runtime.backends import backend_classes
sys.exit(pytest.main([
    "-q", "-n", "0", "-p", "no:cacheprovider", "--import-mode=importlib", "-k",
    "(test_laws and evaluator and (Relu or MaxPool)) or test_networks and small and evaluator",
    str(tests / "backends"),
]))
""",
    "Threshold rule": CONVERTED
    + """
images = networks.images(32, seed=2)
source, options = networks.small_cnn(), {"calibration": images, "recipe": "paper"}
found = onnx2snn.convert(source, threshold="most", **options).layers[0].threshold
largest = onnx2snn.convert(source, threshold="max", **options).layers[0].threshold
assert np.allclose(found, np.multiply(largest, 2 / 3)), (found, largest)
""",
    "Recipe": CONVERTED
    + """
model, far = error(networks.small_cnn(), 64, recipe="gentle")
assert model.recipe.name == "gentle"
assert {layer.burst_limit for layer in model.layers} == {3, None}
assert far < 0.1, far
""",
    "Pass": CONVERTED
    + """
import onnx2snn.passes as passes
place = passes.PIPELINE.index(passes.FoldAffine)
passes.PIPELINE = (*passes.PIPELINE[:place], Doubling, *passes.PIPELINE[place:])
b = networks.Builder(3)
x = b.conv(b.add("Relu", [b.conv("input", 3, 6)]), 6, 6)
x = b.add("Relu", [b.add("Add", [x, x])])
model, far = error(b.model(b.conv(x, 6, 4), [4, 8, 8]), 128)
assert any("factor of 2" in str(note) for note in model.notes)
assert {node.op_type for node in model.ann.graph.node} == {"Conv", "Relu"}
assert far < 0.02, far
""",
}


def page():
    if not PAGE.exists():
        pytest.skip("the pages are not beside the tests")
    return PAGE.read_text()


def examples():
    """Heading to example."""
    return dict(re.findall(r"^### (.+?)\n.*?```python\n(.*?)```", page(), re.DOTALL | re.MULTILINE))


def test_every_example_is_run():
    assert list(examples()) == list(CHECKS)


@pytest.mark.parametrize("kind", CHECKS)
def test_example(kind, tmp_path):
    example = examples()[kind]
    if kind == "Backend":
        (tmp_path / "evaluator_backend.py").write_text(example)
        example = f"import onnx2snn_runtime.backends as b\nb.__path__.append({str(tmp_path)!r})\n"
    start = (
        f"import pathlib, sys\ntests = pathlib.Path({str(TESTS)!r})\nsys.path.append(str(tests))\n"
    )
    script = tmp_path / "example.py"
    script.write_text(start + example + CHECKS[kind])
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_every_module_that_is_named_exists_and_every_module_is_named():
    table = page().split("## Modules")[1].split("## Additions")[0]
    folder, named = ROOT, set()
    for name in re.findall(r"`([\w/]+(?:\.py|/))`", table):
        if "/" in name.rstrip("/"):
            folder = ROOT / Path(name).parent
        path = folder / Path(name).name
        assert path.exists(), name
        named.add(path)
    for package in (ROOT / "onnx2snn", ROOT / "runtime" / "onnx2snn_runtime"):
        present = {path for path in package.iterdir() if path.suffix == ".py"}
        present |= {path.parent for path in package.glob("*/__init__.py")}
        missing = {path.name for path in present - named} - {"__init__.py", "__main__.py"}
        assert not missing, missing
