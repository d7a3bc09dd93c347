"""What the report shows beyond ``eval --json``: layers, one image over time, provenance."""

import base64
import hashlib
import io
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx2snn.calibration.calibrate import with_outputs
from onnx2snn.comparison.departure import first_departure
from onnx2snn.comparison.layer_statistics import (
    BINS,
    LayerStatistics,
    layer_units,
)
from onnx2snn.evaluation.stand_in import to_ann
from onnx2snn_runtime.data.input_preprocessing import Preprocessings
from onnx2snn_runtime.data.inputs import InputData, open_inputs
from onnx2snn_runtime.engine import Observer
from onnx2snn_runtime.errors import UsageError
from onnx2snn_runtime.network import Network
from onnx2snn_runtime.planning.plan import Stateful

Array = NDArray[Any]
IMAGES = 64  # that the layers are measured on
RASTER_LAYERS = 6
RASTER_NEURONS = 40  # of each layer
CLASSES = 8  # whose evidence is drawn
PACKAGES = ("onnx2snn", "numpy", "onnx", "onnxruntime", "numba")


def collect(
    network: Network,
    data: Any,
    *,
    timesteps: int,
    image: int = 0,
    limit: int = IMAGES,
    preprocessing: Preprocessings | None = None,
    command: str = "",
    files: Mapping[str, str | Path] | None = None,
) -> dict[str, Any]:
    """Measure layers and follow one image, for the key ``report`` of the results.

    Args:
        network: the spiking network.
        data: images, with labels if there are any (see ``open_inputs``).
        timesteps: steps to run.
        image: index of the image that is followed over time.
        limit: measure the layers on at most so many images.
        preprocessing: overrides what is stored in the file.
        command: the command line that asked.
        files: what the files are and where, to name them with their hashes.

    Returns:
        JSON data: ``images``, ``timesteps``, ``layers``, ``first_departing``, ``cause``,
        ``followed``, ``conversion`` and ``provenance``.

    Raises:
        DataError: the images do not fit the network.
        UsageError: there is no such image.
    """
    statistics = LayerStatistics(network, timesteps)
    ann = network.backend.compile(with_outputs(to_ann(network.model), statistics.tensors))
    steps = preprocessing or network.preprocessing
    inputs = open_inputs(data, list(network.input_shapes))
    finite = True
    for piece in inputs.pieces(statistics.batch_size, network.input_shapes, steps, limit):
        feeds, _ = network.check_feeds(piece.feeds())
        answers = statistics.run(feeds, statistics.in_real_units(ann(feeds)))
        finite = finite and all(np.isfinite(a).all() for a in answers[timesteps].values())
    layers = statistics.reports()
    name, cause = first_departure(layers, network.metadata, finite=finite)
    samples = [
        {"points": _rounded(points), "rates": rate_histogram(rates)}
        for points, rates in statistics.samples()
    ]
    return {
        "images": statistics.images,
        "timesteps": timesteps,
        "layers": [
            {**x.as_dict(), **sample} for x, sample in zip(layers, samples, strict=True)
        ],
        "first_departing": name,
        "cause": cause,
        "followed": follow(network, inputs, image, timesteps, steps),
        "conversion": {
            "notes": list(network.metadata.get("notes") or []),
            "work": network.metadata.get("work"),
            "verified": network.metadata.get("verified"),
            "calibration": network.metadata.get("calibration"),
            "preprocessing": network.metadata.get("preprocessing"),
        },
        "provenance": provenance(network, command, files or {}),
    }  # fmt: skip


def rate_histogram(rates: Array) -> dict[str, list[float]] | None:
    """Numbers of neurons by spikes per step: ``edges`` [BINS+1] and ``counts`` [BINS].

    None where nothing spikes.
    """
    if not rates.size:
        return None
    counts, edges = np.histogram(rates, BINS, (0.0, max(float(rates.max()), 1e-6)))
    return {"edges": _rounded(edges), "counts": counts.tolist()}


class _Trains(Observer):
    """Observer of one image: spikes of some neurons of some layers, step by step."""

    def __init__(self, units: Sequence[Stateful]) -> None:
        self.counts: dict[str, list[Array]] = {unit.name: [] for unit in units}

    def observe(self, unit: Stateful, first_step: int, outputs: Any, counts: Any) -> None:
        """Keep the counts of one chunk, [C,1,*]."""
        del first_step, outputs
        if counts is not None and unit.name in self.counts:
            counts = np.asarray(counts)
            self.counts[unit.name].append(counts.reshape(len(counts), -1))

    def rasters(self) -> list[dict[str, Any]]:
        """Layers with the numbers of their chosen neurons and counts [neuron][step]."""
        found = []
        for name, parts in self.counts.items():
            counts = np.rint(np.concatenate(parts)).astype(int)  # [T,neurons]
            speaking = np.flatnonzero(np.abs(counts).sum(axis=0))
            pool = speaking if speaking.size else np.arange(counts.shape[1])
            spread = np.linspace(0, pool.size - 1, min(RASTER_NEURONS, pool.size))
            chosen = pool[spread.astype(int)]
            found.append({
                "layer": name,
                "neurons": chosen.tolist(),
                "counts": counts[:, chosen].T.tolist(),
                "speaking": int(speaking.size),
                "of": int(counts.shape[1]),
            })  # fmt: skip
        return found


