"""A small LiteX system with Tessera for a ULX3S: a serial bridge as the host, memory on chip, and the machine.

``tessera export --preset tiny -o build/core``, then ``python examples/litex/soc.py build/core -o build/litex``. It
needs LiteX (``pip install litex``). A board's own target adds the machine in the same way, with ``add_tessera``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from litex.build.generic_platform import IOStandard, Pins, Subsignal
from litex.build.io import CRG
from litex.build.lattice import LatticePlatform
from litex.soc.integration.builder import Builder
from litex.soc.integration.soc_core import SoCMini
from tessera_core import add_tessera

PINS = [
    ("clk25", 0, Pins("G2"), IOStandard("LVCMOS33")),
    ("reset", 0, Pins("R1"), IOStandard("LVCMOS33")),
    ("serial", 0, Subsignal("tx", Pins("L4")), Subsignal("rx", Pins("M1")), IOStandard("LVCMOS33")),
]
CLOCK_HZ = 25_000_000
MEMORY_BYTES = 128 * 1024
"""Enough for the program of the bench."""


class DemoSystem(SoCMini):
    """The system; ``litex_server`` on the other end of the serial line reads and writes registers and memory."""

    def __init__(self, core: Path) -> None:
        platform = LatticePlatform("LFE5U-85F-6BG381C", PINS, toolchain="trellis", name="demo")
        super().__init__(platform, CLOCK_HZ, bus_standard="axi", integrated_main_ram_size=MEMORY_BYTES)
        self.crg = CRG(platform.request("clk25"), platform.request("reset"))
        self.add_uartbone()
        add_tessera(self, core)


def main() -> None:
    """Write the system's Verilog, its register map, and scripts for Yosys and nextpnr; run none of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("core", type=Path, help="folder of tessera export")
    parser.add_argument("-o", "--out", type=Path, default=Path("build/litex"))
    arguments = parser.parse_args()
    soc = DemoSystem(arguments.core.resolve())
    out = arguments.out.resolve()
    builder = Builder(soc, output_dir=str(out), csr_json=str(out / "csr.json"), compile_software=False)
    builder.build(run=False, build_name="demo")
    print(f"Verilog: {out / 'gateware' / 'demo.v'}; registers of Tessera at {soc.bus.regions['tessera'].origin:#x}")


if __name__ == "__main__":
    main()
