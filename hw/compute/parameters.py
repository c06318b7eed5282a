"""ParameterStore: the ring of requantiser constants that the weight stream fills ahead of the running job."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In

from tessera.hw.blocks.checks import check
from tessera.hw.blocks.fields import same_fields
from tessera.hw.blocks.pipeline import delay
from tessera.hw.config import AcceleratorConfig
from tessera.hw.formats import Numerics
from tessera.hw.interfaces.compute import ParameterAccount, parameter_read, parameter_set_layout
from tessera.hw.interfaces.memory import BLOCK_LATENCY, MEMORY_LATENCY
from tessera.hw.isa import COUNT_WIDTH


def _stored_layout(numerics: Numerics) -> data.StructLayout:
    """Fields of a parameter set that are kept; its reserved bits are not."""
    return data.StructLayout(
        {"bias": numerics.bias.width, "multiplier": numerics.multiplier_width, "shift": numerics.shift_width}
    )


class ParameterStore(wiring.Component):
    """Ring of ``parameter_entries`` parameter sets, numbered from reset on, modulo the ring.

    Parameters
    ----------
    config:
        Sizes. A job has a multiple of ``requantise_lanes`` R sets (asserted).

    Members
    -------
    write: In(stream of ArrayLayout(parameter_set, entries_per_chunk))
        Sets in order; not ready while the ring is full.
    account: In(ParameterAccount)
        Sets that have come and not been given back, and sets that are given back.
    read: In(TableRead)
        The address is the number of a set, modulo the ring. Data is the aligned group of R sets that contains it,
        MEMORY_LATENCY cycles later; reserved bits are 0.

    Timing: one read and one write per cycle. A set can be read from the cycle after it was accepted.
    Resources: ``parameter_entries`` x 55 bits of block RAM.

    Raises
    ------
    ValueError
        When R is not a power of two or exceeds the ring.
    """

    LATENCY = MEMORY_LATENCY

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        group = config.requantise_lanes
        if group & (group - 1) or group > config.parameter_entries:
            raise ValueError(
                f"requantise_lanes is {group}; choose a power of two of at most parameter_entries "
                f"({config.parameter_entries}): sets are read in aligned groups of so many"
            )
        super().__init__(
            {
                "write": In(stream.Signature(data.ArrayLayout(parameter_set_layout(config), config.entries_per_chunk))),
                "account": In(ParameterAccount()),
                "read": In(parameter_read(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        entries, group, chunk = config.parameter_entries, config.requantise_lanes, config.entries_per_chunk
        tail, level = Signal(range(entries)), Signal(range(entries + 1))
        release, accepted = self.account.release, Signal()
        m.d.comb += accepted.eq(self.write.valid & self.write.ready)
        # Ready is registered, because the weight stream's next chunks depend on it.
        m.d.sync += self.write.ready.eq(level <= Mux(accepted, entries - 2 * chunk, entries - chunk))
        # Sets are counted, not compared by number: their numbers go on modulo the ring.
        released = Signal(COUNT_WIDTH)
        with m.If(accepted):
            m.d.sync += tail.eq(tail + chunk)
        with m.If(release.valid):
            m.d.comb += released.eq(release.payload)
        m.d.comb += self.account.level.eq(level)
        m.d.sync += level.eq(level + (accepted << (chunk.bit_length() - 1)) - released)
        read_entry = Signal(range(entries))
        m.d.comb += read_entry.eq(delay(m, self.read.address, self.LATENCY - BLOCK_LATENCY, name="index"))

        # A group lies in as many memories as a group has chunks, so that it is read at once and written chunk by chunk.
        group_bits = group.bit_length() - 1
        chunk_bits = chunk.bit_length() - 1
        row = data.ArrayLayout(_stored_layout(config.numerics), chunk)
        for part in range(group // chunk):
            ram = memory.Memory(shape=row, depth=entries // group, init=[])
            m.submodules[f"part_{part}"] = ram
            write_port, read_port = ram.write_port(), ram.read_port()
            m.d.comb += [
                write_port.addr.eq(tail[group_bits:]),
                write_port.en.eq(accepted & (tail[chunk_bits:group_bits] == part)),
                read_port.addr.eq(read_entry[group_bits:]),
            ]
            for index in range(chunk):
                source, target = self.write.payload[index], self.read.data[part * chunk + index]
                m.d.comb += same_fields(write_port.data[index], source)
                m.d.sync += same_fields(target, read_port.data[index], *row.elem_shape.members)

        check(m, release.valid, release.payload <= level, "{} sets released of {}", release.payload, level)
        check(m, release.valid, (release.payload & (group - 1)) == 0, "{} sets released", release.payload)
        return m
