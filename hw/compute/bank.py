"""StationaryBanks: one bank of words for each processing element, written from three sources, read together."""

from __future__ import annotations

from amaranth.hdl import Assert, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.blocks.pipeline import copy, delay
from hw.config import AcceleratorConfig
from hw.interfaces.memory import (
    BLOCK_LATENCY,
    MEMORY_LATENCY,
    bank_exponentials_layout,
    bank_fill_layout,
    bank_hold_layout,
    lanes_layout,
)
from hw.interfaces.strobe import Strobe


class StationaryBanks(wiring.Component):
    """The stationary operands of the array: P memories of ``bank_words`` words of T lanes, one write and one read port.

    Writers take turns: held rows first (they cannot wait), then exponentials, then weights, whichever elements they
    write, so that who waits follows from valid bits alone. A word may be read in the cycle after it was written.

    Parameters
    ----------
    config:
        Sizes. Groups of G = ``words_per_chunk`` elements are filled, groups of E = ``exponential_lanes`` get
        exponentials.

    Members
    -------
    fill:
        Weight words, one for each of G elements.
    hold:
        One word for one element: a held query, or a held token when roles are swapped.
    exponentials:
        One lane for each of E elements; ``clear`` begins a word with zeros in its other lanes. An element's word is
        written anew with each of its lanes, so no other writer may touch it in between.
    read_enable, read_address, read_data:
        One address for all elements; P words, ``LATENCY`` cycles later, every cycle, as they are ``READ_DELAY`` cycles
        after the address came. Until then, and in that cycle, a word with ``read_enable`` must not be written
        (asserted): block RAM leaves open which of the two it returns.

    Resources: P block memories of ``bank_words`` x T x A bits; a word for each element written at once, on the way to
    them; and P words in look-up table RAM in which exponentials gather: memories with an enable for each lane would
    need none, but simulate a third slower.
    """

    LATENCY = MEMORY_LATENCY + 1
    READ_DELAY = LATENCY - BLOCK_LATENCY - 2

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        self._words = max(config.exponential_lanes, config.words_per_chunk)
        super().__init__(
            {
                "fill": In(stream.Signature(bank_fill_layout(config))),
                "hold": In(Strobe(bank_hold_layout(config))),
                "exponentials": In(stream.Signature(bank_exponentials_layout(config))),
                "read_enable": In(1),
                "read_address": In(range(config.bank_words)),
                "read_data": Out(data.ArrayLayout(lanes_layout(config), config.elements)),
            }
        )

    def elaborate(self, platform):
        """Arbitrate, and build one memory for each element."""
        m = Module()
        fill, hold, exponentials = self.fill, self.hold, self.exponentials
        group, exponential_group = self.config.words_per_chunk, self.config.exponential_lanes
        m.d.comb += [
            exponentials.ready.eq(~hold.valid),
            fill.ready.eq(~(hold.valid | exponentials.valid)),
        ]
        # What is taken spends a cycle on the way to the banks, in which each finds out whether it is meant.
        address = Signal(range(self.config.bank_words))
        with m.If(hold.valid):
            m.d.sync += address.eq(hold.payload.address)
        with m.Elif(exponentials.valid):
            m.d.sync += address.eq(exponentials.payload.address)
        with m.Else():
            m.d.sync += address.eq(fill.payload.address)
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
        # Elements that are written at once get words of their own; others may see the same one.
        words = [Signal(lanes_layout(self.config).size, name=f"word_{j}", reset_less=True) for j in range(self._words)]
        target = Signal.like(address, name="target", reset_less=True)
        with m.If(takes.any()):
            m.d.sync += target.eq(address)
            for j, word in enumerate(words):
                sources = extended[j % exponential_group], filled.data[j % group]
                m.d.sync += word.eq(Mux(takes[0], held.data, Mux(takes[1], *sources)))
        asked = [(self.read_enable, self.read_address)]
        for stage in range(self.LATENCY - BLOCK_LATENCY - 1):
            asked.append(tuple(delay(m, value, 1, name=f"asked_{stage}") for value in asked[-1]))
        for i in range(self.config.elements):
            memory = Memory(shape=self.read_data[i].shape().size, depth=self.config.bank_words, init=[])
            m.submodules[f"bank_{i}"] = memory
            write, read = memory.write_port(), memory.read_port()
            meant = Cat(held.element == i, raised.group == i // exponential_group, filled.group == i // group)
            m.d.sync += write.en.eq((takes & meant).any())
            place = copy(m, asked[-1][1], name=f"place_{i}")
            m.d.comb += [write.addr.eq(target), write.data.eq(words[i % self._words]), read.addr.eq(place)]
            m.d.sync += Value.cast(self.read_data[i]).eq(read.data)
        writers = (
            (hold.valid, hold.payload.address),
            (exponentials.valid & exponentials.ready, exponentials.payload.address),
            (fill.valid & fill.ready, fill.payload.address),
        )
        for valid, place in writers:
            unread = [~(enable & (place == read_address)) for enable, read_address in asked[: self.READ_DELAY + 1]]
            m.d.sync += Assert(~valid | Cat(unread).all(), "a bank word is written while it is being read")
        return m

    def _gather(self, m: Module, taken: data.View, valid: Value) -> list[Value]:
        """The words of the E elements that exponentials are taken for, with the new lanes; kept until the next come.

        Asserts that a word's lanes come one after the other.
        """
        stream, config = self.exponentials, self.config
        width = config.numerics.activation_width
        chosen, keep = Signal(config.lanes), Signal(lanes_layout(config).size)
        stays = ~(chosen | taken.clear.replicate(config.lanes))
        m.d.comb += [
            chosen.eq(1 << taken.lane),
            keep.eq(Cat(bit.replicate(width) for bit in stays)),
        ]
        # Of at least two words: one by itself would not be look-up table RAM but flip-flops.
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
            m.d.sync += Assert(
                stream.payload.clear | (begun[stream.payload.group] == stream.payload.address),
                "exponentials: another word without clear",
            )
        return extended
