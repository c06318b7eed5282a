"""Settings that all tests share."""

import os

# Set before NumPy or PyTorch start their threads: parallel workers would otherwise fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Machines run for seconds here; compiling them for hours of simulation would take most of the suite's time.
os.environ.setdefault("TESSERA_QUICK_BUILDS", "1")
