"""The image loader: pixels from memory become patch rows in the scratchpad."""
