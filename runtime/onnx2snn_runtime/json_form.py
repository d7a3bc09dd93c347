"""The form of a JSON document, which anyone may have written, as a Python value to compare it with.

A dict is an object with these keys, a list of one entry a list of such entries, a pair
``(NULLABLE, form)`` the form or null, and a text one of the kinds below. ``EACH`` stands for every
key of an object; keys that end in ``MAY_MISS`` need not be there. Keys of no form are let pass.
"""

import json
from math import isfinite
from typing import Any

NUMBER, OPTIONAL, TEXT, ANY = "a number", "a number or null", "text", "anything"
OPTIONAL_TEXT, WHOLE, TRUTH = "text or null", "a whole number", "true or false"
NULLABLE = "?"
EACH = "*"
MAY_MISS = "?"
LARGEST = 1e100  # what is drawn is squared and added
LARGEST_WHOLE = 2**53  # as a float holds it, and JavaScript
CUT = 60


def to_json(document: Any) -> str:
    """A document as JSON, with null for what is no number: JSON has no NaN and no infinity."""
    return json.dumps(_finite(document), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def differences(value: Any, form: Any, place: str = "") -> list[str]:
    """Where ``value`` is not of this form, a line each.

    Args:
        value: what ``json.loads`` returned.
        form: what it must look like.
        place: where the value stands in its document.
    """
    if isinstance(form, tuple):
        return [] if value is None else differences(value, form[1], place)
    if isinstance(form, dict):
        return _in_object(value, form, place)
    if isinstance(form, list):
        if not isinstance(value, list):
            return [f"{place}: expected a list, found {_cut(value)}"]
        return [
            line
            for index, item in enumerate(value)
            for line in differences(item, form[0], f"{place}[{index}]")
        ]
    return [] if _fits(value, form) else [f"{place}: expected {form}, found {_cut(value)}"]


def _in_object(value: Any, form: dict[str, Any], place: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{place or 'the document'}: expected an object, found {_cut(value)}"]
    if EACH in form:
        form = dict.fromkeys((f"{key}{MAY_MISS}" for key in value), form[EACH])
    lines = []
    for name, inner in form.items():
        key = name.removesuffix(MAY_MISS)
        where = f"{place}.{_plain(key)}" if place else _plain(key)
        if key in value:
            lines += differences(value[key], inner, where)
        elif name == key:
            lines.append(f"{where}: is missing")
    return lines


def _fits(value: Any, form: str) -> bool:
    if form == ANY or (value is None and form in (OPTIONAL, OPTIONAL_TEXT)):
        return True
    if form in (TEXT, OPTIONAL_TEXT):
        return isinstance(value, str)
    if form == TRUTH or isinstance(value, bool):
        return form == TRUTH and isinstance(value, bool)
    if not isinstance(value, int | float):
        return False
    if isinstance(value, int):
        return abs(value) < LARGEST_WHOLE
    return abs(value) < LARGEST and form != WHOLE


def _plain(key: str) -> str:
    """A key that stays on its line."""
    return ascii(key)[1:-1][:CUT]


def _cut(value: Any) -> str:
    return ascii(value)[:CUT]
