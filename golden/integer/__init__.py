"""The integer golden model: it defines, bit for bit, what the accelerator computes."""
