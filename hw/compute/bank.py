"""StationaryBanks: one bank of words for each processing element, written from three sources, read together."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.interfaces import MEMORY_LATENCY, Strobe, bank_exponentials, bank_fill, bank_hold, lanes


class StationaryBanks(wiring.Component):
    """The stationary operands of the array: P memories of ``bank_words`` words of T lanes, one write and one read port.

    Writers of the same element in the same cycle take turns: held rows first (they cannot wait), then exponentials,
    then weights. Writers of different elements do not disturb each other. A word may be read in the cycle after it was
    written.

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
        One lane for each of E elements; ``clear`` zeroes the word's other lanes.
    read_address, read_data:
        One address for all elements; P words, ``LATENCY`` cycles later, every cycle.

    Resources: P block memories of ``bank_words`` x T x A bits with lane enables.
    """

    LATENCY = MEMORY_LATENCY

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        super().__init__(
            {
                "fill": In(stream.Signature(bank_fill(config))),
                "hold": In(Strobe(bank_hold(config))),
                "exponentials": In(stream.Signature(bank_exponentials(config))),
                "read_address": In(range(config.bank_words)),
                "read_data": Out(data.ArrayLayout(lanes(config), config.elements)),
            }
        )

    def elaborate(self, platform):
        """Arbitrate, and build one memory for each element."""
        m = Module()
        fill, hold, exponentials = self.fill, self.hold, self.exponentials
        elements, group, exponential_group = (
            self.config.elements,
            self.config.words_per_chunk,
            self.config.exponential_lanes,
        )
        held, computed, filled = Signal(elements), Signal(elements), Signal(elements)
        for i in range(elements):
            m.d.comb += [
                held[i].eq(hold.valid & (hold.payload.element == i)),
                computed[i].eq(exponentials.valid & (exponentials.payload.group == i // exponential_group)),
                filled[i].eq(fill.valid & (fill.payload.group == i // group)),
            ]
        m.d.comb += [
            exponentials.ready.eq(~(computed & held).any()),
            fill.ready.eq(~(filled & (held | computed)).any()),
        ]
        words, lane_enable = self._exponential_words(m)
        for i in range(elements):
            memory = Memory(shape=self.read_data[i].shape().size, depth=self.config.bank_words, init=[])
            m.submodules[f"bank_{i}"] = memory
            write = memory.write_port(granularity=self.config.numerics.activation_width)
            read = memory.read_port()
            with m.If(held[i]):
                m.d.comb += [write.addr.eq(hold.payload.address), write.data.eq(hold.payload.data), write.en.eq(-1)]
            with m.Elif(computed[i]):
                m.d.comb += [
                    write.addr.eq(exponentials.payload.address),
                    write.data.eq(words[i % exponential_group]),
                    write.en.eq(Mux(exponentials.ready, lane_enable, 0)),
                ]
            with m.Else():
                m.d.comb += [
                    write.addr.eq(fill.payload.address),
                    write.data.eq(fill.payload.data[i % group]),
                    write.en.eq(Mux(filled[i] & fill.ready, -1, 0)),
                ]
            m.d.comb += read.addr.eq(self.read_address)
            m.d.sync += Value.cast(self.read_data[i]).eq(read.data)
        return m

    def _exponential_words(self, m: Module) -> tuple[list[Signal], Signal]:
        """Return a word for each exponential of the group (it in its lane, else zeros), and the lanes to write."""
        payload = self.exponentials.payload
        chosen, enable = Signal(self.config.lanes), Signal(self.config.lanes)
        m.d.comb += [
            chosen.eq(1 << payload.lane),
            enable.eq(chosen | payload.clear.replicate(self.config.lanes)),
        ]
        words = []
        for k in range(self.config.exponential_lanes):
            word = Signal(lanes(self.config), name=f"exponential_word_{k}")
            m.d.comb += [word[lane].eq(Mux(chosen[lane], payload.data[k], 0)) for lane in range(self.config.lanes)]
            words.append(Value.cast(word))
        return words, enable
