"""Preprocessing of networks with several inputs: one for all of them, or one each."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from onnx2snn_runtime.data.preprocessing import Preprocessing, parse
from onnx2snn_runtime.errors import ModelError, UsageError

# One for every input, or by input name; what is not named has none.
Preprocessings = Preprocessing | Mapping[str, Preprocessing]

_INPUTS = "inputs"


def by_input(told: Preprocessings | None, names: Iterable[str]) -> dict[str, Preprocessing]:
    """The preprocessing of each input that has one.

    Raises:
        UsageError: an input is named that the network does not have.
    """
    known = list(names)
    if told is None:
        return {}
    if isinstance(told, Preprocessing):
        return dict.fromkeys(known, told)
    unknown = [name for name in told if name not in known]
    if unknown:
        raise UsageError(
            f"--preprocess names {', '.join(map(repr, unknown))}: "
            f"the network has the inputs {', '.join(map(repr, known))}"
        )
    return dict(told)


def parse_all(specs: Sequence[str]) -> Preprocessings | None:
    """Read all options ``--preprocess``: one SPEC for every input, or NAME:SPEC for each.

    Raises:
        UsageError: says which part is wrong.

    >>> [(name, steps.scale) for name, steps in parse_all(["left:none", "right:scale=2"]).items()]
    [('left', 1.0), ('right', 2.0)]
    """
    named = [spec.rpartition(":") for spec in specs]
    if len(specs) == 1 and not named[0][1]:
        return parse(specs[0])
    found: dict[str, Preprocessing] = {}
    for name, _, spec in named:
        if not name or name in found:
            raise UsageError(
                f"--preprocess is given {len(specs)} times, for the input {name!r} twice"
                if name
                else "--preprocess is given several times, once without the name of an input",
                advice="give one SPEC for all inputs, or NAME:SPEC for each of them",
            )
        found[name] = _needed(spec)
    return found or None


def _needed(spec: str) -> Preprocessing:
    steps = parse(spec)
    assert steps is not None, "a text was given"
    return steps


def told(value: str | Preprocessings | Mapping[str, str] | None) -> Preprocessings | None:
    """What Python functions take: a text as `parse_all` reads it, or by input name.

    Raises:
        UsageError: a text is wrong.
    """
    if value is None or isinstance(value, Preprocessing):
        return value
    if isinstance(value, str):
        return parse_all([value])
    return {name: _needed(item) if isinstance(item, str) else item for name, item in value.items()}


def specs(steps: Preprocessings | None) -> str | dict[str, str] | None:
    """As options, of all inputs or by their names."""
    if steps is None or isinstance(steps, Preprocessing):
        return steps.spec() if steps else None
    return {name: item.spec() for name, item in steps.items()}


def to_document(steps: Preprocessings | None) -> dict[str, Any] | None:
    """As the metadata of a file hold it."""
    if steps is None or isinstance(steps, Preprocessing):
        return steps.to_json() if steps else None
    return {_INPUTS: {name: item.to_json() for name, item in steps.items()}}


def from_document(document: Any, names: Iterable[str]) -> Preprocessings | None:
    """The inverse of `to_document`; ``names`` are those of the network's inputs.

    Raises:
        ModelError: the document, which comes from a model file, is malformed.
    """
    if not document:
        return None
    if not isinstance(document, Mapping) or _INPUTS not in document:
        return Preprocessing.from_json(document)
    inputs = document[_INPUTS]
    if not isinstance(inputs, Mapping) or not set(inputs) <= set(names):
        raise ModelError("the stored preprocessing is not about the inputs of the network")
    return {name: Preprocessing.from_json(item) for name, item in inputs.items()}
