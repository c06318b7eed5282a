"""A run from checkpoint to verified frames: prepare, execute, and how long it takes."""
