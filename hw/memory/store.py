"""STORE: residual rows to memory."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from hw.blocks.register_slice import RegisterSlice
from hw.bus.write_master import WriteMaster
from hw.config import AcceleratorConfig
from hw.interfaces.axi import Axi4Write
from hw.interfaces.errors import Guard
from hw.interfaces.jobs import store_job_layout
from hw.interfaces.memory import RESIDUAL_LATENCY, residual_lanes_layout


class ResidualReader(wiring.Component):
    """Reads rows of the residual memory and cuts their words into memory beats.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    start, job:
        Begin with this job, stable until the last beat has left.
    read_enable, read_address, read_data:
        The residual memory's read port; data ``RESIDUAL_LATENCY`` later.
    beat:
        The rows' words as sign-extended little-endian 32-bit lanes, from registers.

    Timing: one beat a cycle.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "job": In(store_job_layout(config)),
                "read_enable": Out(1),
                "read_address": Out(16),
                "read_data": In(residual_lanes_layout(config)),
                "beat": Out(stream.Signature(8 * config.memory_bytes)),
            }
        )

    @staticmethod
    def places(config: AcceleratorConfig) -> int:
        """Words that are read ahead: one leaves while others are on their way. Two places are registers."""
        beats = 4 * config.lanes // config.memory_bytes
        return 1 + -(-(RESIDUAL_LATENCY + 2) // beats)

    def elaborate(self, platform: object) -> Module:
        """Read ahead into a few words; serialise the oldest."""
        m = Module()
        layout = residual_lanes_layout(self._config)
        beats = 4 * self._config.lanes // self._config.memory_bytes
        depth = self.places(self._config)
        if depth == 2:
            m.submodules.words = places = RegisterSlice(layout.size)
            words_in, words_out = places.source, places.target
        else:
            m.submodules.words = queue = SyncFIFO(width=layout.size, depth=depth)
            words_in, words_out = queue.w_stream, queue.r_stream
        room = Signal(range(depth + 1), init=depth)
        taken = Signal()
        m.d.comb += taken.eq(words_out.valid & words_out.ready)
        m.d.sync += room.eq(room - self.read_enable + taken)
        self._walk(m, room)

        arriving = Signal(RESIDUAL_LATENCY)
        m.d.sync += arriving.eq(Cat(self.read_enable, arriving))
        m.d.comb += [words_in.payload.eq(self.read_data), words_in.valid.eq(arriving[-1])]

        index, last = Signal(range(max(2, beats))), Signal(init=beats == 1)
        oldest = Signal(layout)
        lanes = Signal(32 * self._config.lanes)
        m.d.comb += oldest.eq(words_out.payload)
        m.d.comb += [lanes.word_select(i, 32).eq(lane) for i, lane in enumerate(oldest)]
        taken_on = Signal()
        m.d.comb += [
            taken_on.eq(~self.beat.valid | self.beat.ready),
            words_out.ready.eq(taken_on & last),
        ]
        with m.If(taken_on):
            m.d.sync += [
                self.beat.valid.eq(words_out.valid),
                self.beat.payload.eq(lanes.word_select(index, 8 * self._config.memory_bytes)),
            ]
            with m.If(words_out.valid):
                m.d.sync += [index.eq(Mux(last, 0, index + 1)), last.eq((beats == 1) | (index == beats - 2))]
        return m

    def _walk(self, m: Module, room: Signal) -> None:
        """Address the rows' words one after another while there is room."""
        job, active = self.job, Signal()
        rows, row_base, word = Signal(16), Signal(16), Signal(16)
        # Words and rows that are left after this one; whether there are none is known a cycle before.
        words, last_word, last_row = Signal(16), Signal(), Signal()
        m.d.comb += [
            self.read_enable.eq(active & (room != 0)),
            self.read_address.eq(row_base + word),
        ]
        whole_row = [word.eq(0), words.eq(job.words - 1), last_word.eq(job.words == 1)]
        with m.If(self.start):
            m.d.sync += [active.eq(1), row_base.eq(job.source_base), *whole_row]
            m.d.sync += [rows.eq(job.rows - 1), last_row.eq(job.rows == 1)]
        with m.Elif(self.read_enable):
            m.d.sync += [word.eq(word + 1), words.eq(words - 1), last_word.eq(words == 1)]
            with m.If(last_word):
                m.d.sync += [*whole_row, row_base.eq(row_base + job.source_stride)]
                m.d.sync += [rows.eq(rows - 1), last_row.eq(rows == 1), active.eq(~last_row)]


class StoreUnit(wiring.Component):
    """Writes ``rows`` x ``words`` residual words to memory, row after row without gaps, 4 bytes a lane.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    job:
        :func:`store_job`. ``output_base + offset`` is a multiple of the bus width; rows and words are at least 1.
    read_enable, read_address, read_data:
        The residual memory's read port; data ``RESIDUAL_LATENCY`` later.
    bus, guard, transferred:
        As in :class:`hw.bus.write_master.WriteMaster`.
    done:
        Pulse: everything is written and answered. Never comes after an error.

    Timing: one beat a cycle, plus the memory's answer to the last.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "job": In(stream.Signature(store_job_layout(config))),
                "read_enable": Out(1),
                "read_address": Out(16),
                "read_data": In(residual_lanes_layout(config)),
                "bus": Out(Axi4Write(config)),
                "guard": In(Guard()),
                "done": Out(1),
                "transferred": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Send a run a row to the write master, and the reader's beats after them."""
        m = Module()
        m.submodules.reader = reader = ResidualReader(self._config)
        m.submodules.master = master = WriteMaster(self._config)
        connect(m, master.bus, flipped(self.bus))
        connect(m, flipped(self.guard), master.guard)
        m.submodules.beats = beats = RegisterSlice(reader.beat.payload.shape())
        connect(m, reader.beat, beats.source)
        connect(m, beats.target, master.beat)
        job = Signal(store_job_layout(self._config))
        m.d.comb += [
            self.transferred.eq(master.transferred),
            reader.job.eq(job),
            reader.read_data.eq(self.read_data),
            self.read_enable.eq(reader.read_enable),
            self.read_address.eq(reader.read_address),
        ]
        # One register a state: the sequencer's decisions follow from `ready`.
        idle, begin, rows, writing = Signal(init=1), Signal(), Signal(), Signal()
        m.d.comb += [self.job.ready.eq(idle), reader.start.eq(begin), self.done.eq(writing & master.idle)]
        m.d.sync += begin.eq(idle & self.job.valid)
        with m.If(idle):
            m.d.sync += [job.eq(self.job.payload), idle.eq(~self.job.valid)]
        with m.If(begin):
            m.d.sync += [job.offset.eq(job.output_base + job.offset), rows.eq(1)]
        announced = self._announce(m, job, begin, rows, master.run)
        with m.If(announced):
            m.d.sync += [rows.eq(0), writing.eq(1)]
        with m.If(self.done):
            m.d.sync += [writing.eq(0), idle.eq(1)]
        return m

    def _announce(self, m: Module, job: data.View, begin: Signal, active: Signal, run: stream.Interface) -> Value:
        """Announce row after row while ``active``; returns whether the last is taken.

        ``job.offset`` has become the row's address.
        """
        word_bytes = exact_log2(4 * self._config.lanes)
        beats = exact_log2(4 * self._config.lanes // self._config.memory_bytes)
        left, last = Signal(16), Signal()
        m.d.comb += [
            run.valid.eq(active),
            run.payload.address.eq(job.offset),
            run.payload.beats_minus_one.eq((job.words << beats) - 1),
        ]
        with m.If(begin):
            m.d.sync += [left.eq(job.rows - 1), last.eq(job.rows == 1)]
        with m.If(active & run.ready):
            m.d.sync += [job.offset.eq(job.offset + (job.words << word_bytes)), left.eq(left - 1), last.eq(left == 1)]
        return active & run.ready & last
