"""Which memories Yosys makes of block RAM, and of how many blocks, on shapes that no configuration has."""

from pathlib import Path

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import memory
from amaranth.lib.wiring import Component, In, Out

from tessera.sw.fpga.measure import measure
from tessera.sw.fpga.resources.block_rams import block_rams
from tessera.sw.fpga.resources.inventory import RtlMemory

SHAPES = (
    (30, 100),
    (40, 72),
    (63, 30),
    (64, 24),
    (64, 26),
    (64, 48),
    (64, 51),
    (80, 20),
    (100, 24),
    (112, 16),
    (160, 40),
    (256, 18),
    (600, 20),
    (700, 100),
    (1100, 61),
    (1536, 88),
    (3000, 50),
    (5000, 13),
    (9000, 7),
)
"""Words and bits; the first ones about as cheap in look-up tables as in block RAM."""


class Storage(Component):
    """A memory with a port to write and one to read, a register behind it, and few pins."""

    def __init__(self, words: int, width: int) -> None:
        self.words, self.width = words, width
        super().__init__({"write": In(1), "bit": In(1), "at": In(14), "parity": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.words = words = memory.Memory(shape=self.width, depth=self.words, init=[])
        write, read = words.write_port(), words.read_port()
        held, shown, address = Signal(self.width), Signal(self.width), Signal(14)
        m.d.sync += [held.eq(Cat(self.bit, held)), address.eq(self.at), shown.eq(read.data)]
        m.d.comb += [
            write.en.eq(self.write),
            write.data.eq(held),
            write.addr.eq(address),
            read.addr.eq(self.at),
            self.parity.eq(shown.xor()),
        ]
        return m


class Storages(Component):
    """All of them, each a module of its own."""

    write: In(1)
    bit: In(1)
    at: In(14)
    parity: Out(len(SHAPES))

    def elaborate(self, platform):
        m = Module()
        for number, (words, width) in enumerate(SHAPES):
            m.submodules[f"storage_{number}"] = storage = Storage(words, width)
            m.d.comb += [
                *(getattr(storage, name).eq(getattr(self, name)) for name in ("write", "bit", "at")),
                self.parity[number].eq(storage.parity),
            ]
        return m


def test_block_rams_are_those_that_yosys_takes(tmp_path: Path) -> None:
    modules = measure(Storages(), tmp_path).modules
    counted = [modules[f"storage_{number}"]["bram"] for number in range(len(SHAPES))]
    worked_out = [block_rams(RtlMemory(path="any", words=words, width=width)) for words, width in SHAPES]
    assert dict(zip(SHAPES, worked_out, strict=True)) == dict(zip(SHAPES, counted, strict=True))
