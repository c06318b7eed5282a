"""OnChipMemory: block RAM as an AXI4 memory, for a board without DRAM that can be used."""

from __future__ import annotations

from amaranth.hdl import Assert, Cat, Module, ResetSignal, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from hw.config import AcceleratorConfig
from hw.interfaces.axi import Axi4Read, Axi4Write
from hw.interfaces.memory import BLOCK_LATENCY
from hw.interfaces.sdram import (
    SIZE_BYTES,
    WORD_BITS,
    finished_word_layout,
    read_word_layout,
    row_run_layout,
    write_word_layout,
)
from hw.interfaces.strobe import Strobe
from hw.sdram.bridge import MemoryBridge

LEAST_BYTES = 4096


class WordStore(wiring.Component):
    """Executes runs of words in block RAM, in order: what :class:`SdramController` is to a chip, without rows to open.

    No word is ever read in the cycle that writes it, so synthesis may leave out what would settle that.

    Parameters
    ----------
    size_bytes:
        Room; a power of two. Higher address bits are ignored.
    clients:
        Number of clients that a run may belong to.

    Members
    -------
    run, write_data, writer, written, read:
        As of :class:`hw.sdram.controller.SdramController`.

    Timing: a word a cycle, one idle cycle between two runs; a run to its first ``read`` 1 + BLOCK_LATENCY cycles.
    """

    def __init__(self, size_bytes: int, clients: int) -> None:
        self._words = 8 * size_bytes // WORD_BITS
        self._clients = clients
        finished = finished_word_layout(clients)
        super().__init__(
            {
                "run": In(stream.Signature(row_run_layout(clients))),
                "write_data": In(stream.Signature(write_word_layout())),
                "writer": Out(finished["client"].shape),
                "written": Out(Strobe(finished)),
                "read": Out(Strobe(read_word_layout(clients))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Keep one run and walk it."""
        m = Module()
        run = self.run
        current, address, active = Signal(row_run_layout(self._clients)), Signal(exact_log2(self._words)), Signal()
        access, last = Signal(), Signal()
        m.d.comb += [
            run.ready.eq(~active),
            access.eq(active & (~current.write | self.write_data.valid)),
            last.eq(current.words_minus_one == 0),
            self.writer.eq(current.client),
            self.write_data.ready.eq(active & current.write),
            self.written.valid.eq(access & current.write),
            self.written.payload.client.eq(current.client),
            self.written.payload.last.eq(last & current.final),
        ]
        with m.If(run.valid & run.ready):
            wanted = run.payload
            m.d.sync += [current.eq(wanted), address.eq(Cat(wanted.column, wanted.bank, wanted.row)), active.eq(1)]
        with m.If(access):
            m.d.sync += [
                address.eq(address + 1),
                current.words_minus_one.eq(current.words_minus_one - 1),
                active.eq(~last),
            ]
        self._store(m, address, self.written.valid)
        self._note(m, access & ~current.write, Cat(current.client, last & current.final))
        return m

    def _store(self, m: Module, address: Signal, writes: Signal) -> None:
        """Block RAM, one memory for each byte of a word, and its output register."""
        given, found = self.write_data.payload, Signal(WORD_BITS)
        m.d.sync += self.read.payload.data.eq(found)
        for lane in range(WORD_BITS // 8):
            m.submodules[f"lane_{lane}"] = storage = memory.Memory(shape=8, depth=self._words, init=[])
            write, read = storage.write_port(), storage.read_port()
            m.d.comb += [
                write.en.eq(writes & ~given.mask[lane]),
                write.addr.eq(address),
                write.data.eq(given.data.word_select(lane, 8)),
                read.en.eq(~writes),
                read.addr.eq(address),
                found.word_select(lane, 8).eq(read.data),
            ]
            with m.If(write.en & read.en & ~ResetSignal()):
                m.d.sync += Assert(write.addr != read.addr, "a word is read while it is written")

    def _note(self, m: Module, asked: Signal, origin: Cat) -> None:
        """Whose word it is travels along with it."""
        note = data.StructLayout({"valid": 1, "origin": finished_word_layout(self._clients)})
        earlier = Signal(note)
        m.d.comb += [earlier.valid.eq(asked), earlier.origin.eq(origin)]
        for step in range(BLOCK_LATENCY):
            later = Signal(note, name=f"asked_{step}")
            m.d.sync += later.eq(earlier)
            earlier = later
        m.d.comb += [self.read.valid.eq(earlier.valid), self.read.payload.origin.eq(earlier.origin)]


class OnChipMemory(wiring.Component):
    """Block RAM behind the bridge that shares an SDRAM among its clients: 16 bits a cycle, whatever the bus.

    Parameters
    ----------
    config:
        Width of the bus, at least 16 bits.
    size_bytes:
        A power of two from 4 KiB to 32 MB.
    readers, writers:
        Number of AXI4 read and write ports, taking turns.

    Members
    -------
    readers, writers:
        As of :class:`hw.sdram.memory.SdramMemory`; a burst that begins beyond ``size_bytes`` is answered with
        DECERR.
    initialised:
        Always 1: all bytes are 0 when the device is configured.

    Raises
    ------
    ValueError
        No client, a bus narrower than 16 bits, or a size that cannot be.
    """

    def __init__(self, config: AcceleratorConfig, size_bytes: int, *, readers: int = 1, writers: int = 1) -> None:
        if size_bytes & (size_bytes - 1) or not LEAST_BYTES <= size_bytes <= SIZE_BYTES:
            raise ValueError(f"size_bytes is {size_bytes}; choose a power of two from {LEAST_BYTES} to {SIZE_BYTES}")
        self._bridge = MemoryBridge(config, readers, writers, size_bytes)
        self._words = WordStore(size_bytes, readers + writers)
        super().__init__(
            {
                "readers": In(Axi4Read(config)).array(readers),
                "writers": In(Axi4Write(config)).array(writers),
                "initialised": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Wires."""
        m = Module()
        m.submodules.bridge = bridge = self._bridge
        m.submodules.on_chip_words = words = self._words
        for outer, inner in zip((*self.readers, *self.writers), (*bridge.readers, *bridge.writers), strict=True):
            connect(m, flipped(outer), inner)
        connect(m, bridge.run, words.run)
        connect(m, bridge.write_data, words.write_data)
        connect(m, words.written, bridge.written)
        connect(m, words.read, bridge.read)
        m.d.comb += [bridge.writer.eq(words.writer), self.initialised.eq(1)]
        return m
