"""Pages and registries that must not drift apart."""

import pkgutil
import re
from pathlib import Path

import pytest

import onnx2snn
from onnx2snn.calibration.calibrate import RULES
from onnx2snn.commands.ops import markdown, table
from onnx2snn.recipes import RECIPES
from onnx2snn_runtime.backends import backend_classes
from onnx2snn_runtime.format import METADATA
from onnx2snn_runtime.neurons import ACTIVATIONS, FAMILIES, Signature
from onnx2snn_runtime.ops import OPERATORS

PAGES = Path(__file__).resolve().parents[2]


def test_the_operator_page_is_fresh():
    page = PAGES / "docs" / "operators.md"
    if not page.exists():
        pytest.skip("the pages are not beside the tests")
    assert page.read_text() == markdown(table()) + "\n", (
        "run: onnx2snn ops --markdown > docs/operators.md"
    )


def test_everything_registered_has_a_docstring():
    things = [*FAMILIES.values(), *backend_classes().values(), *RULES.values()]
    things += [entry.function for entry in OPERATORS.values()]
    assert all((thing.__doc__ or "").strip() for thing in things)
    assert all(recipe.summary for recipe in RECIPES.values())


def test_every_activation_is_an_operator_or_spelled_out_in_operators():
    assert all(name in OPERATORS or entry.spell for name, entry in ACTIVATIONS.items())


def test_the_readme_names_every_recipe():
    page = PAGES / "README.md"
    if not page.exists():
        pytest.skip("the pages are not beside the tests")
    named = set(re.findall(r"^\| `(\w+)`", page.read_text(), re.MULTILINE))
    assert set(RECIPES) <= named


def test_the_page_of_the_format_names_all_that_a_file_can_hold():
    page = PAGES / "docs" / "format.md"
    if not page.exists():
        pytest.skip("the pages are not beside the tests")
    text = page.read_text()
    rows = {
        line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")
    }  # fmt: skip
    for name, family in FAMILIES.items():
        described = rows["Refine"] if name.startswith("Refine") else rows[name]
        like = rows["LIPool"] if name == "Graded" else described
        signature = Signature("Relu", 1, (0,))
        for parameter in family.parameters:
            assert f"`{parameter}`" in described, (name, parameter)
        for state in family(signature).state_names:
            assert f"`{state}`" in (described if name.startswith("Refine") else like), (name, state)
        for stored in family(signature).stored:
            assert f"`{stored}`" in rows[name], (name, stored)
    keys = {key.removesuffix("?") for key in METADATA}
    assert keys <= rows.keys()
    assert rows.keys() <= keys | FAMILIES.keys()


def test_no_module_hides_a_public_name():
    """Importing ``onnx2snn.convert`` as a module would put it in the place of the function."""
    modules = {module.name for module in pkgutil.iter_modules(onnx2snn.__path__)}
    assert not modules & set(onnx2snn.__all__)
    for name in onnx2snn.__all__:
        assert getattr(onnx2snn, name) is not None
