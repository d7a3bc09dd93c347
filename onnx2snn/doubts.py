"""Whether the calibration images are worth calibrating on, and whether the network knows them.

Wrong preprocessing is the likeliest mistake, and nothing else tells of it: thresholds fit what the
network was given, and the spiking network agrees with the ANN on images that mean nothing to it.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress

import onnx

from onnx2snn.calibration.images import CalibrationSource
from onnx2snn.decision import PERCENT, is_classes
from onnx2snn.options import LARGEST_TIMESTEPS
from onnx2snn.passes import Note
from onnx2snn.passes.quantisation import StripQuantisation
from onnx2snn.preparation import Preparation
from onnx2snn.spiking_model import SpikingModel
from onnx2snn.verification.verify import relative_error
from onnx2snn_runtime.errors import DataError, Onnx2SnnError

IMAGES = 128
FEWEST_IMAGES = 32
POOR = 50.0  # percent of labelled images
OTHER = 10.0  # percent of the deviation: rounding to 8 bits changes 1 to 5


def refuse_constant(source: CalibrationSource, network: onnx.ModelProto) -> None:
    """Images that are all one colour say nothing about any activation.

    Raises:
        DataError: every value of the first images is the same.
    """
    if source.is_noise:
        return
    first = next(source.batches(network, FEWEST_IMAGES))
    values = {float(array.min()) for array in first.values()}
    if len(values) == 1 and values == {float(array.max()) for array in first.values()}:
        count = len(next(iter(first.values())))
        raise DataError(
            f"the calibration images are constant: every value of the first {count} is "
            f"{values.pop():g}",
            advice="calibrate on images like those that the network will see",
        )


def doubts(
    source: CalibrationSource,
    preparation: Preparation,
    file: onnx.ModelProto,
    notes: Sequence[Note],
) -> Iterator[str]:
    """What speaks against the images, and against the file: the ANN as it was given."""
    yield from doubts_of_images(source, preparation)
    if any(note.pass_name == StripQuantisation.name for note in notes):
        yield from other_answers(file, source, preparation)


def doubts_of_images(source: CalibrationSource, preparation: Preparation) -> Iterator[str]:
    """Few images, and labels that the network does not know."""
    if not source.is_noise and source.count < FEWEST_IMAGES:
        yield (
            f"only {source.count} calibration images: thresholds may not hold for new images; "
            f"use at least {FEWEST_IMAGES}, better 500"
        )
    labels = source.labels(min(IMAGES, source.count))
    if labels is None or len(labels) < FEWEST_IMAGES:
        return
    answers = preparation.answer(preparation.images(len(labels)))
    if not is_classes(answers):
        return
    if labels.max() >= answers.shape[1]:
        yield (
            f"calibration images have the label {labels.max()}, and the network tells "
            f"{answers.shape[1]} classes: labels count from 0"
        )
        return
    right = PERCENT * float((answers.argmax(axis=1) == labels).mean())
    yield from strange_labels(right, f"{len(labels)} labelled calibration images")


def other_answers(
    file: onnx.ModelProto, source: CalibrationSource, preparation: Preparation
) -> Iterator[str]:
    """Where the file answers otherwise than its normal form, as quantisers clip and round."""
    if source.is_noise:
        return
    feeds = preparation.images(FEWEST_IMAGES)
    with suppress(Onnx2SnnError):  # a fixed batch, or what this backend cannot compute
        expected = preparation.backend.compile(file)(feeds)[preparation.decides]
        found = preparation.answer(feeds)
        if expected.dtype.kind != "f" or expected.shape != found.shape:
            return
        error = PERCENT * relative_error(found, expected)
        if error > OTHER:
            yield (
                f"the file's quantisers change its outputs by {error:.0f} % on calibration images; "
                "they are removed, and the SNN stands for the network without them: convert the "
                "float network that was quantised instead"
            )


def strange_labels(right: float, images: str) -> Iterator[str]:
    """What speaks against the labels, if the ANN answers so many percent of the images right."""
    if right < POOR:
        yield (
            f"the ANN itself answers only {right:.0f} % of {images} as their labels say: is "
            "--preprocess what it was trained with, and are the labels in its order of classes?"
        )


def shortcomings(
    result: SpikingModel, preparation: Preparation, target_drop: float | None
) -> Iterator[str]:
    """What a conversion has not reached."""
    if result.tuning is not None and not result.tuning.reached:
        yield (
            f"no setting met the target of {target_drop} points; the most accurate one is used, "
            f"with an expected loss of {result.tuning.chosen.loss_text}; more steps may do it "
            f"(--max-timesteps, {LARGEST_TIMESTEPS} at most)"
        )
    yield from (note.text for note in result.notes if note.is_warning)
    if preparation.source.is_noise:
        yield without_images(preparation)


def without_images(preparation: Preparation) -> str:
    """The warning of a conversion that was given no calibration images."""
    layers, known = len(preparation.histograms), preparation.from_statistics
    if not known:
        return (
            "no calibration images: thresholds come from random noise and are probably poor; "
            "give real images with --calibration"
        )
    rest = f", of the other {layers - known} from random noise" if known < layers else ""
    return (
        f"no calibration images: thresholds of {known} layers are estimated from the statistics "
        f"of BatchNormalization{rest}; give real images with --calibration"
    )
