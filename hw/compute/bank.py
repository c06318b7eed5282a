"""StationaryBanks: one bank of words per processing element, written from three sources, read together."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In

from tessera.hw.blocks.checks import check
from tessera.hw.blocks.pipeline import copy, delay
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.memory import (
    BLOCK_LATENCY,
    MEMORY_LATENCY,
    MemoryRead,
    bank_exponentials_layout,
    bank_fill_layout,
    bank_hold_layout,
    lanes_layout,
)
from tessera.hw.interfaces.strobe import Strobe


class StationaryBanks(wiring.Component):
    """The stationary operands of the array: P memories of ``bank_words`` words of T lanes, one write and one read port.

    Writers take turns: held rows first, because they cannot wait, then exponentials, then weights. Arbitration depends
    only on the valid bits, not on the elements that are written. A word may be read in the cycle after it was written.

    Parameters
    ----------
    config:
        Sizes. Groups of G = ``words_per_chunk`` elements are filled, groups of E = ``exponential_lanes`` get
        exponentials.

    Members
    -------
    fill: In(stream(bank_fill))
        Weight words for G elements.
    hold: In(Strobe(bank_hold))
        One word for one element: a held query, or a held token when roles are swapped.
    exponentials: In(stream(bank_exponentials))
        One lane of E elements. ``clear`` begins a word with zeros in its other lanes. An element's word is written anew
        with each of its lanes, so no other writer may touch it in between.
    read: In(MemoryRead)
        One address for all elements. P words come ``LATENCY`` cycles later, as they are ``READ_DELAY`` cycles after the
        address came. Until then, and in that cycle, a word that is read must not be written (asserted), because block
        RAM may return the old or the new one.

    Resources: P block memories of ``bank_words`` x T x A bits; a word of registers per element written at once, on the
    way to them; and P words in look-up table RAM in which exponentials gather. Memories with an enable per lane would
    need no such RAM, but simulate a third slower.
    """

    LATENCY = MEMORY_LATENCY + 1
    READ_DELAY = LATENCY - BLOCK_LATENCY - 2

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        self._words = max(config.exponential_lanes, config.words_per_chunk)
        words = data.ArrayLayout(lanes_layout(config), config.elements)
        super().__init__(
            {
                "fill": In(stream.Signature(bank_fill_layout(config))),
                "hold": In(Strobe(bank_hold_layout(config))),
                "exponentials": In(stream.Signature(bank_exponentials_layout(config))),
                "read": In(MemoryRead(range(config.bank_words), words)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Arbitrate, and build one memory per element."""
        m = Module()
        fill, hold, exponentials = self.fill, self.hold, self.exponentials
        group, exponential_group = self._config.words_per_chunk, self._config.exponential_lanes
        m.d.comb += [
            exponentials.ready.eq(~hold.valid),
            fill.ready.eq(~(hold.valid | exponentials.valid)),
        ]
        # What is taken spends a cycle on the way to the banks, in which each bank decides whether it is written.
        address = Signal(range(self._config.bank_words))
        held_address, raised_address, filled_address = (p.payload.address for p in (hold, exponentials, fill))
        m.d.sync += address.eq(Mux(hold.valid, held_address, Mux(exponentials.valid, raised_address, filled_address)))
        held, filled, raised = (
            Signal(port.payload.shape(), name=name, reset_less=True)
            for port, name in ((hold, "held"), (fill, "filled"), (exponentials, "raised"))
        )
        for taken, port in ((held, hold), (filled, fill), (raised, exponentials)):
            with m.If(port.valid):
                m.d.sync += taken.eq(port.payload)
        takes = Signal(3)
        m.d.sync += takes.eq(Cat(hold.valid, exponentials.valid & exponentials.ready, fill.valid & fill.ready))
        extended = self._gather(m, raised, takes[1])
        # Elements that are written at once have words of their own; others share one.
        words = [Signal(lanes_layout(self._config).size, name=f"word_{j}", reset_less=True) for j in range(self._words)]
        target = Signal.like(address, name="target", reset_less=True)
        with m.If(takes.any()):
            m.d.sync += target.eq(address)
            for j, word in enumerate(words):
                sources = extended[j % exponential_group], filled.data[j % group]
                m.d.sync += word.eq(Mux(takes[0], held.data, Mux(takes[1], *sources)))
        asked = [(self.read.enable, self.read.address)]
        for stage in range(self.LATENCY - BLOCK_LATENCY - 1):
            asked.append(tuple(delay(m, value, 1, name=f"asked_{stage}") for value in asked[-1]))
        # Each bank has its own copy of the address beside it, because the banks lie all over the device.
        for i in range(self._config.elements):
            memory = Memory(shape=self.read.data[i].shape().size, depth=self._config.bank_words, init=[])
            m.submodules[f"bank_{i}"] = memory
            write, read = memory.write_port(), memory.read_port()
            meant = Cat(held.element == i, raised.group == i // exponential_group, filled.group == i // group)
            m.d.sync += write.en.eq((takes & meant).any())
            place = copy(m, asked[-1][1], name=f"place_{i}")
            m.d.comb += [write.addr.eq(target), write.data.eq(words[i % self._words]), read.addr.eq(place)]
            m.d.sync += Value.cast(self.read.data[i]).eq(read.data)
        writers = (
            (hold.valid, hold.payload.address),
            (exponentials.valid & exponentials.ready, exponentials.payload.address),
            (fill.valid & fill.ready, fill.payload.address),
        )
        for valid, place in writers:
            unread = [~(enable & (place == read_address)) for enable, read_address in asked[: self.READ_DELAY + 1]]
            check(m, valid, Cat(unread).all(), "a bank word is written while it is being read")
        return m

    def _gather(self, m: Module, taken: data.View, valid: Value) -> list[Value]:
        """The words of E elements with their new lanes. They are kept here until the next lanes come.

        A word's lanes come one after the other (asserted).
        """
        stream, config = self.exponentials, self._config
        width = config.numerics.activation_width
        chosen, keep = Signal(config.lanes), Signal(lanes_layout(config).size)
        stays = ~(chosen | taken.clear.replicate(config.lanes))
        m.d.comb += [
            chosen.eq(1 << taken.lane),
            keep.eq(Cat(bit.replicate(width) for bit in stays)),
        ]
        # At least two words: Yosys makes flip-flops of a memory of one.
        groups = max(2, config.elements // config.exponential_lanes)
        m.submodules.gathered = memory = Memory(shape=len(keep) * len(taken.data), depth=groups, init=[])
        kept, write = memory.read_port(domain="comb"), memory.write_port()
        extended = [
            (kept.data.word_select(index, len(keep)) & keep) | Cat(Mux(bit, exponential, 0) for bit in chosen)
            for index, exponential in enumerate(taken.data)
        ]
        m.d.comb += [
            kept.addr.eq(taken.group),
            write.addr.eq(taken.group),
            write.data.eq(Cat(extended)),
            write.en.eq(valid),
        ]
        begun = Signal(data.ArrayLayout(range(config.bank_words), config.elements // config.exponential_lanes))
        with m.If(stream.valid & stream.ready):
            m.d.sync += begun[stream.payload.group].eq(stream.payload.address)
            same_word = begun[stream.payload.group] == stream.payload.address
            check(m, 1, stream.payload.clear | same_word, "exponentials: another word without clear")
        return extended
