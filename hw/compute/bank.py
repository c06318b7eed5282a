"""StationaryBanks: one bank of words for each processing element, written from three sources, read together."""

from __future__ import annotations

from amaranth.hdl import Assert, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.interfaces import MEMORY_LATENCY, Strobe, bank_exponentials, bank_fill, bank_hold, lanes


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
        One address for all elements; P words, ``LATENCY`` cycles later, every cycle. With ``read_enable`` the word must
        not be written in that cycle (asserted): block RAM leaves open which of the two it returns.

    Resources: P block memories of ``bank_words`` x T x A bits, and P words of registers in which exponentials gather:
    memories with an enable for each lane would need none, but simulate a third slower.
    """

    LATENCY = MEMORY_LATENCY

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        super().__init__(
            {
                "fill": In(stream.Signature(bank_fill(config))),
                "hold": In(Strobe(bank_hold(config))),
                "exponentials": In(stream.Signature(bank_exponentials(config))),
                "read_enable": In(1),
                "read_address": In(range(config.bank_words)),
                "read_data": Out(data.ArrayLayout(lanes(config), config.elements)),
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
        address = Mux(
            hold.valid,
            hold.payload.address,
            Mux(exponentials.valid, exponentials.payload.address, fill.payload.address),
        )
        keep, placed = self._placement(m)
        for i in range(self.config.elements):
            memory = Memory(shape=self.read_data[i].shape().size, depth=self.config.bank_words, init=[])
            m.submodules[f"bank_{i}"] = memory
            write, read = memory.write_port(), memory.read_port()
            assembled = Signal(lanes(self.config).size, name=f"assembled_{i}")
            extended = (assembled & keep) | placed[i % exponential_group]
            computed = exponentials.valid & (exponentials.payload.group == i // exponential_group)
            m.d.comb += [
                write.addr.eq(address),
                write.data.eq(fill.payload.data[i % group]),
                write.en.eq(fill.valid & (fill.payload.group == i // group)),
            ]
            with m.If(exponentials.valid):
                m.d.comb += [write.data.eq(extended), write.en.eq(computed)]
            with m.If(hold.valid):
                m.d.comb += [write.data.eq(hold.payload.data), write.en.eq(hold.payload.element == i)]
            with m.Elif(computed):
                m.d.sync += assembled.eq(extended)
            m.d.comb += read.addr.eq(self.read_address)
            m.d.sync += Value.cast(self.read_data[i]).eq(read.data)
        writers = (
            (hold.valid, hold.payload.address),
            (exponentials.valid & exponentials.ready, exponentials.payload.address),
            (fill.valid & fill.ready, fill.payload.address),
        )
        collides = Cat(written & (address == self.read_address) for written, address in writers).any()
        m.d.sync += Assert(~(self.read_enable & collides), "a bank word is read in the cycle in which it is written")
        return m

    def _placement(self, m: Module) -> tuple[Signal, list[Signal]]:
        """Where the exponentials go in a word: a mask of the bits that stay, and the word's new bits for each of E.

        Asserts that a word's lanes come one after the other.
        """
        stream, config = self.exponentials, self.config
        width = config.numerics.activation_width
        chosen, keep = Signal(config.lanes), Signal(lanes(config).size)
        gathered = ~(chosen | stream.payload.clear.replicate(config.lanes))
        m.d.comb += [
            chosen.eq(1 << stream.payload.lane),
            keep.eq(Cat(bit.replicate(width) for bit in gathered)),
        ]
        placed = []
        for index, exponential in enumerate(stream.payload.data):
            word = Signal.like(keep, name=f"placed_{index}")
            m.d.comb += word.eq(Cat(Mux(bit, exponential, 0) for bit in chosen))
            placed.append(word)
        begun = Signal(data.ArrayLayout(range(config.bank_words), config.elements // config.exponential_lanes))
        with m.If(stream.valid & stream.ready):
            m.d.sync += begun[stream.payload.group].eq(stream.payload.address)
            m.d.sync += Assert(
                stream.payload.clear | (begun[stream.payload.group] == stream.payload.address),
                "exponentials: another word without clear",
            )
        return keep, placed
