"""Every registered operator passes the node cases that the onnx package ships for it."""

import numpy as np
import pytest
from conformance.node_cases import SKIPPED, NodeCase, node_cases, reason_to_skip

from onnx2snn_runtime.interpreter import Interpreter
from onnx2snn_runtime.ops import OPERATORS


def failure(case: NodeCase) -> str:
    """What is wrong with the result of a case; empty if nothing is."""
    names = [value.name for value in case.model.graph.input]
    feeds = dict(zip(names, case.inputs, strict=True))
    try:
        results = Interpreter(case.model)(feeds).values()
        for result, expected in zip(results, map(np.asarray, case.outputs), strict=True):
            assert result.dtype == expected.dtype, f"{result.dtype} instead of {expected.dtype}"
            assert result.shape == expected.shape, f"{result.shape} instead of {expected.shape}"
            np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-7)
    except Exception as error:
        return f"{case.name}: {type(error).__name__} {error}"
    return ""


@pytest.mark.parametrize("op", sorted(OPERATORS))
def test_node_cases_of_the_onnx_package(op):
    cases = [case for case in node_cases(op) if not reason_to_skip(case)]
    assert cases, f"no case of {op} is run"
    failures = [text for text in map(failure, cases) if text]
    assert not failures, "\n".join([f"{len(failures)} of {len(cases)} fail", *failures])


@pytest.mark.parametrize("reason", sorted(SKIPPED))
def test_every_reason_to_skip_still_applies(reason):
    assert any(SKIPPED[reason](case) for op in OPERATORS for case in node_cases(op))


@pytest.mark.parametrize("op", sorted(OPERATORS))
def test_operator_is_documented(op):
    summary = OPERATORS[op].summary
    assert summary.endswith("."), f"{op}: the docstring must start with one sentence"
    assert len(summary) <= 100
