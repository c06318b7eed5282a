"""TokenQueues: which tokens each expert has to work on, and with what weight."""

from __future__ import annotations

from amaranth.hdl import Array, Assert, Cat, Format, Module, ResetSignal, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.blocks.pipeline import delay
from hw.config import AcceleratorConfig
from hw.interfaces.gate import (
    queue_address_layout,
    queue_append_layout,
    queue_counts_layout,
    queue_entry_layout,
    queue_write_layout,
)
from hw.interfaces.memory import BLOCK_LATENCY, MEMORY_LATENCY
from hw.interfaces.strobe import Strobe


class TokenQueues(wiring.Component):
    """A queue of max_tokens entries for each expert, in one memory.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    clear: In(1)
        Empty all queues.
    append: In(Strobe(queue_append))
        Append to an expert's queue.
    address: In(queue_address), entry: Out(queue_entry)
        Read port, MEMORY_LATENCY.
    counts: Out(queue_counts)
        Lengths, from the cycle after an append on.
    written: Out(Strobe(queue_write))
        What is being appended, in the same cycle.

    Resources: max_experts x max_tokens entries of block RAM.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "clear": In(1),
                "append": In(Strobe(queue_append_layout(config))),
                "address": In(queue_address_layout(config)),
                "entry": Out(queue_entry_layout(config)),
                "counts": Out(queue_counts_layout(config)),
                "written": Out(Strobe(queue_write_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, written = self._config, self.written.payload
        depth = config.max_experts * config.max_tokens
        m.submodules.entries = entries = memory.Memory(shape=queue_entry_layout(config), depth=depth, init=[])
        write, read = entries.write_port(), entries.read_port()
        address = Cat(self.address.position, self.address.expert)
        count = Signal(range(config.max_tokens + 1))
        # A cycle to find the count, one to write: the same expert does not come again in the next.
        appended, new = Signal(self.append.payload.shape()), self.append.payload
        valid = Signal()
        m.d.sync += [appended.eq(new), valid.eq(self.append.valid), count.eq(Array(self.counts)[new.expert])]
        new = appended
        m.d.comb += [
            written.expert.eq(new.expert),
            written.position.eq(count),
            written.token.eq(new.token),
            written.weight.eq(new.weight),
            self.written.valid.eq(valid),
            write.en.eq(valid),
            write.addr.eq(Cat(written.position, new.expert)),
            write.data.token.eq(new.token),
            write.data.weight.eq(new.weight),
            read.addr.eq(delay(m, address, MEMORY_LATENCY - BLOCK_LATENCY, name="address")),
        ]
        m.d.sync += self.entry.eq(read.data)
        with m.If(self.clear):
            m.d.sync += [length.eq(0) for length in self.counts]
        with m.Elif(valid):
            m.d.sync += Array(self.counts)[new.expert].eq(count + 1)
        with m.If(valid & ~ResetSignal()):
            m.d.sync += Assert(count < config.max_tokens, Format("queue of expert {} is full", new.expert))
        return m
