"""What a kernel does in the same pass besides the law."""

from dataclasses import dataclass
from typing import Any

Array = Any


@dataclass(frozen=True, eq=False)
class Fusion:
    """Neighbours of a neuron that its kernel takes over: the current is (x + bias) + residual.

    Attributes:
        bias: broadcastable to [N,*] with one image, as thresholds are, or None.
        residual: a second input [C,N,*], or None.
        counts: the result is the spike counts as int8, not spikes times threshold.
    """

    bias: Array | None = None
    residual: Array | None = None
    counts: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to do besides the law."""
        return self.bias is None and self.residual is None and not self.counts


PLAIN = Fusion()
