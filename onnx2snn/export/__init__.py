"""Other forms of a spiking network: one ONNX Loop, a NIR graph."""
