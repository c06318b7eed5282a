"""A run from checkpoint to verified frames: preparation, execution, and estimates of its duration."""
