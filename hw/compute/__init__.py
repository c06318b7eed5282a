"""The compute unit: stationary banks, multiplier array, engine, requantiser, GELU and write-back."""
