"""Decisions and their margins: what a change of the outputs does to an accuracy not yet seen.

Calibration images are few and usually training images, so the expected loss is estimated from a
continuous quantity. Let m_i be the ANN's margin on image i (decision value of its class over the
best other) and d_j the change of the margin that the spiking network makes on image j. Changes and
margins are nearly independent, so all pairs count, and

    loss = unseen · mean over i, j of [m_i + d_j < 0] · tanh(m_i / 2)

A flipped decision does not always cost: of two classes with logits m apart, the first is right more
often than the second by tanh(m/2) (softmax of two).

On images it was trained on, a network is surer than on new ones, and fewer decisions flip:
ResNet-20 after two steps 1.0 % on training images, where it errs in 0.8 %, and 2.8 % on new ones,
where it errs in 8.3 %. Flips grow as the square root of the errors:

    unseen = √((e + GAP) / e),  e: share of calibration images that the ANN gets wrong

With labels e is counted; without, the images are taken for training images.

The mean over pairs is a statistic of few images. Its standard error follows from how much each of
them contributes, once by its margin and once by its change (Hoeffding's projection, 1948).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from onnx2snn_runtime.early_exit import log_probabilities
from onnx2snn_runtime.errors import UsageError

GAP = 0.075  # share of errors that new images add to those of training images
TRAINING_ERRORS = 0.01  # share of errors on training images
PERCENT = 100.0


class Estimate(NamedTuple):
    """What is expected to be lost on new images.

    Attributes:
        points: points of accuracy; for outputs that are no classes the relative error in percent.
        standard_error: of ``points``, as the calibration images are few; 0 for other outputs.
    """

    points: float
    standard_error: float


def deciding_output(
    outputs: Mapping[str, Sequence[int | str]], labels: Any | None, wanted: str | None
) -> tuple[str, str]:
    """Which output tells the classes, and a remark where others might.

    Without a name it is the first one of the shape [N, classes], for labels the first that is wide
    enough for them, else the first of all.

    Args:
        outputs: name to shape.
        labels: classes of images, or None.
        wanted: the name of one, or None.

    Raises:
        UsageError: there is no such output.
    """
    names = ", ".join(outputs)
    if wanted is not None and wanted not in outputs:
        raise UsageError(f"--decides {wanted}: the network has the outputs {names}")
    least = 1 if labels is None or not len(labels) else int(labels.max())
    widths = {
        name: shape[1] for name, shape in outputs.items()
        if len(shape) == 2 and isinstance(shape[1], int) and shape[1] > 1
    }  # fmt: skip
    fitting = [name for name, width in widths.items() if width > least]
    chosen = wanted or next(iter([*fitting, *widths, *outputs]))
    if wanted is not None or len(outputs) == 1 or not widths:
        return chosen, ""
    return chosen, (
        f"of the outputs {names} {chosen!r} is taken for the one that tells classes: settings, "
        "early exit and accuracy look at it (--decides NAME takes another)"
    )


def is_classes(output: Any) -> bool:
    """Whether an output is a decision between classes, [N, classes]."""
    return bool(output.ndim == 2 and output.shape[1] > 1 and output.dtype.kind == "f")


def told_classes(output: Any) -> Any | None:
    """Class numbers [N] that an output tells: of scores [N, classes], or the numbers of ArgMax.

    None where it tells something else.
    """
    if is_classes(output):
        return output.argmax(axis=1)
    is_number = output.dtype.kind in "iu" and output.size == len(output)
    return output.reshape(-1) if is_number else None


def decision_values(output: Any) -> Any:
    """Logits: probabilities go through the logarithm, anything else stays as it is."""
    if not is_classes(output):
        return output
    return log_probabilities(output) if is_probabilities(output) else output


def is_probabilities(output: Any) -> bool:
    """Whether what an output [N, classes] tells are probabilities."""
    sums = output.sum(axis=1)
    return bool(output.min() >= 0 and np.allclose(sums, 1.0, atol=1e-3))


def margins(values: Any, classes: Any) -> Any:
    """Decision value of the given class over the best other, [N].

    Args:
        values: decision values, [N, classes].
        classes: a class per image, [N].
    """
    rows = np.arange(len(values))
    others = values.astype(np.float64)
    chosen = others[rows, classes].copy()
    others[rows, classes] = -np.inf
    return chosen - others.max(axis=1)


def unseen_factor(ann: Any, labels: Any | None) -> float:
    """How many times as often decisions flip on new images as on these.

    Args:
        ann: output of the ANN, [N, classes].
        labels: classes of the images, [N], or None.
    """
    errors = 0.0 if labels is None else float((ann.argmax(axis=1) != labels).mean())
    errors = max(errors, TRAINING_ERRORS)
    return float(np.sqrt((errors + GAP) / errors))


def expected_loss(found: Any, ann: Any, labels: Any | None = None) -> Estimate:
    """Accuracy that the spiking network is expected to lose on new images.

    For outputs that are no classes: the relative L2 error in percent.

    Args:
        found: output of the spiking network, [N,*].
        ann: output of the ANN on the same images.
        labels: classes of the images, [N], or None.
    """
    if not is_classes(ann):
        distance = float(np.linalg.norm(np.asarray(found, np.float64) - ann))
        return Estimate(PERCENT * distance / max(float(np.linalg.norm(ann)), 1e-30), 0.0)
    reference = decision_values(ann)
    classes = reference.argmax(axis=1)
    before = margins(reference, classes)
    changes = margins(decision_values(found), classes) - before
    flips = before[:, np.newaxis] + changes[np.newaxis, :] < 0
    costs = flips * np.tanh(before / 2)[:, np.newaxis]
    loss = costs.mean()
    contributions = costs.mean(axis=1) + costs.mean(axis=0) - 2 * loss
    factor = PERCENT * unseen_factor(ann, labels)
    deviation = np.sqrt((contributions**2).mean() / len(before))
    return Estimate(factor * float(loss), factor * float(deviation))
