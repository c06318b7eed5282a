"""Models in Verilog, SystemVerilog and C++ that run inside the simulator: memories, cells, boards, main programs."""

from pathlib import Path

MODELS = Path(__file__).parent
