"""The accelerator: every unit of the machine, wired.

::

    AXI4 read ──► ReadMaster ──┬─► Sequencer ──jobs──► every unit
                               ├─► ImageLoader ────────────► Scratchpad ◄──────────────┐
                               └─► WeightStream ──► banks, parameters, staged rows     │
                                                                                       │
        ComputeEngine ──beats──► Scratchpad ──broadcast──► ComputeArray ──► Writeback ─┼─► ResidualMemory
              ▲                                   ▲ banks                     │        │        │
              └── Gate (queues) ◄── scores ◄── Softmax ◄──────── scores ──────┘    LayerNorm ◄──┤
                                                                                                └─► StoreUnit ──► AXI4
                                                                                                write
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tessera.hw.blocks.arbiter import WriteArbiter
from tessera.hw.blocks.pipeline import connect_delayed
from tessera.hw.config import AcceleratorConfig
from tessera.hw.control.blame import Blame
from tessera.hw.control.control import ControlRegisters
from tessera.hw.control.monitor import Monitor
from tessera.hw.interfaces.axi import Axi4Lite, Axi4Read, Axi4Write
from tessera.hw.interfaces.jobs import place_layout, run_state_layout
from tessera.hw.interfaces.memory import residual_write_layout, scratch_write_layout
from tessera.hw.interfaces.sequencer import in_unit_order
from tessera.hw.memory.readers import ResidualReaders
from tessera.hw.sequencer.ledger import UNITS
from tessera.hw.trace import TracePorts, trace_queries, trace_transfers, trace_write
from tessera.hw.units import Units

FETCH, PIXELS, WEIGHTS = range(3)
"""Clients of the read master, in order of priority."""


class Accelerator(wiring.Component):
    """The complete machine. Edge-MoE (ICCAD 2023) in open RTL: see ``docs/architecture.md``.

    Parameters
    ----------
    config:
        Sizes of the build; model geometry is data in the commands.
    trace:
        Bring every write into an on-chip memory out to ports, for verification, and the weight stream's requests, for
        the timeline. The ports cost nothing when left open.

    Members
    -------
    control: In(Axi4Lite)
        Registers of ``tessera.hw.register_map.REGISTERS``.
    read, write: Out(Axi4Read), Out(Axi4Write)
        Memory: program, weights, image; results.
    state:
        State of the machine, and outcome of the latest run; see :func:`tessera.hw.interfaces.jobs.run_state_layout`.
    interrupt:
        Level, until the host clears it.
    trace: Out(TracePorts), if ``trace``
        Events of the machine; see :class:`tessera.hw.trace.TracePorts`.
    trace_place: Out(place), if ``trace``
        Place of the engine's latest job.
    """

    def __init__(self, config: AcceleratorConfig, *, trace: bool = False) -> None:
        self._config = config
        self._trace = trace
        members = {
            "control": In(Axi4Lite()),
            "read": Out(Axi4Read(config)),
            "write": Out(Axi4Write(config)),
            "state": Out(run_state_layout()),
            "interrupt": Out(1),
        }
        if trace:
            members |= {"trace": Out(TracePorts(config)), "trace_place": Out(place_layout(config))}
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        """Make the units and wire them."""
        m = Module()
        units = Units(self._config)
        self._wire_memory(m, units)
        self._wire_jobs(m, units)
        self._wire_compute(m, units)
        self._wire_nonlinear(m, units)
        scratch, residual = self._wire_writes(m, units)
        readers = self._wire_reads(m, units)
        blame = self._wire_blame(m, units, scratch, residual, readers)
        registers = self._wire_registers(m, units, blame)
        self._wire_monitor(m, units, registers)
        units.place(m, platform, registers.clear)
        if self._trace:
            self._wire_trace(m, units, scratch, residual)
        return m

    def _wire_memory(self, m: Module, units: Units) -> None:
        """AXI masters and their clients."""
        master = units.read_master
        connect(m, flipped(self.read), master.bus)
        connect(m, flipped(self.write), units.store.bus)
        for index, client in ((FETCH, units.sequencer), (PIXELS, units.image), (WEIGHTS, units.stream)):
            connect(m, client.request, master.request[index])
            connect(m, master.response[index], client.response)

    def _wire_jobs(self, m: Module, units: Units) -> None:
        """The sequencer's jobs and dones. Jobs of units that sleep go through what wakes them."""
        sequencer, engine, stream = units.sequencer, units.engine, units.stream
        ports = sequencer.units
        connect(m, sequencer.stream_job, stream.job)
        connect(m, ports.engine.job, engine.job)
        connect(m, ports.gate.job, units.gate.job)
        connect(m, units.layernorm.report, ports.layernorm.report)
        connect(m, units.gate.report, ports.gate.report)
        connect(m, units.image.report, ports.image.report)
        connect(m, stream.report, ports.stream.report)
        connect(m, units.store.report, ports.store.report)
        report = ports.engine.report
        m.d.comb += engine.rows_ready.eq(report.rows_ready)
        # Both tell the followers of the engine's rows, and they come from afar.
        m.d.sync += [report.row_written.eq(units.writeback.row_written), report.done.eq(engine.done)]

    def _wire_compute(self, m: Module, units: Units) -> None:
        """Engine to array to write-back."""
        engine, array, writeback, stream = units.engine, units.array, units.writeback, units.stream
        parameters, scratchpad = units.parameters, units.scratchpad
        connect(m, engine.beat, array.beat)
        connect(m, engine.step, writeback.step)
        connect(m, engine.hold, array.hold)
        connect(m, stream.delivery.fill, array.fill)
        connect(m, stream.delivery.parameters, parameters.write)
        connect(m, stream.delivery.list_write, units.gate.list_write)
        connect(m, array.result, writeback.result)
        connect(m, engine.load, scratchpad.load)
        connect(m, scratchpad.load_data, engine.load_data)
        connect(m, engine.broadcast, scratchpad.broadcast)
        connect(m, engine.queue_read, units.gate.queue_read)
        connect(m, engine.parameters, parameters.account)
        connect(m, writeback.parameters, parameters.read)
        connect(m, writeback.progress, engine.progress)
        connect(m, engine.tiles, stream.tiles)
        m.d.comb += [
            array.broadcast.eq(scratchpad.broadcast_data),
            *(unit.constants.eq(engine.constants) for unit in (array, writeback)),
        ]

    def _wire_nonlinear(self, m: Module, units: Units) -> None:
        """Softmax, gate and LayerNorm."""
        softmax, shifts = units.softmax, units.stream.delivery.shift_write
        connect(m, units.writeback.score_write, softmax.score_write)
        connect(m, softmax.exponentials, units.array.exponentials)
        connect(m, units.gate.score_read, softmax.score_read)
        m.d.comb += [
            units.engine.softmax_done.eq(softmax.done),
            units.writeback.query_scales.eq(softmax.query_scales),
        ]
        # The shifts wake LayerNorm, and what wakes a unit comes from a register.
        connect_delayed(m, shifts, units.layernorm.shift_write, 1, name="shift_write")
        table = units.stream.delivery.table_write
        connect_delayed(m, table, units.writeback.table_write, 1, name="table_write")

    def _wire_writes(self, m: Module, units: Units) -> tuple[WriteArbiter, WriteArbiter]:
        """Writes into scratchpad and residual memory: write-back comes first, the others wait."""
        config, ports, delivery = self._config, units.sequencer.units, units.stream.delivery
        # The register behind the choice is safe: rows are read two cycles after their write at the earliest.
        scratch = WriteArbiter(config, scratch_write_layout(config), 3, registered=True)
        residual = WriteArbiter(config, residual_write_layout(config), 1)
        m.submodules.scratch_arbiter, m.submodules.residual_arbiter = scratch, residual
        connect(m, units.writeback.scratch_write, scratch.urgent)
        connect(m, units.layernorm.scratch_write, scratch.waiting[0])
        connect(m, units.image.scratch_write, scratch.waiting[1])
        connect(m, delivery.scratch_write, scratch.waiting[2])
        connect(m, scratch.write, units.scratchpad.write)
        connect(m, units.writeback.residual_write, residual.urgent)
        connect(m, delivery.residual_write, residual.waiting[0])
        connect(m, residual.write, units.residual.write)
        m.d.comb += [
            scratch.urgent_place.eq(ports.engine.place),
            scratch.waiting_place[0].eq(ports.layernorm.place),
            scratch.waiting_place[1].eq(ports.image.place),
            scratch.waiting_place[2].eq(ports.stream.place),
            residual.urgent_place.eq(ports.engine.place),
            residual.waiting_place[0].eq(ports.stream.place),
        ]
        return scratch, residual

    def _wire_reads(self, m: Module, units: Units) -> ResidualReaders:
        """Reads of the residual memory."""
        ports = units.sequencer.units
        m.submodules.residual_readers = readers = ResidualReaders(self._config)
        connect(m, units.writeback.residual_read, readers.writeback)
        connect(m, units.layernorm.residual_read, readers.layernorm)
        connect(m, units.store.residual_read, readers.store)
        connect(m, readers.memory, units.residual.read)
        m.d.comb += [
            units.layernorm.residual_read_ready.eq(readers.layernorm_ready),
            units.store.residual_read_ready.eq(readers.store_ready),
            readers.writeback_place.eq(ports.engine.place),
            readers.layernorm_place.eq(ports.layernorm.place),
            readers.store_place.eq(ports.store.place),
        ]
        return readers

    def _wire_blame(
        self, m: Module, units: Units, scratch: WriteArbiter, residual: WriteArbiter, readers: ResidualReaders
    ) -> Blame:
        """The command that an error belongs to."""
        progress, store = units.sequencer.progress, units.store
        m.submodules.blame = blame = Blame(self._config)
        connect(m, progress, blame.progress)
        connect(m, units.scratchpad.range_error, blame.scratchpad.beyond)
        connect(m, units.residual.range_error, blame.residual.beyond)
        connect(m, scratch.writer, blame.scratchpad.writer)
        connect(m, residual.writer, blame.residual.writer)
        m.d.comb += [
            blame.store_failed.eq(store.guard.error.valid),
            blame.store_place.eq(units.sequencer.units.store.place),
            blame.scratchpad.reader.eq(progress.engine_place),
            blame.residual.reader.eq(readers.reader),
        ]
        return blame

    def _wire_registers(self, m: Module, units: Units, blame: Blame) -> ControlRegisters:
        """Registers: settings out, state, errors and events in."""
        sequencer, progress = units.sequencer, units.sequencer.progress
        guarded = (units.read_master, units.store)
        errors = (progress.error, blame.scratchpad_error, blame.residual_error)
        registers = ControlRegisters(self._config, guards=len(guarded), errors=len(errors), units=len(UNITS))
        m.submodules.registers = registers
        connect(m, flipped(self.control), registers.bus)
        connect(m, registers.run, sequencer.run)
        connect(m, progress, registers.progress)
        for guard, unit in zip(registers.guard, guarded, strict=True):
            connect(m, guard, unit.guard)
        for error, port in zip(errors, registers.error, strict=True):
            connect(m, error, port)
        for ended, unit in zip(registers.ended, in_unit_order(sequencer.units), strict=True):
            m.d.comb += [ended.valid.eq(unit.ended), ended.payload.eq(unit.place.command)]
        m.d.comb += [
            self.state.eq(registers.state),
            self.interrupt.eq(registers.interrupt),
            registers.saturated.eq(units.writeback.saturated),
            registers.command_index.eq(blame.command),
            registers.beats.read.eq(units.read_master.beat),
            registers.beats.write.eq(units.store.transferred),
        ]
        return registers

    def _wire_monitor(self, m: Module, units: Units, registers: ControlRegisters) -> None:
        """What each cycle is spent on, and whether the machine gets on."""
        sequencer, engine, softmax = units.sequencer, units.engine, units.softmax
        reporting = (units.layernorm, units.gate, units.image, units.store, units.stream)
        events = (
            engine.beat.valid,
            units.read_master.beat,
            units.store.transferred,
            units.scratchpad.write.valid,
            units.residual.write.valid,
            units.residual.read.enable,
            softmax.exponentials.valid,
            softmax.score_read.enable,
            engine.done,
            *(unit.report.done for unit in reporting),
        )
        m.submodules.monitor = monitor = Monitor(self._config, len(events))
        connect(m, sequencer.progress, monitor.progress)
        connect(m, engine.stall, monitor.stall)
        connect(m, monitor.found, registers.found)
        m.d.comb += [
            monitor.beat.eq(engine.beat.valid),
            monitor.busy.eq(engine.busy),
            monitor.engine_awaited.eq(sequencer.units.engine.awaited),
            monitor.store_busy.eq(sequencer.units.store.busy),
            monitor.events.eq(Cat(*events)),
        ]

    def _wire_trace(self, m: Module, units: Units, scratch: WriteArbiter, residual: WriteArbiter) -> None:
        """Events of the machine, each with the place of the job that it belongs to."""
        trace, ports = self.trace, units.sequencer.units
        engine = ports.engine.place
        trace_write(m, trace.scratchpad, scratch.write, scratch.writer.payload)
        trace_write(m, trace.residual, residual.write, residual.writer.payload)
        trace_write(m, trace.score, units.writeback.score_write, engine)
        trace_write(m, trace.queue, units.gate.queue_write, ports.gate.place)
        trace_transfers(m, trace.exponential, units.softmax.exponentials, engine)
        trace_transfers(m, trace.stream, units.stream.request, engine)
        trace_queries(m, trace.query, units.softmax, engine)
        m.d.comb += self.trace_place.eq(units.sequencer.progress.engine_place)
