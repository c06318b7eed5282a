"""How Yosys maps to each family: its own script, and where in it memories are mapped."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Flow:
    """One family's script.

    ``command`` runs it. ``primitives`` reads the ports of the family's cells, some of which a design itself names.
    ``stages`` are ranges of its labels, with what they do and the share of the work that lies before them; the one that
    begins with ``memories`` maps memories, of which those with ``block`` in their primitive's name are block RAMs.
    ``sums`` makes gates of what must not become a multiplier block, where the script itself would not.
    """

    command: str
    primitives: str
    stages: tuple[tuple[str, str, float], ...]
    memories: str
    block: str
    sums: tuple[str, ...] = ()

    @property
    def first(self) -> str:
        """Label that the first stage begins with."""
        return self.stages[0][0].partition(":")[0]


FLOWS = {
    "ecp5": Flow(
        command="synth_ecp5 -abc9",
        primitives="read_verilog -lib -specify +/ecp5/cells_sim.v +/ecp5/cells_bb.v",
        stages=(
            ("coarse:map_ram", "optimising", 0.2),
            ("map_ram:map_ffram", "mapping memories", 0.35),
            ("map_ffram:map_luts", "mapping to gates", 0.4),
            ("map_luts:check", "mapping to look-up tables", 0.6),
        ),
        memories="map_ram",
        block="16K",
    ),
    "xcup": Flow(
        command="synth_xilinx -family xcup -flatten -noiopad -noclkbuf",
        primitives="read_verilog -lib -specify +/xilinx/cells_sim.v +/xilinx/cells_xtra.v",
        stages=(
            ("prepare:map_memory", "optimising", 0.2),
            ("map_memory:map_ffram", "mapping memories", 0.4),
            ("map_ffram:map_luts", "mapping to gates", 0.5),
            ("map_luts:check", "mapping to look-up tables", 0.7),
        ),
        memories="map_memory",
        block="BLOCKRAM",
        sums=("maccmap",),
    ),
}
"""By the names of ``tessera.sw.fpga.synthesis.cost.FAMILIES``."""
