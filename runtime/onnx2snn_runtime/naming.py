"""Names that are not taken yet."""

from collections.abc import Callable
from itertools import count


def free_name(wish: str, is_taken: Callable[[str], bool]) -> str:
    """``wish``, or with the first number from 2 behind it that makes it free.

    >>> free_name("x", {"x", "x_2"}.__contains__)
    'x_3'
    """
    if not is_taken(wish):
        return wish
    return next(name for n in count(2) if not is_taken(name := f"{wish}_{n}"))
