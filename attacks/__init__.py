"""Hostile files and faults by name: each builds its files and says what must happen.

``python -m attacks FOLDER`` writes all of them, ``python -m attacks FOLDER NAME …`` some.
"""

from attacks import archives, arguments, external, models, spiking  # noqa: F401  (registration)
from attacks.registry import ATTACKS, Attack

__all__ = ["ATTACKS", "Attack"]
