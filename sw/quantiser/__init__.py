"""The quantiser: calibration, scales, rounding, and the integer form of each layer."""
