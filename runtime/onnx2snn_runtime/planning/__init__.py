"""From a checked file to the plan of a run: segments, operators, what they share."""
