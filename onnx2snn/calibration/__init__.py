"""What calibration images tell of each layer, and the thresholds that follow."""
