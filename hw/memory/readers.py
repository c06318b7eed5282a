"""ResidualReaders: one read port of the residual memory for three units."""

from __future__ import annotations

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.jobs import place_layout
from tessera.hw.interfaces.memory import residual_read


class ResidualReaders(wiring.Component):
    """Passes on the read of the first reader that has one.

    Write-back comes first, because its pipeline cannot wait. LayerNorm takes the cycles that are left, and the store
    those that LayerNorm leaves.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    writeback, layernorm, store: In(MemoryRead)
        The readers. Data comes ``tessera.hw.interfaces.memory.RESIDUAL_LATENCY`` cycles after the read.
    writeback_place, layernorm_place, store_place: In(place)
        Places of the jobs that read.
    layernorm_ready, store_ready: Out(1)
        LayerNorm or the store may read in this cycle.
    memory: Out(MemoryRead)
        The residual memory.
    reader: Out(place)
        Place of the job whose read ``memory`` shows.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        super().__init__(
            {
                "writeback": In(residual_read(config)),
                "layernorm": In(residual_read(config)),
                "store": In(residual_read(config)),
                "writeback_place": In(place_layout(config)),
                "layernorm_place": In(place_layout(config)),
                "store_place": In(place_layout(config)),
                "layernorm_ready": Out(1),
                "store_ready": Out(1),
                "memory": Out(residual_read(config)),
                "reader": Out(place_layout(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """A register between readers and memory, because they stand far apart; RESIDUAL_LATENCY counts it."""
        m = Module()
        readers = (
            (self.writeback, self.writeback_place),
            (self.layernorm, self.layernorm_place),
            (self.store, self.store_place),
        )
        m.d.sync += self.memory.enable.eq(Cat(read.enable for read, _ in readers).any())
        m.d.comb += [
            self.layernorm_ready.eq(~self.writeback.enable),
            self.store_ready.eq(~self.writeback.enable & ~self.layernorm.enable),
        ]
        for read, place in reversed(readers):
            m.d.comb += read.data.eq(self.memory.data)
            with m.If(read.enable):
                m.d.sync += [self.memory.address.eq(read.address), self.reader.eq(place)]
        return m
