"""Parts of the quantiser: calibration, scales, layers."""
