"""Settings chosen on calibration images: recipe and thresholds, and the rule of early exit."""
