"""The compute unit: stationary banks, array, engine, requantiser and write-back."""
