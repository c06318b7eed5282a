"""The integer golden model: what the accelerator must compute, bit for bit."""
