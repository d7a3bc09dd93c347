"""Run spiking neural networks stored as ONNX files, on numpy and onnx alone."""
