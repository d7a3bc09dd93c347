"""What a conversion has built before it is checked and written."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from onnx2snn.calibration.calibrate import LayerCalibration
from onnx2snn.passes.base import Note
from onnx2snn.rewriting.classify import Placed


@dataclass(frozen=True)
class Built:
    """A spiking network with what is known of its making.

    Attributes:
        spiking: the network of one step.
        placed: nodes of the ANN with the roles that they have here.
        thresholds: output tensor of a neuron to its threshold.
        units: of an integer network: output tensor of a layer to the value of the integer 1.
        record: of an integer network: what the file remembers of its proof.
        notes: what had to give way to whole numbers.
    """

    spiking: onnx.ModelProto
    placed: list[Placed]
    thresholds: dict[str, LayerCalibration]
    units: dict[str, Any] | None = None
    record: dict[str, Any] | None = None
    notes: Sequence[Note] = ()
