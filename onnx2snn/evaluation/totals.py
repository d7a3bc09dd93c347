"""What an evaluation has counted: of one batch, or of all batches so far.

Totals are the same to the last digit however the images were shared out among processes: counts are
whole numbers below 2^53, for which the order of adding does not matter, and sums of fractions are
kept image by image until they are folded in the order of the images.
"""

import functools
import operator
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

Array = Any


@dataclass
class Totals:
    """Counts, sums and truths, by name.

    Attributes:
        images: number of images.
        counts: whole numbers, such as images answered right.
        sums: of a batch a number for each image, of totals one number: their sum in order.
        truths: what has held for every batch.
    """

    images: int = 0
    counts: dict[str, float] = field(default_factory=dict)
    sums: dict[str, list[float]] = field(default_factory=dict)
    truths: dict[str, bool] = field(default_factory=dict)

    def count(self, name: str, number: float) -> None:
        """Add a whole number."""
        self.counts[name] = self.counts.get(name, 0) + number

    def count_tables(self, tables: Mapping[str, Iterable[tuple[int, float]]]) -> None:
        """Add whole numbers called ``name/number``."""
        for name, rows in tables.items():
            for number, value in rows:
                self.count(f"{name}/{number}", value)

    def merge(self, batch: "Totals") -> None:
        """Take in the batch that follows."""
        self.images += batch.images
        for name, number in batch.counts.items():
            self.count(name, number)
        for name, numbers in batch.sums.items():
            self.sums[name] = [functools.reduce(operator.add, numbers, self.sum(name))]
        for name, truth in batch.truths.items():
            self.truths[name] = self.truths.get(name, True) and truth

    def counted(self, name: str) -> float:
        """A count; 0 if there was nothing to count."""
        return self.counts.get(name, 0)

    def sum(self, name: str) -> float:
        """A sum that `merge` has made."""
        return self.sums.get(name, [0.0])[0]

    def table(self, name: str) -> list[tuple[int, float]]:
        """The counts called ``name/number``, by number."""
        start = f"{name}/"
        found = ((key.removeprefix(start), n) for key, n in self.counts.items()
                 if key.startswith(start))  # fmt: skip
        return sorted((int(key), number) for key, number in found)

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Totals":
        """The inverse of `as_dict`."""
        return cls(**stored)


def squares(values: Array) -> list[float]:
    """The sum of the squares of each image of [n,*]."""
    rows = np.square(np.asarray(values, np.float64)).reshape(len(values), -1)
    return [float(row.sum()) for row in rows]
