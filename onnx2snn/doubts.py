"""Whether calibration images look as the network was trained on.

Wrong preprocessing is the likeliest mistake, and nothing else tells of it: thresholds fit what the
network was given, and the spiking network agrees with the ANN on images that mean nothing to it.
"""

from collections.abc import Iterator

from onnx2snn.calibration_images import CalibrationSource
from onnx2snn.decision import PERCENT, is_classes
from onnx2snn.preparation import Preparation

IMAGES = 128
FEWEST_IMAGES = 32
POOR = 50.0  # percent of labelled images


def doubts(source: CalibrationSource, preparation: Preparation) -> Iterator[str]:
    """What the user should know: remarks on the data, and an ANN that hardly knows the images."""
    yield from source.notes
    labels = source.labels(min(IMAGES, source.count))
    if labels is None or len(labels) < FEWEST_IMAGES:
        return
    (answers, *_) = preparation.ann(preparation.images(len(labels))).values()
    if not is_classes(answers) or labels.max() >= answers.shape[1]:
        return
    right = PERCENT * float((answers.argmax(axis=1) == labels).mean())
    if right < POOR:
        yield (
            f"the ANN itself answers only {right:.0f} % of {len(labels)} labelled calibration "
            "images as their labels say: is --preprocess what it was trained with, and are the "
            "labels in its order of classes?"
        )
