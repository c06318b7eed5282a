"""Settings that all tests share."""

import os

import pytest

# Set before NumPy or PyTorch start their threads: parallel workers would otherwise fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Machines run for seconds here; compiling them for hours of simulation would take most of the suite's time.
os.environ.setdefault("TESSERA_QUICK_BUILDS", "1")


def pytest_collection_modifyitems(items):
    """Refuse a test whose name holds an object's address: parallel workers would not agree on the names."""
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(f"{item.nodeid}: the name holds an address; give the parameters ids of their own")
