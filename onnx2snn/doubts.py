"""Whether the network knows the calibration images.

Wrong preprocessing is the likeliest mistake, and nothing else tells of it: thresholds fit what the
network was given, and the spiking network agrees with the ANN on images that mean nothing to it.
"""

from onnx2snn.calibration_images import CalibrationSource
from onnx2snn.decision import PERCENT, is_classes
from onnx2snn.preparation import Preparation

IMAGES = 128
FEWEST_IMAGES = 32
POOR = 50.0  # percent of labelled images


def doubt(source: CalibrationSource, preparation: Preparation) -> str:
    """What speaks against the images, or nothing: an ANN that answers few as their labels say."""
    labels = source.labels(min(IMAGES, source.count))
    if labels is None or len(labels) < FEWEST_IMAGES:
        return ""
    answers = preparation.answer(preparation.images(len(labels)))
    if not is_classes(answers) or labels.max() >= answers.shape[1]:
        return ""
    right = PERCENT * float((answers.argmax(axis=1) == labels).mean())
    if right >= POOR:
        return ""
    return (
        f"the ANN itself answers only {right:.0f} % of {len(labels)} labelled calibration images "
        "as their labels say: is --preprocess what it was trained with, and are the labels in its "
        "order of classes?"
    )
