"""TokenQueues: which tokens each expert has to work on, and with what weight; and lists of rows."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.arithmetic import pick
from tessera.hw.blocks.checks import check
from tessera.hw.blocks.fields import assign
from tessera.hw.blocks.pipeline import delay
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.gate import (
    list_write_layout,
    queue_append_layout,
    queue_counts_layout,
    queue_entry_layout,
    queue_read,
    queue_write_layout,
)
from tessera.hw.interfaces.memory import BLOCK_LATENCY, MEMORY_LATENCY
from tessera.hw.interfaces.strobe import Strobe


class TokenQueues(wiring.Component):
    """One queue of max_tokens entries per expert, all in one memory.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    clear: In(1)
        Pulse: all queues become empty.
    append: In(Strobe(queue_append))
        Entry to append to an expert's queue. One expert's appends are at least two cycles apart.
    list_write: In(stream(list_write))
        Entries of lists of rows. They wait while the gate writes. Lengths of queues do not change.
    read: In(TableRead)
        Read port. Entries come MEMORY_LATENCY cycles later.
    counts: Out(queue_counts)
        Lengths, from two cycles after an append on.
    written: Out(Strobe(queue_write))
        The entry that is written, one cycle after its append.

    Resources: max_experts x max_tokens entries of block RAM.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "clear": In(1),
                "append": In(Strobe(queue_append_layout(config))),
                "list_write": In(stream.Signature(list_write_layout(config))),
                "read": In(queue_read(config)),
                "counts": Out(queue_counts_layout(config)),
                "written": Out(Strobe(queue_write_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, written, listed = self._config, self.written.payload, self.list_write
        m.submodules.entries = entries = memory.Memory(
            shape=queue_entry_layout(config), depth=config.list_entries, init=[]
        )
        write, read = entries.write_port(), entries.read_port()
        address = Cat(self.read.address.position, self.read.address.expert)
        # A cycle to find the count, one to write. The same expert does not come again in the next cycle, because a
        # token chooses each expert at most once.
        count = Signal(range(config.max_tokens + 1))
        new, valid = Signal(self.append.payload.shape()), self.written.valid
        m.d.sync += [
            new.eq(self.append.payload),
            count.eq(pick(self.counts, self.append.payload.expert)),
        ]
        m.d.comb += [
            valid.eq(delay(m, self.append.valid, 1, name="valid")),
            *assign(written, new.entry, expert=new.expert, position=count),
            listed.ready.eq(~valid),
            write.en.eq(valid | listed.valid),
            write.addr.eq(Mux(valid, Cat(count[: len(written.position)], new.expert), listed.payload.address)),
            Value.cast(write.data).eq(Mux(valid, Value.cast(new.entry), listed.payload.row)),
            read.addr.eq(delay(m, address, MEMORY_LATENCY - BLOCK_LATENCY, name="address")),
        ]
        m.d.sync += self.read.data.eq(read.data)
        with m.If(self.clear):
            m.d.sync += [length.eq(0) for length in self.counts]
        with m.Elif(valid):
            m.d.sync += pick(self.counts, new.expert).eq(count + 1)
        check(m, valid, count < config.max_tokens, "queue of expert {} is full", new.expert)
        return m
