"""From the bytes of a picture to the numbers a network was trained on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx2snn_runtime.errors import DataError, ModelError, UsageError

_KEYS = ("mean", "std", "scale", "channels", "layout")
_CHANNELS = ("rgb", "bgr")
_LAYOUTS = ("nchw", "nhwc")
_EXAMPLE = "mean=0.49,0.48,0.44,std=0.24,0.24,0.26"


@dataclass(frozen=True)
class Preprocessing:
    """x = (u8 · scale − mean) / std, per channel in the order of the model's channels.

    Attributes:
        scale: factor on the values 0..255, 1/255 for a range 0..1.
        mean: one value for all channels or one per channel, subtracted after scaling.
        std: one value for all channels or one per channel, the divisor.
        channels: order in which the model expects colours; pictures are RGB, and ``bgr`` reverses
            them before mean and std apply.
        layout: axes of the model's input, ``nchw`` or ``nhwc``; None: whatever fits.

    >>> Preprocessing().apply(np.array([[[[0, 51, 255]]]], np.uint8)).ravel().tolist()
    [0.0, 0.20000000298023224, 1.0]
    """

    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels: str = "rgb"
    layout: str | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that no preprocessing can have."""
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise UsageError(f"preprocessing: scale must be a positive number, not {self.scale}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if not values or not all(map(math.isfinite, values)):
                raise UsageError(f"preprocessing: {name} needs finite numbers, not {values}")
        if min(self.std) <= 0:
            raise UsageError(f"preprocessing: std must be positive, not {min(self.std)}")
        counts = {len(self.mean), len(self.std)} - {1}
        if len(counts) > 1:
            raise UsageError(
                f"preprocessing: mean has {len(self.mean)} values and std {len(self.std)}; "
                "give one for all channels or one per channel"
            )
        if self.channels not in _CHANNELS:
            raise UsageError(f"preprocessing: channels must be rgb or bgr, not {self.channels!r}")
        if self.layout is not None and self.layout not in _LAYOUTS:
            raise UsageError(f"preprocessing: layout must be nchw or nhwc, not {self.layout!r}")

    @property
    def channel_count(self) -> int | None:
        """Number of channels that mean and std are made for; None if one value serves all."""
        count = max(len(self.mean), len(self.std))
        return count if count > 1 else None

    def table(self, channel_count: int) -> NDArray[np.float32]:
        """The value of every byte: float32 [channels, 256], each rounded once.

        Args:
            channel_count: channels of the images.

        Raises:
            DataError: mean and std are made for another number of channels.
        """
        if self.channel_count not in (None, channel_count):
            raise DataError(
                f"the preprocessing has {self.channel_count} channels, "
                f"the images have {channel_count}",
                advice="give one mean and one std, or one per channel (--preprocess)",
            )
        levels = np.arange(256, dtype=np.float64) * self.scale
        mean = np.array(self.mean, np.float64).reshape(-1, 1)
        std = np.array(self.std, np.float64).reshape(-1, 1)
        values = ((levels - mean) / std).astype(np.float32)
        return np.ascontiguousarray(np.broadcast_to(values, (channel_count, 256)))

    def apply(self, images: NDArray[np.uint8], channel_axis: int = 1) -> NDArray[np.float32]:
        """The input of the network for pictures in its layout.

        A value depends on its byte and its channel alone, so batches do not matter.

        Args:
            images: uint8, in the model's layout, colours in the order RGB.
            channel_axis: axis of the channels, 1 for [N,C,H,W], 3 or -1 for [N,H,W,C].

        Returns:
            float32 of the same shape.

        Raises:
            DataError: the images are not uint8 or have another number of channels.
        """
        if images.dtype != np.uint8:
            raise DataError(f"preprocessing is for uint8 images, not {images.dtype}")
        count = images.shape[channel_axis]
        if self.channels == "bgr" and count != 3:
            raise DataError(f"channels=bgr needs 3 channels, the images have {count}")
        table = self.table(count)
        by_channel = np.moveaxis(images, channel_axis, 0)
        if self.channels == "bgr":
            by_channel = by_channel[::-1]
        result = np.empty(images.shape, np.float32)
        targets = np.moveaxis(result, channel_axis, 0)
        for channel in range(count):
            targets[channel] = table[channel][by_channel[channel]]
        return result

    def spec(self) -> str:
        """The same as an option, such as ``mean=0.5,std=0.5,scale=1``."""
        parts = [
            f"mean={','.join(map(repr, self.mean))}",
            f"std={','.join(map(repr, self.std))}",
            f"scale={self.scale!r}",
            f"channels={self.channels}",
        ]
        return ",".join(parts + ([f"layout={self.layout}"] if self.layout else []))

    def to_json(self) -> dict[str, Any]:
        """As plain JSON data."""
        return {
            "scale": self.scale,
            "mean": list(self.mean),
            "std": list(self.std),
            "channels": self.channels,
            "layout": self.layout,
        }

    @staticmethod
    def parse(spec: str | None) -> "Preprocessing | None":
        """Read the option ``--preprocess``, see `parse`."""
        return parse(spec)

    @classmethod
    def from_json(cls, document: Any) -> "Preprocessing":
        """The inverse of `to_json`.

        Raises:
            ModelError: the document, which comes from a model file, is malformed.
        """
        if not isinstance(document, Mapping):
            raise ModelError("the stored preprocessing must be a JSON object")
        unknown = sorted(set(document) - set(_KEYS))
        if unknown:
            raise ModelError(f"the stored preprocessing has an unknown entry {unknown[0]!r}")
        try:
            return cls(
                scale=float(document.get("scale", cls.scale)),
                mean=tuple(float(value) for value in document.get("mean", cls.mean)),
                std=tuple(float(value) for value in document.get("std", cls.std)),
                channels=document.get("channels", cls.channels),
                layout=document.get("layout"),
            )
        except (TypeError, ValueError, UsageError) as problem:
            raise ModelError(f"the stored preprocessing is malformed: {problem}") from problem


PRESETS: dict[str, Preprocessing] = {
    "imagenet": Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    "unit": Preprocessing(),
    "none": Preprocessing(scale=1.0),
}
UNIT = PRESETS["unit"]


def parse(spec: str | None) -> Preprocessing | None:
    """Read the option ``--preprocess``.

    Args:
        spec: a preset (``imagenet``, ``unit``, ``none``), ``key=value`` pairs or a preset followed
            by pairs. Keys: ``mean``, ``std``, ``scale``, ``channels``, ``layout``; numbers up to
            the next key belong to the key, and may be fractions. None: nothing was asked for.

    Raises:
        UsageError: says which part is wrong.

    >>> parse("mean=0.5,0.4,0.3,std=0.2,scale=1/255,channels=bgr").mean
    (0.5, 0.4, 0.3)
    """
    if spec is None:
        return None
    parts = [part.strip() for part in spec.split(",")]
    fields: dict[str, Any] = {}
    if parts[0].lower() in PRESETS:
        fields = PRESETS[parts.pop(0).lower()].to_json()
    for key, values in _groups(parts, spec).items():
        if key in ("channels", "layout"):
            fields[key] = _word(key, values, spec)
        elif key == "scale":
            fields[key] = _numbers(key, values, spec)[0]
            if len(values) > 1:
                raise _wrong(spec, f"scale takes one number, not {len(values)}")
        else:
            fields[key] = _numbers(key, values, spec)
    for key in ("mean", "std"):
        if key in fields:
            fields[key] = tuple(fields[key])
    return Preprocessing(**fields)


def _wrong(spec: str, why: str) -> UsageError:
    presets = ", ".join(PRESETS)
    return UsageError(
        f"--preprocess {spec!r}: {why}", advice=f"give one of {presets}, or such as {_EXAMPLE}"
    )


def _groups(parts: list[str], spec: str) -> dict[str, list[str]]:
    """Values by key: what has no key of its own belongs to the one before."""
    groups: dict[str, list[str]] = {}
    key = ""
    for part in parts:
        name, has_key, value = part.partition("=")
        if has_key:
            key = name.strip().lower()
            if key not in _KEYS:
                raise _wrong(spec, f"unknown key {key!r}; the keys are {', '.join(_KEYS)}")
            if key in groups:
                raise _wrong(spec, f"{key} is given twice")
            groups[key] = [value.strip()]
        elif not key:
            raise _wrong(spec, f"{part!r} is neither a preset nor key=value")
        else:
            groups[key].append(part)
    return groups


def _word(key: str, values: list[str], spec: str) -> str:
    allowed = _CHANNELS if key == "channels" else _LAYOUTS
    word = values[0].lower()
    if len(values) > 1 or word not in allowed:
        raise _wrong(spec, f"{key} must be {' or '.join(allowed)}, not {','.join(values)!r}")
    return word


def _numbers(key: str, values: list[str], spec: str) -> list[float]:
    numbers = []
    for value in values:
        above, is_fraction, below = value.partition("/")
        try:
            number = float(above) / (float(below) if is_fraction else 1.0)
        except (ValueError, ZeroDivisionError):
            raise _wrong(spec, f"{value!r} in {key} is not a number") from None
        numbers.append(number)
    return numbers
