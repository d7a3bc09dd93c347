"""The spiking network beside the ANN on data, layer by layer."""
