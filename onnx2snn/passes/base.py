"""What every pass is: a named law, run on a model, that writes down what it did and did not do."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

Array = NDArray[Any]
Runner = Callable[[dict[str, Any]], Mapping[str, Any]]
"""Feeds by input name to outputs by name."""
Run = Callable[[onnx.ModelProto], Runner]
"""Prepares a model for execution."""


@dataclass(frozen=True)
class Note:
    """One thing a pass did, or the reason why it did not.

    Attributes:
        pass_name: which pass.
        node: name of the node or tensor, or empty.
        text: one sentence.
        is_warning: whether it may spoil the result.
    """

    pass_name: str
    node: str
    text: str
    is_warning: bool = False

    def __str__(self) -> str:
        """The sentence behind the name of its pass."""
        return f"{self.pass_name}: {self.text}"


@dataclass
class Session:
    """What the passes of one normalisation share.

    Attributes:
        run: executes a model, to probe shapes.
        input_shapes: sizes of dynamic inputs by name, batch first.
        notes: what happened so far.
        expected: outputs at two samples before anything was folded, if they could be computed.
    """

    run: Run
    input_shapes: Mapping[str, Sequence[int | str]] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    expected: Mapping[str, Any] | None = None


class Pass(ABC):
    """One law. The docstring of a subclass states it."""

    name: ClassVar[str]

    def __init__(self, session: Session) -> None:
        self.session = session

    @abstractmethod
    def run(self, model: ir.Model) -> ir.Model:
        """Apply the law; returns the model, which is the same object unless stated."""

    def note(self, node: str | None, text: str, *, is_warning: bool = False) -> None:
        """Write down what was done or why not."""
        self.session.notes.append(Note(self.name, node or "", text, is_warning))


def as_array(value: Any) -> Array:
    """A NumPy array of what a runner returned."""
    return np.asarray(value)
