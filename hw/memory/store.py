"""STORE: residual rows to memory."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from tessera.hw.blocks.jobs import take_job
from tessera.hw.blocks.queue import Queue
from tessera.hw.blocks.register_slice import RegisterSlice
from tessera.hw.bus.write_master import WriteMaster
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.axi import Axi4Write
from tessera.hw.interfaces.errors import Guard
from tessera.hw.interfaces.jobs import store_job_layout
from tessera.hw.interfaces.memory import RESIDUAL_LATENCY, STORED_BITS, residual_lanes_layout, residual_read
from tessera.hw.interfaces.sequencer import UnitReport
from tessera.hw.interfaces.strobe import Work
from tessera.hw.isa import ADDRESS_WIDTH, COUNT_WIDTH


class ResidualReader(wiring.Component):
    """Reads rows of the residual memory and cuts their words into memory beats.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    work: In(Work(store_job))
        Rows to read; the job is stable until the last beat has left.
    read: Out(MemoryRead), read_ready: In(1)
        Read port of the residual memory. It reads when ``read_ready``; data comes ``RESIDUAL_LATENCY`` cycles later.
    beat: Out(stream)
        The rows' words as sign-extended little-endian 32-bit lanes, from registers.

    Timing: one beat per cycle.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "work": In(Work(store_job_layout(config))),
                "read": Out(residual_read(config)),
                "read_ready": In(1),
                "beat": Out(stream.Signature(8 * config.memory_bytes)),
            }
        )

    @staticmethod
    def places(config: AcceleratorConfig) -> int:
        """Words that are read ahead: one leaves while others are on their way. Two places are registers."""
        beats = STORED_BITS // 8 * config.lanes // config.memory_bytes
        return 1 + -(-(RESIDUAL_LATENCY + 2) // beats)

    def elaborate(self, platform: object) -> Module:
        """Read ahead into a few words; serialise the oldest."""
        m = Module()
        layout, depth = residual_lanes_layout(self._config), self.places(self._config)
        words = RegisterSlice(layout) if depth == 2 else Queue(layout, depth)
        m.submodules.words = words
        # A read sets out only if the word has a place when it comes: words cannot be held up on their way.
        room = Signal(range(depth + 1), init=depth)
        taken, reads = Signal(), Signal()
        m.d.comb += [taken.eq(words.target.valid & words.target.ready), reads.eq(self.read.enable & self.read_ready)]
        m.d.sync += room.eq(room - reads + taken)
        self._walk(m, room, reads)

        arriving = Signal(RESIDUAL_LATENCY)
        m.d.sync += arriving.eq(Cat(reads, arriving))
        m.d.comb += [words.source.payload.eq(self.read.data), words.source.valid.eq(arriving[-1])]
        self._serialise(m, words.target)
        return m

    def _serialise(self, m: Module, word: stream.Interface) -> None:
        """Beats of the oldest word, first lanes first."""
        beat_bits = 8 * self._config.memory_bytes
        beats = STORED_BITS * self._config.lanes // beat_bits
        index, last = Signal(range(max(2, beats))), Signal(init=beats == 1)
        lanes = Signal(STORED_BITS * self._config.lanes)
        m.d.comb += [lanes.word_select(i, STORED_BITS).eq(lane) for i, lane in enumerate(word.payload)]
        taken_on = Signal()
        m.d.comb += [
            taken_on.eq(~self.beat.valid | self.beat.ready),
            word.ready.eq(taken_on & last),
        ]
        # The beat leaves from a register, because the write master is far away.
        with m.If(taken_on):
            m.d.sync += [
                self.beat.valid.eq(word.valid),
                self.beat.payload.eq(lanes.word_select(index, beat_bits)),
            ]
            with m.If(word.valid):
                m.d.sync += [index.eq(Mux(last, 0, index + 1)), last.eq((beats == 1) | (index == beats - 2))]

    def _walk(self, m: Module, room: Signal, reads: Signal) -> None:
        """Address the rows' words one after another while there is room; ``reads`` says that the shown one is read."""
        job, active = self.work.job, Signal()
        rows, row_base, word = Signal(COUNT_WIDTH), Signal(ADDRESS_WIDTH), Signal(COUNT_WIDTH)
        # Words and rows that are left after this one. Whether none is left is known a cycle before it is needed.
        words, last_word, last_row = Signal(COUNT_WIDTH), Signal(), Signal()
        m.d.comb += [
            self.read.enable.eq(active & (room != 0)),
            self.read.address.eq(row_base + word),
        ]
        whole_row = [word.eq(0), words.eq(job.words - 1), last_word.eq(job.words == 1)]
        with m.If(self.work.start):
            m.d.sync += [active.eq(1), row_base.eq(job.source_base), *whole_row]
            m.d.sync += [rows.eq(job.rows - 1), last_row.eq(job.rows == 1)]
        with m.Elif(reads):
            m.d.sync += [word.eq(word + 1), words.eq(words - 1), last_word.eq(words == 1)]
            with m.If(last_word):
                m.d.sync += [*whole_row, row_base.eq(row_base + job.source_stride)]
                m.d.sync += [rows.eq(rows - 1), last_row.eq(rows == 1), active.eq(~last_row)]


class StoreUnit(wiring.Component):
    """Writes ``rows`` x ``words`` residual words to memory, row after row without gaps, 4 bytes per lane.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    job: In(stream(store_job))
        ``output_base + offset`` is a multiple of the bus width; rows and words are at least 1.
    residual_read: Out(MemoryRead), residual_read_ready: In(1)
        Read port of the residual memory. It reads when ready; data comes ``RESIDUAL_LATENCY`` cycles later.
    bus, guard, transferred:
        As in :class:`tessera.hw.bus.write_master.WriteMaster`.
    report: Out(UnitReport)
        ``done`` says that everything is written and answered. It never comes after an error.

    Timing: one beat per cycle, plus the memory's answer to the last.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "job": In(stream.Signature(store_job_layout(config))),
                "residual_read": Out(residual_read(config)),
                "residual_read_ready": In(1),
                "bus": Out(Axi4Write(config)),
                "guard": In(Guard()),
                "report": Out(UnitReport()),
                "transferred": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Send one run per row to the write master, and the reader's beats after them."""
        m = Module()
        m.submodules.reader = reader = ResidualReader(self._config)
        m.submodules.master = master = WriteMaster(self._config)
        connect(m, master.bus, flipped(self.bus))
        connect(m, flipped(self.guard), master.guard)
        m.submodules.beats = beats = RegisterSlice(reader.beat.payload.shape())
        connect(m, reader.beat, beats.source)
        connect(m, beats.target, master.beat)
        connect(m, reader.read, flipped(self.residual_read))
        m.d.comb += reader.read_ready.eq(self.residual_read_ready)
        m.d.comb += self.transferred.eq(master.transferred)
        work = take_job(m, self.job, self.report.done)
        connect(m, work, reader.work)
        # Two states of a job: its rows are announced one by one, then the last of them is being written.
        rows, writing = Signal(), Signal()
        m.d.comb += self.report.done.eq(writing & master.idle)
        announced = self._announce(m, work, rows, master.run)
        with m.If(work.start):
            m.d.sync += rows.eq(1)
        with m.If(announced):
            m.d.sync += [rows.eq(0), writing.eq(1)]
        with m.If(self.report.done):
            m.d.sync += writing.eq(0)
        return m

    def _announce(self, m: Module, work: wiring.PureInterface, active: Signal, run: stream.Interface) -> Value:
        """Announce row after row while ``active``; returns whether the last is taken.

        From the start on the job's ``offset`` is the address of the next row, which saves a register.
        """
        job: data.View = work.job
        word_bytes = exact_log2(STORED_BITS // 8 * self._config.lanes)
        beats = word_bytes - exact_log2(self._config.memory_bytes)
        left, last = Signal(COUNT_WIDTH), Signal()
        m.d.comb += [
            run.valid.eq(active),
            run.payload.address.eq(job.offset),
            run.payload.beats_minus_one.eq((job.words << beats) - 1),
        ]
        with m.If(work.start):
            m.d.sync += [job.offset.eq(job.output_base + job.offset), left.eq(job.rows - 1), last.eq(job.rows == 1)]
        with m.If(active & run.ready):
            m.d.sync += [job.offset.eq(job.offset + (job.words << word_bytes)), left.eq(left - 1), last.eq(left == 1)]
        return active & run.ready & last
