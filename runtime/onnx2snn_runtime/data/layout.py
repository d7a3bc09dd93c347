"""Which way the axes of an image lie, and how to turn it into what a model expects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx2snn_runtime.errors import DataError

Array = NDArray[Any]
Shape = tuple[int | None, ...]

_PICTURE_CHANNELS = (1, 3)


@dataclass(frozen=True)
class Turn:
    """One way to bring images to a model's layout.

    Attributes:
        name: what it does.
        of_shape: shape of an image afterwards.
        of_batch: the same for images with a batch axis in front.
    """

    name: str
    of_shape: Callable[[tuple[int, ...]], tuple[int, ...]]
    of_batch: Callable[[Array], Array]


_KEEP = Turn("as it is", lambda shape: shape, lambda images: images)
_TO_FIRST = Turn(
    "NHWC to NCHW",
    lambda shape: (shape[-1], *shape[:-1]),
    lambda images: np.moveaxis(images, -1, 1),
)
_TO_LAST = Turn(
    "NCHW to NHWC",
    lambda shape: (*shape[1:], shape[0]),
    lambda images: np.moveaxis(images, 1, -1),
)
_ADD_FIRST = Turn("add a channel axis", lambda s: (1, *s), lambda images: images[:, None])
_ADD_LAST = Turn("add a channel axis", lambda s: (*s, 1), lambda images: images[..., None])


def model_shape(shape: Sequence[Any] | None) -> Shape | None:
    """Shape of one input image: what is no positive integer (names, 0, None) is unknown."""
    if shape is None:
        return None
    return tuple(
        int(size) if isinstance(size, int | np.integer) and size > 0 else None for size in shape
    )


def fits(shape: Sequence[int], expected: Shape) -> bool:
    """Whether a shape agrees with one in which some sizes are unknown."""
    return len(shape) == len(expected) and all(
        wanted is None or size == wanted for size, wanted in zip(shape, expected, strict=True)
    )


def shape_text(shape: Sequence[int | None] | None) -> str:
    """A shape with its batch axis, for a message.

    >>> shape_text((3, None, 32))
    '[N,3,?,32]'
    """
    if shape is None:
        return "unknown"
    return f"[{','.join(['N', *('?' if size is None else str(size) for size in shape)])}]"


def channel_axis(shape: Sequence[int | None], layout: str | None) -> int:
    """Axis of the channels in one image: 0, or -1 where only the last one can be it."""
    if layout is not None:
        return 0 if layout == "nchw" else -1
    if len(shape) < 2 or shape[0] in _PICTURE_CHANNELS:
        return 0
    return -1 if shape[-1] in _PICTURE_CHANNELS else 0


def find_turn(found: tuple[int, ...], expected: Shape | None, layout: str | None) -> Turn:
    """How to turn uint8 images to the model's layout.

    Args:
        found: shape of one stored image.
        expected: shape of one input image of the model.
        layout: ``nchw`` or ``nhwc`` if the model's layout was told.

    Raises:
        DataError: nothing fits, or more than one thing does and ``layout`` does not settle it.
    """
    if expected is None:
        return _KEEP
    turns = {(3, 3): (_TO_FIRST, _TO_LAST), (2, 3): (_ADD_FIRST, _ADD_LAST)}
    options = [_KEEP] if fits(found, expected) else []
    options += [
        turn
        for turn in turns.get((len(found), len(expected)), ())
        if fits(turn.of_shape(found), expected) and _goes_to(turn, layout)
    ]
    if len(options) > 1:
        options = [t for t in options if _is_plausible(t.of_shape(found), layout)] or options
    if len(options) > 1 and layout is not None and options[0] is _KEEP:
        options = [_KEEP]
    if len(options) == 1:
        return options[0]
    raise _misfit(found, expected, is_ambiguous=bool(options))


def _goes_to(turn: Turn, layout: str | None) -> bool:
    return layout is None or (layout == "nchw") == (turn in (_TO_FIRST, _ADD_FIRST))


def _is_plausible(shape: tuple[int, ...], layout: str | None) -> bool:
    """Whether the channel axis has a size that pictures have."""
    if layout is not None:
        return shape[channel_axis(shape, layout)] in _PICTURE_CHANNELS
    return shape[0] in _PICTURE_CHANNELS or shape[-1] in _PICTURE_CHANNELS


def _misfit(found: tuple[int, ...], expected: Shape | None, *, is_ambiguous: bool) -> DataError:
    text = f"images are {shape_text(found)}, the model expects {shape_text(expected)}"
    if is_ambiguous:
        return DataError(
            f"{text}: channels first and channels last both fit",
            advice="say which the model has: --preprocess ...,layout=nchw or layout=nhwc",
        )
    return DataError(text, advice=_advice(found, expected))


def _advice(found: tuple[int, ...], expected: Shape | None) -> str:
    """What to do about a shape that does not fit."""
    if expected is None:
        return ""
    if found == expected[1:] and expected[0] is not None:
        return "if this is one image, add a batch axis: images[None]"
    if len(found) == 3 and len(expected) == 3:
        for turn, axes in ((_TO_FIRST, "(0, 3, 1, 2)"), (_TO_LAST, "(0, 2, 3, 1)")):
            if fits(turn.of_shape(found), expected):
                return f"transposed they would fit: images.transpose({axes})"
        gray_axis = next((i for i in (0, -1) if found[i] == 1 and expected[i] == 3), None)
        if gray_axis is not None:
            axis = 1 if gray_axis == 0 else -1
            return f"grey pictures for a model of colours: np.repeat(images, 3, axis={axis})"
    return "arrays are never resized: store them in the size of the model, or give picture files"


def refuse_shape(found: tuple[int, ...], expected: Shape | None) -> None:
    """Refuse float arrays that do not have the model's shape; they are taken as they are.

    Raises:
        DataError: with both shapes.
    """
    if expected is not None and not fits(found, expected):
        raise _misfit(found, expected, is_ambiguous=False)
