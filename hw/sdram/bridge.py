"""MemoryBridge: AXI4 clients share one SDRAM controller, burst by burst."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tessera.hw.blocks.fields import same_fields
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.axi import Axi4Read, Axi4Write
from tessera.hw.interfaces.sdram import (
    COLUMN_BITS,
    SIZE_BYTES,
    WordAccess,
    burst_request_layout,
)
from tessera.hw.sdram.read_port import ReadPort
from tessera.hw.sdram.write_port import WritePort


class MemoryBridge(wiring.Component):
    """Takes turns among the clients' bursts and cuts each where a row of the chip ends.

    A port asks for a burst when nothing can hold it up any more: there is room for all that it reads, or all that it
    writes is here. So bursts are executed in the order of the requests, without gaps.

    Parameters
    ----------
    config:
        Sizes of the machine: the width of the bus.
    readers, writers:
        Number of AXI4 read and write ports.
    size_bytes:
        Size of the memory, a power of two. Bursts beyond it are refused.

    Members
    -------
    readers, writers:
        The clients; see :class:`ReadPort` and :class:`WritePort`. A read that is asked for after the answer to a write
        sees what was written.
    words:
        Memory behind the bridge; :class:`tessera.hw.interfaces.sdram.WordAccess`.

    Timing: AR transfer to ``run`` 4 cycles; a burst every 4 cycles; ``read`` to R 3 cycles.
    """

    def __init__(self, config: AcceleratorConfig, readers: int, writers: int, size_bytes: int = SIZE_BYTES) -> None:
        if readers + writers < 1:
            raise ValueError("readers and writers are both 0; a memory needs at least one client")
        self._config, self._size_bytes = config, size_bytes
        self._count = clients = readers + writers
        super().__init__(
            {
                "readers": In(Axi4Read(config)).array(readers),
                "writers": In(Axi4Write(config)).array(writers),
                "words": Out(WordAccess(clients)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Ports, their turns, and who gets which word."""
        m = Module()
        words = self.words
        ports: list[ReadPort | WritePort] = []
        for number, bus in enumerate(self.readers):
            m.submodules[f"reader_{number}"] = reader = ReadPort(self._config, self._size_bytes)
            connect(m, flipped(bus), reader.bus)
            m.d.comb += [
                reader.word.valid.eq(words.read.valid & (words.read.payload.client == len(ports))),
                *same_fields(reader.word.payload, words.read.payload, "data", "last"),
            ]
            ports.append(reader)
        for number, bus in enumerate(self.writers):
            m.submodules[f"writer_{number}"] = writer = WritePort(self._config, self._size_bytes)
            connect(m, flipped(bus), writer.bus)
            own = words.written.payload.client == len(ports)
            m.d.comb += writer.finished.eq(words.written.valid & words.written.payload.last & own)
            # Only the writer whose word is wanted sees the words leave, so its beats stay in step with its runs.
            with m.If(words.writer == len(ports)):
                connect(m, writer.word, flipped(words.write_data))
            ports.append(writer)
        self._turns(m, ports)
        return m

    def _turns(self, m: Module, ports: list[ReadPort | WritePort]) -> None:
        """Give the chip to the next port that wants it, and hand on its burst row by row."""
        layout = burst_request_layout(self._config)
        burst = Signal(data.StructLayout({"request": layout, "write": 1, "client": range(max(2, self._count))}))
        waiting, free = Signal(), Signal()
        wanting, later, chosen = (Signal(self._count, name=name) for name in ("wanting", "later", "chosen"))
        # Round robin: the lowest port behind the one that had the last turn goes first, else the lowest of all. The
        # choice is a register, because it looks at every port; so a burst takes its turn every other cycle at most.
        turn = Signal(self._count, init=-1)
        m.d.comb += [wanting.eq(Cat(port.request.valid for port in ports)), later.eq(wanting & turn)]
        self._rows(m, burst, waiting, free)
        with m.If(~chosen.any()):
            m.d.sync += chosen.eq(Mux(later.any(), later & -later, wanting & -wanting))
        with m.Elif(free):
            m.d.sync += [chosen.eq(0), waiting.eq(1)]
        for number, port in enumerate(ports):
            m.d.comb += port.request.ready.eq(free & chosen[number])
            with m.If(free & chosen[number]):
                m.d.sync += [
                    burst.request.eq(port.request.payload),
                    burst.write.eq(isinstance(port, WritePort)),
                    burst.client.eq(number),
                    turn.eq(-1 << (number + 1)),
                ]

    def _rows(self, m: Module, burst: data.View, waiting: Signal, free: Signal) -> None:
        """Offer what lies in the row of the burst's first word; keep the rest, which begins a row."""
        address, left = burst.request.address, burst.request.words_minus_one
        run, room_minus_one = self.words.run, Signal(COLUMN_BITS)
        final = run.payload.final
        m.d.comb += [
            room_minus_one.eq(~address[:COLUMN_BITS]),
            final.eq(left <= room_minus_one),
            run.valid.eq(waiting),
            Cat(run.payload.column, run.payload.bank, run.payload.row).eq(address),
            run.payload.words_minus_one.eq(Mux(final, left, room_minus_one)),
            *same_fields(run.payload, burst, "write", "client"),
            free.eq(~waiting),
        ]
        # What is left begins at column 0 of the next row, which lies in the next bank.
        with m.If(run.valid & run.ready):
            m.d.sync += [
                address.eq(Cat(Const(0, COLUMN_BITS), address[COLUMN_BITS:] + 1)),
                left.eq(left - room_minus_one - 1),
                waiting.eq(~final),
            ]
