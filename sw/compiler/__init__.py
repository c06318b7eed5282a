"""The compiler: from a quantised model to a program and a memory image for one machine."""
