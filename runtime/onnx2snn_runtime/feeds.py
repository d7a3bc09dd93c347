"""What a network is given to run, checked: images, and numbers of timesteps."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnx2snn_runtime.data.dataset import ArrayDataset
from onnx2snn_runtime.data.input_preprocessing import Preprocessings, by_input
from onnx2snn_runtime.data.inputs import open_inputs
from onnx2snn_runtime.data.preprocessing import Preprocessing
from onnx2snn_runtime.errors import DataError, UsageError
from onnx2snn_runtime.planning.plan import Shape

Array = Any
Images = Array | Mapping[str, Array] | str | os.PathLike[str]
"""Images of the first input, of all inputs by name, or the path of a file or folder of them."""
MAX_TIMESTEPS = 1_000_000


def check_feeds(
    images: Images, shapes: Mapping[str, Shape], preprocessing: Preprocessings | None = None
) -> tuple[dict[str, Array], bool]:
    """The images by input name as float32, and whether they are a sequence [T,N,*].

    Args:
        images: float arrays are taken as they are; uint8 arrays are preprocessed and turned to the
            network's layout; of a path everything is read.
        shapes: of each input, batch first.
        preprocessing: of uint8 arrays and pictures.

    Raises:
        DataError: a name, shape, dtype or value does not fit.
    """
    names = list(shapes)
    if isinstance(images, str | os.PathLike):
        data = open_inputs(images, names)
        (images,) = data.batches(data.count, shapes, preprocessing)
    given = dict(images) if isinstance(images, Mapping) else {names[0]: images}
    if set(given) != set(names):
        raise DataError(
            f"the network has the inputs {', '.join(names)}, got {', '.join(given) or 'none'}"
        )
    steps = by_input(preprocessing, names)
    floats = {
        name: from_bytes(name, np.asarray(array), shapes[name], steps.get(name))
        for name, array in given.items()
    }
    checked = {name: check_images(name, floats[name], shapes[name]) for name in names}
    ranks = {array.ndim - len(shapes[name]) for name, array in checked.items()}
    if len(ranks) > 1:
        raise DataError("some inputs are sequences [T,N,…], others are not")
    counts = {array.shape[max(ranks)] for array in checked.values()}
    if len(counts) > 1:
        raise DataError(f"the inputs differ in their number of images: {sorted(counts)}")
    return checked, ranks == {1}


def from_bytes(name: str, array: Array, shape: Shape, steps: Preprocessing | None) -> Array:
    """uint8 images [N,*], or frames [T,N,*], as the network takes them; other arrays as they are.

    Raises:
        DataError: they do not fit the shape in any layout.
    """
    if array.dtype != np.uint8:
        return array
    frames = array.shape[:2] if array.ndim == len(shape) + 1 else array.shape[:1]
    images = array.reshape(-1, *array.shape[len(frames) :])
    dataset = ArrayDataset(f"input {name!r}", images, None, None)
    ((ready, _),) = dataset.batches(max(len(images), 1), shape[1:], steps)
    return ready.reshape(*frames, *ready.shape[1:])


def check_images(name: str, array: Array, shape: Shape) -> Array:
    """``array`` as float32 if it fits an input of ``shape``, as [N,*] or [T,N,*].

    Raises:
        DataError: it does not; the text states expected and found.
    """
    array = np.asarray(array)
    expected = "[" + ",".join(str(size) for size in shape) + "]"
    found = "[" + ",".join(str(size) for size in array.shape) + "]"
    if array.dtype.kind != "f":
        raise DataError(
            f"input {name!r} must be float or uint8, got {array.dtype}",
            advice="pictures with values 0..255: images.astype(np.uint8); "
            "inputs of the network: images.astype(np.float32)",
        )
    extra = array.ndim - len(shape)
    fits = extra in (0, 1) and all(
        isinstance(want, str) or want == have
        for want, have in zip(shape[1:], array.shape[extra + 1 :], strict=True)
    )
    if not fits:
        raise DataError(f"input {name!r} must have shape {expected} (or [T,…]), got {found}")
    if array.size == 0:
        raise DataError(f"input {name!r} holds no image: shape {found}")
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(array, dtype=np.float32)
    if not np.all(np.isfinite(array)):
        bad = int(np.count_nonzero(~np.isfinite(array)))
        raise DataError(f"input {name!r} holds {bad} values that are NaN or beyond float32")
    return array


def check_batch_size(size: int) -> int:
    """The size itself.

    Raises:
        UsageError: it is below 1.
    """
    if size < 1:
        raise UsageError(f"--batch-size must be at least 1, got {size}")
    return size


def check_timesteps(
    timesteps: int | Sequence[int], feeds: Mapping[str, Array], sequence: bool
) -> list[int]:
    """Rising list of the steps after which answers are wanted.

    Raises:
        UsageError: a step is below 1, absurdly large, or beyond the sequence.
    """
    steps: list[Any] = list(timesteps) if np.iterable(timesteps) else [timesteps]
    if not steps or any(not isinstance(t, int | np.integer) or isinstance(t, bool) for t in steps):
        raise UsageError(f"timesteps must be whole numbers, got {timesteps!r}")
    steps = sorted({int(t) for t in steps})
    if steps[0] < 1 or steps[-1] > MAX_TIMESTEPS:
        raise UsageError(f"timesteps must lie in 1..{MAX_TIMESTEPS}, got {timesteps!r}")
    length = min(map(len, feeds.values())) if sequence else None
    if length is not None and steps[-1] > length:
        raise UsageError(f"the sequence has {length} frames, fewer than {steps[-1]} timesteps")
    return steps
