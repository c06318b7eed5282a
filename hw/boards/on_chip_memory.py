"""OnChipMemory: block RAM as an AXI4 memory, for a board without DRAM that can be used."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In
from amaranth.utils import exact_log2

from tessera.hw.blocks.checks import check
from tessera.hw.blocks.fields import same_fields
from tessera.hw.blocks.pipeline import delay
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.memory import BLOCK_LATENCY
from tessera.hw.interfaces.sdram import SIZE_BYTES, WORD_BITS, WordAccess, finished_word_layout, row_run_layout
from tessera.hw.sdram.memory import BridgedMemory

LEAST_BYTES = 4096


class WordStore(wiring.Component):
    """Executes runs of words in block RAM, in order: the counterpart of ``SdramController``, without rows to open.

    No word is ever read in the cycle that writes it, so synthesis may leave out the logic for that case.

    Parameters
    ----------
    size_bytes:
        Size in bytes; a power of two. Higher address bits are ignored.
    clients:
        Number of clients that a run may belong to.

    Members
    -------
    words:
        Runs of words; :class:`tessera.hw.interfaces.sdram.WordAccess`.

    Timing: one word per cycle, one idle cycle between two runs; a run to its first ``read`` 1 + BLOCK_LATENCY cycles.
    """

    def __init__(self, size_bytes: int, clients: int) -> None:
        self._words = 8 * size_bytes // WORD_BITS
        self._clients = clients
        super().__init__({"words": In(WordAccess(clients))})

    def elaborate(self, platform: object) -> Module:
        """Keep one run and walk it."""
        m = Module()
        words, run = self.words, self.words.run
        current, address, active = Signal(row_run_layout(self._clients)), Signal(exact_log2(self._words)), Signal()
        access, last, origin = Signal(), Signal(), Signal(finished_word_layout(self._clients))
        m.d.comb += [
            run.ready.eq(~active),
            access.eq(active & (~current.write | words.write_data.valid)),
            last.eq(current.words_minus_one == 0),
            words.writer.eq(current.client),
            words.write_data.ready.eq(active & current.write),
            words.written.valid.eq(access & current.write),
            origin.client.eq(current.client),
            origin.last.eq(last & current.final),
            words.written.payload.eq(origin),
        ]
        # There are no rows to open, so bank, row and column are one address again.
        with m.If(run.valid & run.ready):
            wanted = run.payload
            m.d.sync += [current.eq(wanted), address.eq(Cat(wanted.column, wanted.bank, wanted.row)), active.eq(1)]
        # There is an idle cycle between two runs, because only one run is kept.
        with m.If(access):
            m.d.sync += [
                address.eq(address + 1),
                current.words_minus_one.eq(current.words_minus_one - 1),
                active.eq(~last),
            ]
        self._store(m, address, words.written.valid)
        # The origin of a word travels along with it, through the block RAM and its output register.
        m.d.comb += [
            words.read.valid.eq(delay(m, access & ~current.write, BLOCK_LATENCY, name="asked")),
            *same_fields(words.read.payload, delay(m, origin, BLOCK_LATENCY, name="origin"), "client", "last"),
        ]
        return m

    def _store(self, m: Module, address: Signal, writes: Signal) -> None:
        """Block RAM, one memory per byte of a word, and its output register."""
        given, found = self.words.write_data.payload, Signal(WORD_BITS)
        m.d.sync += self.words.read.payload.data.eq(found)
        # One memory per byte: a byte that is masked needs no write mask inside a memory.
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
            check(m, write.en & read.en, write.addr != read.addr, "a word is read while it is written")


class OnChipMemory(BridgedMemory):
    """Block RAM behind the bridge that shares an SDRAM among its clients: 16 bits per cycle, whatever the bus.

    Parameters
    ----------
    config, readers, writers:
        See :class:`tessera.hw.sdram.memory.BridgedMemory`.
    size_bytes:
        Size of the memory: a power of two from 4 KiB to 32 MB.

    Members
    -------
    readers, writers, initialised:
        See :class:`tessera.hw.sdram.memory.BridgedMemory`. ``initialised`` is always 1, because the device's
        configuration sets all bytes to 0.

    Raises
    ------
    ValueError
        There is no client, the bus is narrower than 16 bits, or the size is not one of those above.
    """

    def __init__(self, config: AcceleratorConfig, size_bytes: int, *, readers: int = 1, writers: int = 1) -> None:
        if size_bytes & (size_bytes - 1) or not LEAST_BYTES <= size_bytes <= SIZE_BYTES:
            raise ValueError(f"size_bytes is {size_bytes}; choose a power of two from {LEAST_BYTES} to {SIZE_BYTES}")
        super().__init__(config, readers=readers, writers=writers, size_bytes=size_bytes, others={})
        self._words = WordStore(size_bytes, readers + writers)

    def elaborate(self, platform: object) -> Module:
        """Wires."""
        m = Module()
        m.submodules.on_chip_words = words = self._words
        self.bridged(m, words.words)
        m.d.comb += self.initialised.eq(1)
        return m
