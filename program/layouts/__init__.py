"""Layouts of tensors: one class for each rule from logical index to word and lane."""
