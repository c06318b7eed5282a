"""The Python API: what ``import tessera`` offers. The command line offers the same."""
