"""ParameterStore: the ring of requantiser constants that the weight stream fills ahead of the running job."""

from __future__ import annotations

from amaranth.hdl import Assert, Format, Module, Mux, ResetSignal, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.blocks.pipeline import delay
from hw.config import AcceleratorConfig
from hw.formats import Numerics
from hw.interfaces.compute import parameter_set_layout
from hw.interfaces.memory import BLOCK_LATENCY, MEMORY_LATENCY
from hw.interfaces.strobe import Strobe


def _stored(numerics: Numerics) -> data.StructLayout:
    """What is kept of a parameter set."""
    return data.StructLayout(
        {"bias": numerics.bias.width, "multiplier": numerics.multiplier_width, "shift": numerics.shift_width}
    )


class ParameterStore(wiring.Component):
    """Ring of ``parameter_entries`` parameter sets, which users number from reset on, modulo the ring.

    Parameters
    ----------
    config:
        Sizes. The number of sets of a job is a multiple of ``requantise_lanes`` R (asserted).

    Members
    -------
    write: In(stream of ArrayLayout(parameter_set, entries_per_chunk))
        Sets in order; not ready while the ring is full.
    release: In(Strobe(16))
        As many of the oldest sets are given back.
    level: Out(16)
        Sets that have come and not been given back.
    read_index: In(16)
        Number of a set, modulo the ring.
    read_data: Out(ArrayLayout(parameter_set, R))
        The aligned group of R sets that contains it, MEMORY_LATENCY later; reserved bits are 0.

    Timing: one read and one write a cycle; a set can be read from the cycle after it was accepted.
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
                "release": In(Strobe(16)),
                "level": Out(16),
                "read_index": In(16),
                "read_data": Out(data.ArrayLayout(parameter_set_layout(config), group)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        entries, group, chunk = config.parameter_entries, config.requantise_lanes, config.entries_per_chunk
        tail, level = Signal(range(entries)), Signal(range(entries + 1))
        accepted = Signal()
        m.d.comb += [
            accepted.eq(self.write.valid & self.write.ready),
        ]
        # Known a cycle before, for whether a chunk is taken decides about many others.
        m.d.sync += self.write.ready.eq(level <= Mux(accepted, entries - 2 * chunk, entries - chunk))
        released = Signal(16)
        with m.If(accepted):
            m.d.sync += tail.eq(tail + chunk)
        with m.If(self.release.valid):
            m.d.comb += released.eq(self.release.payload)
        m.d.comb += self.level.eq(level)
        m.d.sync += level.eq(level + (accepted << (chunk.bit_length() - 1)) - released)
        read_entry = Signal(range(entries))
        m.d.comb += read_entry.eq(delay(m, self.read_index, self.LATENCY - BLOCK_LATENCY, name="index"))

        group_bits = group.bit_length() - 1
        chunk_bits = chunk.bit_length() - 1
        row = data.ArrayLayout(_stored(config.numerics), chunk)
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
                source, target = self.write.payload[index], self.read_data[part * chunk + index]
                for name in ("bias", "multiplier", "shift"):
                    m.d.comb += write_port.data[index][name].eq(source[name])
                    m.d.sync += target[name].eq(read_port.data[index][name])

        with m.If(self.release.valid & ~ResetSignal()):
            m.d.sync += [
                Assert(self.release.payload <= level, Format("{} sets released of {}", self.release.payload, level)),
                Assert((self.release.payload & (group - 1)) == 0, Format("{} sets released", self.release.payload)),
            ]
        return m
