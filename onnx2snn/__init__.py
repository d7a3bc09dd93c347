"""Turn any trained ONNX CNN into a spiking neural network."""

__version__ = "0.1.0"
