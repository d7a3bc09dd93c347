"""The spiking network beside the ANN when it has been built: where it departs, and why."""
