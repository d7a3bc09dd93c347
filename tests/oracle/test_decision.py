"""Margins and the expected loss against the definition, pair by pair."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnx2snn.decision import GAP, TRAINING_ERRORS, decision_values, expected_loss, margins

LOGITS = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 6), st.integers(2, 5)),
    elements=st.floats(-8, 8, width=32),
)  # fmt: skip


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


@given(logits=LOGITS, seed=st.integers(0, 9))
def test_expected_loss_is_the_mean_over_pairs(logits, seed):
    ann = logits.astype(np.float64)
    found = ann + np.random.default_rng(seed).normal(0, 1.5, ann.shape)
    before, change = [], []
    for i, row in enumerate(ann):
        best = int(row.argmax())
        before.append(row[best] - max(v for k, v in enumerate(row) if k != best))
        after = found[i][best] - max(v for k, v in enumerate(found[i]) if k != best)
        change.append(after - before[-1])
    pairs = [np.tanh(m / 2) for m in before for d in change if m + d < 0]
    unseen = np.sqrt((TRAINING_ERRORS + GAP) / TRAINING_ERRORS)
    expected = 100 * unseen * sum(pairs) / len(ann) ** 2
    assert expected_loss(found, ann).points == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(logits=LOGITS)
def test_nothing_is_lost_where_nothing_changes(logits):
    assert expected_loss(logits, logits) == (0.0, 0.0)


def test_probabilities_are_compared_as_logits():
    logits = np.array([[2.0, 0.5, -1.0], [0.1, 0.0, 0.3]])
    values = decision_values(softmax(logits))
    classes = logits.argmax(axis=1)
    assert np.allclose(margins(values, classes), margins(logits, classes))


def test_labels_say_how_far_new_images_are():
    """Where the network errs on many calibration images already, new ones are hardly worse."""
    ann = np.array([[1.0, 0.9], [1.0, 0.8]])
    found = np.array([[0.9, 1.0], [1.0, 0.8]])
    all_right, one_wrong = np.array([0, 0]), np.array([0, 1])
    assert expected_loss(found, ann, all_right) == expected_loss(found, ann)
    ratio = (
        expected_loss(found, ann, all_right).points / expected_loss(found, ann, one_wrong).points
    )
    assert ratio == pytest.approx(np.sqrt((0.01 + GAP) / 0.01 / ((0.5 + GAP) / 0.5)))


def test_other_outputs_lose_their_relative_error():
    ann = np.ones((2, 1, 4, 4))
    assert expected_loss(ann * 1.01, ann) == (pytest.approx(1.0), 0.0)


def test_the_standard_error_is_that_of_many_samples():
    """The spread of the estimate over samples of images, against what one sample tells of it."""
    rng = np.random.default_rng(7)
    estimates = []
    for _ in range(300):
        ann = rng.normal(0, 2, (200, 5))
        estimates.append(expected_loss(ann + rng.normal(0, 0.2, ann.shape), ann))
    points, errors = np.array(estimates).T
    assert errors.mean() == pytest.approx(points.std(), rel=0.15)
