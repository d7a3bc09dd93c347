"""Pages and registries that must not drift apart."""

import re
from pathlib import Path

import pytest

from onnx2snn.calibrate import RULES
from onnx2snn.commands.ops import markdown, table
from onnx2snn.recipes import RECIPES
from onnx2snn_runtime.backends import backend_classes
from onnx2snn_runtime.model_checks import NEWEST_OPSET
from onnx2snn_runtime.neurons import ACTIVATIONS, FAMILIES
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


def test_every_activation_is_an_operator():
    standard = {name for name, entry in ACTIVATIONS.items() if entry.is_standard(NEWEST_OPSET)}
    assert standard <= set(OPERATORS)


def test_the_readme_names_every_recipe():
    page = PAGES / "README.md"
    if not page.exists():
        pytest.skip("the pages are not beside the tests")
    named = set(re.findall(r"^\| `(\w+)`", page.read_text(), re.MULTILINE))
    assert set(RECIPES) <= named
