"""How many images, and how many timesteps of them, run at once.

``rows`` are images times steps. Whatever is chosen, the answers are the same; only memory and time
depend on it.
"""

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass

FREE_SHARE = 4  # one part in so many of the free memory is used unless told otherwise
UNKNOWN_FREE = 2**32  # where the system does not tell
CACHED_BYTES = 3 * 2**19  # of a usual tensor in a chunk: larger chunks leave the CPU's cache
FEWEST_ROWS = 8  # with fewer, states are read and written too often for what is computed
MAX_IMAGES = 32
MAX_DEVICE_IMAGES = 256
EXTRA = 2  # times as many images begin where some leave soon
STEPS_TOGETHER = 8  # a batch is made small enough that this many steps run as one chunk


@dataclass(frozen=True)
class Footprint:
    """Bytes that a network takes while it runs.

    Attributes:
        state_bytes: all states of one image.
        row_bytes: all tensors that are alive together, for one image and one step.
        usual_bytes: mean size of the tensors that units make, for one image and one step.
        usual_weights: mean size of the weights of a segment.
    """

    state_bytes: int
    row_bytes: int
    usual_bytes: int
    usual_weights: int


class Schedule(ABC):
    """Chooses batch and chunk within a memory budget, and shrinks when the memory runs out.

    Args:
        size: what one image takes.
        memory: bytes that states and activations may take.
    """

    def __init__(self, size: Footprint, memory: int) -> None:
        self.size = size
        self.memory = memory
        self.row_limit: int | None = None  # set once the memory has run out

    def images_at_once(self, timesteps: int) -> int:
        """How many images at once run fastest within the memory budget; at least one."""
        images = self.fitting_images(timesteps)
        return max(1, images if self.row_limit is None else min(images, self.row_limit))

    def images_before_exit(self) -> int:
        """How many images to begin with where most leave after a few steps; at least one."""
        return self.images_at_once(1)

    def chunk_steps(self, images: int, timesteps: int) -> int:
        """How many of ``timesteps`` steps to run as one chunk; at least one."""
        steps = self.fitting_steps(images, timesteps)
        if self.row_limit is not None:
            steps = min(steps, self.row_limit // images)
        return max(1, min(steps, timesteps))

    def shrink(self, images: int, timesteps: int) -> bool:
        """Run half as much at once from now on, as the memory has run out.

        Returns:
            Whether a smaller chunk does it; otherwise the batch must be halved.
        """
        chunk = self.chunk_steps(images, timesteps)
        self.row_limit = max(1, images * chunk // 2)
        return chunk > 1

    @abstractmethod
    def fitting_images(self, timesteps: int) -> int:
        """Images at once, by the formulas for memory and speed."""

    @abstractmethod
    def fitting_steps(self, images: int, timesteps: int) -> int:
        """Steps of a chunk, by the formulas for memory and speed."""


class CacheSchedule(Schedule):
    """For a CPU: what runs at once stays in the cache."""

    def fitting_images(self, timesteps: int) -> int:
        """So few that several steps of them fit the cache."""
        together = max(1, self.rows // min(timesteps, STEPS_TOGETHER))
        fitting = self.memory // max(1, self.size.state_bytes + self.size.row_bytes)
        return min(MAX_IMAGES, together, fitting)

    def images_before_exit(self) -> int:
        """More than run fastest, as fewer and fewer are left, if their states fit."""
        fastest = self.images_at_once(1)
        left = self.memory - EXTRA * fastest * self.size.row_bytes
        return max(fastest, min(EXTRA * fastest, left // max(1, self.size.state_bytes)))

    def fitting_steps(self, images: int, timesteps: int) -> int:
        """As many as fit cache and memory budget."""
        del timesteps
        left = self.memory - images * self.size.state_bytes
        return max(1, min(self.rows, left // max(1, self.size.row_bytes)) // images)

    @property
    def rows(self) -> int:
        """Images times steps of a chunk that runs fastest.

        Its tensors should stay in the cache, unless weights, which each chunk reads once from
        memory, outweigh them.
        """
        wanted = max(CACHED_BYTES, self.size.usual_weights)
        return max(FEWEST_ROWS, wanted // max(1, self.size.usual_bytes))


class DeviceSchedule(Schedule):
    """For a GPU: as much at once as its memory holds, so that few and large kernels run."""

    def fitting_images(self, timesteps: int) -> int:
        """So few that several steps of them fit the memory."""
        steps = min(timesteps, STEPS_TOGETHER)
        each = self.size.state_bytes + steps * self.size.row_bytes
        return min(MAX_DEVICE_IMAGES, self.memory // max(1, each))

    def fitting_steps(self, images: int, timesteps: int) -> int:
        """All if they fit, else the largest power of two that does."""
        left = self.memory - images * self.size.state_bytes
        fitting = max(1, left // max(1, images * self.size.row_bytes))
        return timesteps if timesteps <= fitting else 1 << (fitting.bit_length() - 1)


def default_memory() -> int:
    """A quarter of the memory that is free now, in bytes."""
    names = getattr(os, "sysconf_names", {})
    if "SC_AVPHYS_PAGES" not in names or "SC_PAGE_SIZE" not in names:
        return UNKNOWN_FREE // FREE_SHARE
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // FREE_SHARE