def follow(
    network: Network,
    inputs: InputData,
    index: int,
    timesteps: int,
    preprocessing: Preprocessings | None,
) -> dict[str, Any]:
    """One image over time: the picture, spikes of some neurons, evidence for its classes."""
    feeds = _image(network, inputs, index, preprocessing)
    spiking = [unit for unit in layer_units(network.plan) if unit.operator.spiking]
    spread = np.linspace(0, len(spiking) - 1, min(RASTER_LAYERS, len(spiking))).astype(int)
    chosen = [spiking[position] for position in spread]
    steps = list(range(1, timesteps + 1))
    answers, watches = network.observe(feeds, steps, lambda: _Trains(chosen))
    expected = network.backend.compile(to_ann(network.model))(feeds)
    first = network.decides
    evidence = np.stack([answers[t][first][0] for t in steps])
    return {
        "index": index,
        "label": None if inputs.labels is None else int(inputs.labels[index]),
        "png": next(filter(None, (picture(images[0]) for images in feeds.values())), None),
        "evidence": _evidence(evidence, np.asarray(expected[first])[0]),
        "rasters": watches[0].rasters() if watches else [],
    }


def check_image(index: int, count: int) -> None:
    """Refuse an image to follow that is not there.

    Raises:
        UsageError: it is not there.
    """
    if not 0 <= index < count:
        raise UsageError(f"--report-image must lie in 0..{count - 1}, got {index}")


def _image(
    network: Network, inputs: InputData, index: int, preprocessing: Preprocessings | None
) -> dict[str, Array]:
    check_image(index, inputs.count)
    pieces = inputs.pieces(32, network.input_shapes, preprocessing)
    feeds = next(islice(pieces, index // 32, None)).feeds()
    feeds, _ = network.check_feeds({name: x[index % 32 :][:1] for name, x in feeds.items()})
    return feeds


def _evidence(over_time: Array, ann: Array) -> dict[str, Any] | None:
    """Values of the leading classes at every step, or None where outputs are not classes."""
    if over_time.ndim != 2 or over_time.shape[1] < 2 or over_time.dtype.kind != "f":
        return None
    if not np.isfinite(over_time).all():
        return None
    leading = np.argsort(-np.maximum(over_time[-1], ann), kind="stable")[:CLASSES]
    return {
        "classes": leading.tolist(),
        "steps": _rounded(over_time[:, leading]),
        "ann": _rounded(ann[leading]),
        "decided": over_time.argmax(axis=1).tolist(),
        "ann_decided": int(ann.argmax()),
    }


def picture(image: Array) -> str | None:
    """An input as a PNG in base64, stretched to its own range; None where it is no picture.

    Args:
        image: [C,H,W] or [H,W,C] with 1 or 3 channels.
    """
    from PIL import Image

    if image.ndim != 3 or not {1, 3} & {image.shape[0], image.shape[2]}:
        return None
    if image.shape[0] in (1, 3):
        image = np.moveaxis(image, 0, 2)
    low, high = float(image.min()), float(image.max())
    scaled = np.rint((image - low) / max(high - low, 1e-9) * 255).astype(np.uint8)
    shown = Image.fromarray(scaled[:, :, 0] if scaled.shape[2] == 1 else scaled)
    shown.thumbnail((256, 256))
    buffer = io.BytesIO()
    shown.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def provenance(network: Network, command: str, files: Mapping[str, str | Path]) -> dict[str, Any]:
    """Versions, hashes and the command line."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    hashes = {}
    for what, path in files.items():
        if Path(path).is_file():
            with Path(path).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            hashes[what] = {"name": Path(path).name, "sha256": digest}
    return {
        "command": command,
        "versions": versions,
        "files": hashes,
        "source_sha256": network.metadata.get("source_sha256"),
        "converted_with": network.metadata.get("onnx2snn"),
        "backend": network.backend.name,
        "machine": f"{platform.system()} {platform.machine()}",
    }


def _rounded(values: Array) -> Any:
    """Numbers for JSON with six significant digits: enough for a picture."""
    return np.vectorize(lambda x: float(f"{x:.6g}"), otypes=[float])(values).tolist()
