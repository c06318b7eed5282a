"""From a quantised model to a program and a memory image for one machine."""
