"""Everything that can go wrong because of an input, one class per cause.

Each class carries the exit code of the command line. An error text says what is wrong, where
(file, node, operator, tensor), what was expected and found, and what to do. Anything that escapes
as another exception type is a bug of ours.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that stands in the way, with the place where it was met.

    Attributes:
        why: what is wrong, with what was expected and found.
        advice: what the reader can do about it.
        node: name of the ONNX node, or empty.
        op: operator type of the node, or empty.
        tensor: name of the tensor, or empty.
    """

    why: str
    advice: str = ""
    node: str = ""
    op: str = ""
    tensor: str = ""

    def __str__(self) -> str:
        """One line: place, reason, advice."""
        place = " ".join(
            part
            for part in (
                f"node {self.node!r}" if self.node else "",
                f"({self.op})" if self.op else "",
                f"tensor {self.tensor!r}" if self.tensor else "",
            )
            if part
        )
        text = f"{place}: {self.why}" if place else self.why
        return f"{text}; {self.advice}" if self.advice else text

    def as_dict(self) -> dict[str, str]:
        """The finding as plain JSON data."""
        return asdict(self)


class Onnx2SnnError(Exception):
    """Base of all errors that an input can cause.

    Args:
        message: one sentence that says what went wrong and where.
        findings: all findings of the stage that failed, not only the first.
        advice: what to do next.
    """

    exit_code = 70

    def __init__(self, message: str, findings: Iterable[Finding] = (), *, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.findings = tuple(findings)
        self.advice = advice

    def __str__(self) -> str:
        """Message, findings and advice, a line each."""
        lines = [self.message, *(f"  {finding}" for finding in self.findings)]
        if self.advice:
            lines.append(self.advice)
        return "\n".join(lines)


class UsageError(Onnx2SnnError):
    """An option or argument is out of its range."""

    exit_code = 2


class ModelError(Onnx2SnnError):
    """A model file cannot be read or is not valid ONNX."""

    exit_code = 3


class UnsupportedError(Onnx2SnnError):
    """The model is valid but holds something that cannot be converted."""

    exit_code = 4


class StorageError(Onnx2SnnError):
    """The disk: missing folder, no permission, no space."""

    exit_code = 5


class DataError(Onnx2SnnError):
    """Images or labels are missing, malformed or do not fit the model."""

    exit_code = 6


class BackendError(Onnx2SnnError):
    """A backend is unavailable, failed, or ran out of memory."""

    exit_code = 7
