"""Every operator computes on the array module it is given, and leaves NumPy's functions alone.

The array module is ``strict_arrays``, which refuses what CuPy refuses.
"""

import inspect

import numpy as np
import pytest
import strict_arrays
from conformance.node_cases import NodeCase, node_cases, reason_to_skip

from onnx2snn_runtime.interpreter import Interpreter
from onnx2snn_runtime.ops import OPERATORS

XP = strict_arrays.StrictModule()


def comparable(array: np.ndarray) -> np.ndarray:
    """NumPy does not know what is not a number in bfloat16."""
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def departure(case: NodeCase) -> str:
    """How the strict module departs from NumPy on a case, empty if nowhere."""
    names = [value.name for value in case.model.graph.input]
    feeds = dict(zip(names, case.inputs, strict=True))
    expected = Interpreter(case.model)(feeds)
    try:
        found = Interpreter(case.model, XP)(feeds)
        for name, array in expected.items():
            assert isinstance(found[name], strict_arrays.Strict), type(found[name])
            assert found[name].dtype == array.dtype, f"{found[name].dtype}, not {array.dtype}"
            np.testing.assert_array_equal(comparable(found[name].get()), comparable(array))
    except Exception as error:
        cause = error.__cause__ or error
        return f"{case.name}: {type(cause).__name__} {cause}"
    return ""


@pytest.mark.parametrize("op", sorted(OPERATORS))
def test_operators_stay_on_the_device(op):
    departures = [departure(case) for case in node_cases(op) if not reason_to_skip(case)]
    assert not any(departures), "\n".join(filter(None, departures))


@pytest.mark.parametrize("op", ["Trilu", "OneHot", "Compress"])
def test_other_operators_go_over_the_host(op):
    """What the registry does not have is run by the onnx package, and comes back."""
    assert op not in OPERATORS
    cases = [case for case in node_cases(op) if not reason_to_skip(case)]
    departures = [departure(case) for case in cases]
    assert cases and not any(departures), "\n".join(filter(None, departures))


def test_the_strict_module_is_strict():
    ours, host = XP.asarray([1.0, 2.0]), np.ones(2)
    for forbidden in (
        lambda: np.add(ours, ours),
        lambda: np.asarray(ours),
        lambda: np.broadcast_to(ours, (3, 2)),
        lambda: ours + host,
        lambda: host * ours,
        lambda: XP.add(ours, host),
        lambda: XP.concatenate([ours, host]),
    ):
        with pytest.raises(TypeError):
            forbidden()
    with pytest.raises(AttributeError):
        _ = XP.errstate
    assert (np.float32(2) * ours).tolist() == [2, 4]
    assert isinstance(ours.sum(), strict_arrays.Strict)


def test_cupy_has_what_the_strict_module_has():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    missing = [name for name in strict_arrays.FUNCTIONS if not hasattr(cupy, name)]
    missing += [name for name in strict_arrays.TYPES if not hasattr(cupy, name)]
    missing += [name for name in strict_arrays.METHODS if not hasattr(cupy.ndarray, name)]
    assert not missing
    assert all(hasattr(getattr(cupy, name), "at") for name in strict_arrays.SCATTERED)


def test_cupy_takes_the_options_that_are_used():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    for op in sorted(OPERATORS):
        for case in node_cases(op):
            if not reason_to_skip(case):
                departure(case)
    assert XP.used
    unknown = []
    for name, options in sorted(XP.used):
        function = getattr(cupy, name)
        if isinstance(function, cupy.ufunc):
            known = {"out", "dtype", "axis", "keepdims"}  # the last two: cupy.max is no ufunc
        else:
            try:
                parameters = inspect.signature(function).parameters
            except ValueError:
                continue  # compiled, without a signature
            known = set(parameters)
            if any(item.kind is item.VAR_KEYWORD for item in parameters.values()):
                continue
        unknown += [f"{name}({option}=…)" for option in options if option not in known]
    assert not unknown
