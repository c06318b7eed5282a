"""Which backbones of timm the machine runs: ``python -m tests.backbones`` measures them and writes the docs' table."""
