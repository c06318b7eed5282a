"""Command fetch: from memory into a small ring that two readers walk at their own pace."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tessera.hw.blocks.fields import assign
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.axi import read_request_layout
from tessera.hw.interfaces.sequencer import RunOrder
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.isa import BYTE_ADDRESS_WIDTH, COMMAND_BITS, COMMAND_BYTES, Opcode
from tessera.hw.sequencer.command import DECODED_BITS

RING_COMMANDS = 16
"""Commands held at once: how far fetching and weight prefetch run ahead of execution."""


class CommandReader(wiring.Component):
    """Walks the ring and shows one whole command at a time.

    Design: the reader shifts the words of a command into a register, as many as carry fields, and holds the command
    until it is taken. A count of arrived and consumed commands says whether the ring holds one.

    Latency: a command is shown ``DECODED_BITS / width + 3`` cycles after the one before was taken.

    Parameters
    ----------
    width:
        Bits of a ring word.

    Members
    -------
    arrived: In(1)
        Pulse: one more command lies in the ring.
    read_address: Out(word), read_data: In(width)
        The ring's read port; data come one cycle after the address.
    command: Out(stream)
        Leading ``DECODED_BITS`` bits of the next command.
    consumed: Out(1)
        Pulse: a command was taken a cycle ago, so its place is free.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._words = COMMAND_BITS // width
        super().__init__(
            {
                "arrived": In(1),
                "read_address": Out(range(RING_COMMANDS * self._words)),
                "read_data": In(width),
                "command": Out(stream.Signature(unsigned(DECODED_BITS))),
                "consumed": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Count what has arrived, shift it in word by word."""
        m = Module()
        needed = -(-DECODED_BITS // self._width)
        level = Signal(range(RING_COMMANDS + 1))
        slot = Signal(range(RING_COMMANDS))
        word = Signal(range(needed + 1))
        arriving = Signal(range(needed + 1))
        arrives = Signal()
        shifted = Signal(needed * self._width)

        # ``word`` counts the addresses given, ``arriving`` the words that have come; the ring answers a cycle later.
        loading = (level != 0) & ~self.command.valid & (word != needed)
        m.d.comb += [
            self.read_address.eq(slot * self._words + word),
            self.command.payload.eq(shifted[:DECODED_BITS]),
        ]
        with m.If(self.command.ready):
            m.d.sync += self.command.valid.eq(0)
        # That a command was taken is registered, because ``ready`` comes late in its cycle.
        m.d.sync += [
            self.consumed.eq(self.command.valid & self.command.ready),
            level.eq(level + self.arrived - self.consumed),
            arrives.eq(loading),
        ]
        with m.If(loading):
            m.d.sync += word.eq(word + 1)
        with m.If(arrives):
            m.d.sync += [
                shifted.eq(Cat(shifted, self.read_data)[self._width :]),
                arriving.eq(arriving + 1),
            ]
            with m.If(arriving == needed - 1):
                m.d.sync += self.command.valid.eq(1)
        # Only now the next command may be read: until here ``word`` stood at its end.
        with m.If(self.consumed):
            m.d.sync += [word.eq(0), arriving.eq(0), slot.eq(slot + 1)]
        return m


class CommandFetch(wiring.Component):
    """Fetches the program in order, one command per burst, up to END.

    Design: the commands go into a ring in block RAM. Two readers walk it at their own pace. A command is requested when
    both readers have left room for it and the one before has arrived.

    Latency: a reader learns of a command one cycle after its last beat.

    Resources: ``RING_COMMANDS`` commands of block RAM, twice, because each reader has a read port.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    run: In(RunOrder)
        Start of a run, and the address of its program.
    request: Out(stream), response: In(Strobe)
        Client port of the AXI read master.
    execute: Out(stream), schedule: Out(stream)
        The commands, once for the dispatcher and once for the weight stream's scheduler.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "run": In(RunOrder()),
                "request": Out(stream.Signature(read_request_layout(config))),
                "response": In(Strobe(8 * config.memory_bytes)),
                "execute": Out(stream.Signature(unsigned(DECODED_BITS))),
                "schedule": Out(stream.Signature(unsigned(DECODED_BITS))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Ring, two readers, and a request whenever both have left room."""
        m = Module()
        width = max(32, 8 * self._config.memory_bytes)
        words = COMMAND_BITS // width
        m.submodules.ring = ring = Memory(shape=unsigned(width), depth=RING_COMMANDS * words, init=[])
        write = ring.write_port()
        readers = []
        for name, port in (("execute_reader", self.execute), ("schedule_reader", self.schedule)):
            m.submodules[name] = reader = CommandReader(width)
            read = ring.read_port()
            m.d.comb += [read.addr.eq(reader.read_address), read.en.eq(1), reader.read_data.eq(read.data)]
            wiring.connect(m, reader.command, wiring.flipped(port))
            readers.append(reader)

        active, waiting = Signal(), Signal()
        address = Signal(BYTE_ADDRESS_WIDTH)
        # Room is counted for each reader: a place is free again once both have taken the command in it.
        room = []
        arrived = Signal()
        for index, reader in enumerate(readers):
            held = Signal(range(RING_COMMANDS + 1), name=f"held_{index}")
            m.d.comb += reader.arrived.eq(arrived)
            m.d.sync += held.eq(held + arrived - reader.consumed)
            room.append(held != RING_COMMANDS)

        beats = COMMAND_BYTES // self._config.memory_bytes
        m.d.comb += [
            self.request.valid.eq(active & ~waiting & room[0] & room[1]),
            *assign(self.request.payload, address=address, beats_minus_one=beats - 1),
        ]
        # One burst at a time: only the arrival of a command tells whether it is END, after which nothing is fetched.
        with m.If(self.request.valid & self.request.ready):
            m.d.sync += [waiting.eq(1), address.eq(address + COMMAND_BYTES)]

        word_valid, word = self._whole_words(m, width)
        position = Signal(range(RING_COMMANDS * words))
        # The opcode stands in a command's first word, the fetch ends with its last.
        is_end = Signal()
        first = position[: exact_log2(words)] == 0 if words > 1 else 1
        last = position[: exact_log2(words)] == words - 1 if words > 1 else 1
        ends = Mux(first, word[:8] == Opcode.END, is_end)
        m.d.comb += [write.addr.eq(position), write.data.eq(word), write.en.eq(word_valid)]
        with m.If(word_valid):
            m.d.sync += [position.eq(position + 1), is_end.eq(ends)]
        # A reader hears of a command a cycle later, so that it never reads a word in the cycle in which it is written.
        m.d.sync += arrived.eq(word_valid & last)
        with m.If(arrived):
            m.d.sync += waiting.eq(0)
        with m.If(word_valid & last & ends):
            m.d.sync += active.eq(0)
        with m.If(self.run.start):
            m.d.sync += [active.eq(1), address.eq(self.run.settings.program_address)]
        return m

    def _whole_words(self, m: Module, width: int) -> tuple[Value, Value]:
        """Join narrow beats to ring words, low part first."""
        beat = self.response.payload
        parts = width // (8 * self._config.memory_bytes)
        # A ring word has at least 32 bits: on a narrower bus its parts are held until the last one comes.
        if parts == 1:
            return self.response.valid, beat
        part = Signal(range(parts))
        held = Array(Signal(len(Value.cast(beat)), name=f"part_{i}") for i in range(parts - 1))
        with m.If(self.response.valid):
            m.d.sync += part.eq(part + 1)
            with m.If(part != parts - 1):
                m.d.sync += held[part].eq(beat)
        return self.response.valid & (part == parts - 1), Cat(*held, beat)
