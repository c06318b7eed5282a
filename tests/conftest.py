"""Settings that all tests share."""

import os

# Set before NumPy or PyTorch start their threads: parallel workers would otherwise fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
