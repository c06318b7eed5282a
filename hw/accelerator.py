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

from collections.abc import Callable

from amaranth.hdl import Cat, Elaboratable, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.blocks.arbiter import WriteArbiter
from hw.blocks.pipeline import delay
from hw.blocks.sleep import lasting, sleeping, working
from hw.bus.read_master import ReadMaster
from hw.compute.array import ComputeArray
from hw.compute.engine import ComputeEngine
from hw.compute.parameters import ParameterStore
from hw.compute.writeback import Writeback
from hw.config import AcceleratorConfig
from hw.control.control import ControlRegisters
from hw.gate.gate import Gate
from hw.image.loader import ImageLoader
from hw.interfaces.axi import Axi4Lite, Axi4Read, Axi4Write, read_request_layout
from hw.interfaces.compute import query_scale_layout
from hw.interfaces.gate import queue_write_layout
from hw.interfaces.jobs import place_layout, run_state_layout
from hw.interfaces.memory import (
    MEMORY_LATENCY,
    bank_exponentials_layout,
    residual_write_layout,
    score_write_layout,
    scratch_write_layout,
)
from hw.interfaces.sequencer import in_unit_order
from hw.interfaces.strobe import Strobe
from hw.isa import CycleCause, ErrorCode, StallSource
from hw.layernorm.layernorm import LayerNorm
from hw.memory.residual import ResidualMemory
from hw.memory.rows import BEYOND_LATENCY
from hw.memory.scratchpad import Scratchpad
from hw.memory.store import StoreUnit
from hw.sequencer.ledger import UNITS
from hw.sequencer.sequencer import Sequencer
from hw.softmax.softmax import Softmax
from hw.stream.weight_stream import WeightStream

FETCH, PIXELS, WEIGHTS = range(3)
"""Clients of the read master, in order of priority."""


def trace_payloads(config: AcceleratorConfig) -> dict[str, data.Layout]:
    """Payloads of the trace ports: one for each memory that commands write, and the weight stream's requests."""
    return {
        "scratchpad": scratch_write_layout(config),
        "residual": residual_write_layout(config),
        "score": score_write_layout(config),
        "exponential": bank_exponentials_layout(config),
        "queue": queue_write_layout(config),
        "query": data.StructLayout(
            {"address": 1, "scales": data.ArrayLayout(query_scale_layout(config), config.elements)}
        ),
        "stream": read_request_layout(config),
    }


def _resettable(m: Module, name: str, clear: Value) -> Callable[[Elaboratable], Elaboratable]:
    """What makes of a unit one that ``clear`` resets, too."""
    return ResetInserter(clear)


class Accelerator(wiring.Component):
    """The complete machine. Edge-MoE (ICCAD 2023) in open RTL: see ``docs/architecture.md``.

    Parameters
    ----------
    config:
        Sizes of the build; model geometry is data in the commands.
    trace:
        Bring every write into an on-chip memory out to ports, for verification, and the weight stream's requests, for
        the timeline. They cost nothing when left open.

    Members
    -------
    control: In(Axi4Lite)
        Registers of ``hw.register_map.REGISTERS``.
    read, write: Out(Axi4Read), Out(Axi4Write)
        Memory: program, weights, image; results.
    state:
        Whether it is busy, and what became of the latest run; see :func:`hw.interfaces.jobs.run_state_layout`.
    interrupt:
        Level, until cleared by the host.
    trace_MEMORY: Out(Strobe), trace_MEMORY_place
        Payloads of :func:`trace_payloads`; and whose write it is (``hw.interfaces.jobs.place_layout``): command, its
        expert << 16, second expert matrix << 31.
    trace_place:
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
            for name, payload in trace_payloads(config).items():
                members |= {f"trace_{name}": Out(Strobe(payload)), f"trace_{name}_place": Out(32)}
            members["trace_place"] = Out(32)
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        """Make the units, resettable as one by the registers, and wire them."""
        m = Module()
        config = self._config
        self._registers = ControlRegisters(config, guards=2, errors=3, units=len(UNITS))
        self._units: dict[str, wiring.Component] = {
            "read_master": ReadMaster(config, clients=3),
            "stream": WeightStream(config),
            "image": ImageLoader(config),
            "store": StoreUnit(config),
            "scratchpad": Scratchpad(config),
            "residual": ResidualMemory(config),
            "engine": ComputeEngine(config),
            "array": ComputeArray(config),
            "parameters": ParameterStore(config),
            "writeback": Writeback(config),
            "softmax": Softmax(config),
            "gate": Gate(config),
            "layernorm": LayerNorm(config),
        }
        self._units["sequencer"] = Sequencer(config)
        for name, unit in self._units.items():
            setattr(self, f"_{name}", unit)
        awake = self._awake(m)
        # It goes to every unit of the machine, so it comes from a register; nothing is under way when it does.
        clear = Signal()
        m.d.sync += clear.eq(self._registers.clear)
        cleared = getattr(platform, "resettable", _resettable)(m, "units", clear)
        m.submodules.registers = self._registers
        for name, unit in self._units.items():
            held = sleeping(m, platform, name, unit, awake[name]) if name in awake else unit
            m.submodules[name] = cleared(held)

        self._wire_memory(m)
        self._wire_jobs(m)
        self._wire_compute(m)
        self._wire_nonlinear(m)
        self._wire_on_chip(m)
        self._wire_host(m)
        if self._trace:
            self._wire_trace(m)
        return m

    def _awake(self, m: Module) -> dict[str, Value]:
        """When the units that rest most of the time must not sleep."""
        layernorm, softmax, sequencer = self._layernorm, self._softmax, self._sequencer
        # All of these are registers, so that they reach every register of a unit within a cycle.
        asked = layernorm.shift_write.valid, softmax.score_write.valid | softmax.score_read.enable
        jobs = {
            "image": working(m, self._image, sequencer.units.image.job, name="image"),
            "store": working(m, self._store, sequencer.units.store.job, name="store"),
            "layernorm": working(m, layernorm, sequencer.units.layernorm.job, name="layernorm"),
            "softmax": working(m, softmax, self._engine.softmax, name="softmax"),
        }
        jobs["layernorm"] = jobs["layernorm"] | asked[0]
        jobs["softmax"] = jobs["softmax"] | lasting(m, asked[1], MEMORY_LATENCY, name="scores")
        return jobs

    def _wire_host(self, m: Module) -> None:
        """Registers: settings out, state, errors and events in."""
        registers, sequencer, engine, master = self._registers, self._sequencer, self._engine, self._read_master
        connect(m, flipped(self.control), registers.bus)
        for guard, unit in zip(registers.guard, (master, self._store), strict=True):
            connect(m, guard, unit.guard)
        connect(m, sequencer.progress.error, registers.error[0])
        ranges = ((self._scratchpad, ErrorCode.SCRATCHPAD_RANGE), (self._residual, ErrorCode.RESIDUAL_RANGE))
        for port, (memory, code) in zip(list(registers.error)[1:], ranges, strict=True):
            m.d.comb += [
                port.valid.eq(memory.range_error.valid),
                port.payload.code.eq(code),
                port.payload.address.eq(memory.range_error.payload),
            ]
        moving = (
            engine.beat.valid,
            master.beat,
            self._store.transferred,
            self._scratchpad.write.valid,
            self._residual.write.valid,
            self._residual.read.enable,
            self._softmax.exponentials.valid,
            self._softmax.score_read.enable,
            *(unit.done for unit in (engine, self._layernorm, self._gate, self._image, self._store, self._stream)),
        )
        m.d.comb += [
            self.state.eq(registers.state),
            self.interrupt.eq(registers.interrupt),
            registers.finished.eq(sequencer.progress.finished),
            registers.saturated.eq(self._writeback.saturated),
            registers.started.valid.eq(sequencer.progress.started),
            registers.started.payload.eq(sequencer.progress.index),
            registers.owner.eq(Mux(engine.busy, sequencer.progress.engine_place.command, sequencer.progress.index)),
            registers.beats.read.eq(master.beat),
            registers.beats.write.eq(self._store.transferred),
            registers.command_index.eq(self._culprit(m)),
        ]
        # The watchdog need not see things in the cycle in which they happen.
        moved = Signal(len(moving))
        m.d.sync += [
            moved.eq(Cat(*moving)),
            registers.progress.eq(moved.any()),
            registers.stalled_on.eq(Mux(engine.stall.weights, StallSource.STREAM, sequencer.progress.stalled_on)),
        ]
        for port, unit in zip(registers.ended, in_unit_order(sequencer.units), strict=True):
            m.d.comb += [port.valid.eq(unit.ended), port.payload.eq(unit.place.command)]
        m.d.comb += registers.cause.eq(CycleCause.SEQUENCER)
        # Why a cycle has no beat takes most of that cycle to find out.
        reasons = (
            (sequencer.units.engine.awaited, CycleCause.DRAIN),
            (sequencer.units.store.busy, CycleCause.STORE),
            (engine.stall.drain, CycleCause.DRAIN),
            (engine.stall.softmax, CycleCause.SOFTMAX),
            (engine.stall.activations, CycleCause.ACTIVATIONS),
            (engine.stall.weights, CycleCause.WEIGHTS),
            (engine.beat.valid, CycleCause.BUSY),
        )
        found = Signal(len(reasons))
        m.d.sync += found.eq(Cat(event for event, _ in reasons))
        for bit, (_, cause) in zip(found, reasons, strict=True):
            with m.If(bit):
                m.d.comb += registers.cause.eq(cause)

    def _culprit(self, m: Module) -> Signal:
        """The command that an error of this cycle belongs to: a refused one, an address's user, or the latest."""
        sequencer, scratchpad, residual = self._sequencer, self._scratchpad, self._residual
        culprit, latest = Signal(16), Signal(16)
        started, index = (
            delay(m, value, 1, name="latest") for value in (sequencer.progress.started, sequencer.progress.index)
        )
        with m.If(started):
            m.d.sync += latest.eq(index)
        m.d.comb += culprit.eq(latest)
        with m.If(sequencer.progress.error.valid):
            m.d.comb += culprit.eq(sequencer.progress.index)
        with m.If(self._store.guard.error.valid):
            m.d.comb += culprit.eq(sequencer.units.store.place.command)
        # Range errors are reported a little after the access; of a write and a read the write's.
        readers = {"scratchpad": sequencer.progress.engine_place, "residual": self._residual_reader}
        for name, memory in (("residual", residual), ("scratchpad", scratchpad)):
            user = Signal(place_layout(self._config), name=f"{name}_user")
            m.d.comb += user.eq(Mux(memory.write.valid, self._writers[name], readers[name]))
            user = delay(m, user, BEYOND_LATENCY, name=f"{name}_user")
            with m.If(memory.range_error.valid):
                m.d.comb += culprit.eq(user.command)
        return culprit

    def _wire_memory(self, m: Module) -> None:
        """AXI masters and their clients."""
        master, store = self._read_master, self._store
        connect(m, flipped(self.read), master.bus)
        connect(m, flipped(self.write), store.bus)
        for index, client in ((FETCH, self._sequencer), (PIXELS, self._image), (WEIGHTS, self._stream)):
            connect(m, client.request, master.request[index])
            connect(m, master.response[index], client.response)

    def _wire_jobs(self, m: Module) -> None:
        """The sequencer's settings, jobs and dones."""
        registers, sequencer, engine, stream = self._registers, self._sequencer, self._engine, self._stream
        units = sequencer.units
        m.d.comb += [
            sequencer.run.start.eq(registers.start),
            sequencer.run.settings.eq(registers.settings),
            units.gate.counts.eq(self._gate.counts),
            stream.permit.eq(units.stream.permit),
            units.layernorm.rows_done.eq(self._layernorm.rows_done),
            units.image.rows_done.eq(self._image.rows_done),
            engine.rows_ready.eq(units.engine.rows_ready),
            self._layernorm.rows_ready.eq(units.layernorm.rows_ready),
            self._gate.rows_ready.eq(units.gate.rows_ready),
        ]
        # Jobs of image loader, store unit and LayerNorm go through what wakes these units.
        connect(m, sequencer.stream_job, stream.job)
        connect(m, units.engine.job, engine.job)
        connect(m, units.gate.job, self._gate.job)
        for port, unit in (
            (units.layernorm, self._layernorm),
            (units.gate, self._gate),
            (units.image, self._image),
            (units.stream, stream),
            (units.store, self._store),
        ):
            m.d.comb += port.done.eq(unit.done)
        # Both tell the followers of the engine's rows, and come a long way.
        m.d.sync += [units.engine.row_written.eq(self._writeback.row_written), units.engine.done.eq(engine.done)]

    def _wire_compute(self, m: Module) -> None:
        """Engine to array to write-back."""
        engine, array, writeback, stream = self._engine, self._array, self._writeback, self._stream
        parameters, scratchpad, gate = self._parameters, self._scratchpad, self._gate
        connect(m, engine.beat, array.beat)
        connect(m, engine.step, writeback.step)
        connect(m, engine.hold, array.hold)
        connect(m, stream.delivery.fill, array.fill)
        connect(m, stream.delivery.parameters, parameters.write)
        connect(m, array.result, writeback.result)
        connect(m, engine.load, scratchpad.load)
        connect(m, scratchpad.load_data, engine.load_data)
        connect(m, engine.broadcast, scratchpad.broadcast)
        connect(m, engine.queue_read, gate.queue_read)
        connect(m, engine.parameters, parameters.account)
        connect(m, writeback.parameters, parameters.read)
        connect(m, writeback.progress, engine.progress)
        connect(m, engine.tiles, stream.tiles)
        m.d.comb += [
            array.broadcast.eq(scratchpad.broadcast_data),
            writeback.constants.eq(engine.constants),
        ]

    def _wire_nonlinear(self, m: Module) -> None:
        """Softmax, gate and LayerNorm."""
        engine, softmax, gate, layernorm = self._engine, self._softmax, self._gate, self._layernorm
        connect(m, self._writeback.score_write, softmax.score_write)
        connect(m, softmax.exponentials, self._array.exponentials)
        connect(m, gate.score_read, softmax.score_read)
        m.d.sync += [
            layernorm.shift_write.valid.eq(self._stream.delivery.shift_write.valid),
            layernorm.shift_write.payload.eq(self._stream.delivery.shift_write.payload),
        ]
        m.d.comb += [
            engine.softmax_done.eq(softmax.done),
            self._writeback.query_scales.eq(softmax.query_scales),
        ]

    def _wire_on_chip(self, m: Module) -> None:
        """Ports of scratchpad and residual memory: write-back comes first, the others wait."""
        config, units = self._config, self._sequencer.units
        scratchpad, residual, writeback = self._scratchpad, self._residual, self._writeback
        sources = (
            (self._layernorm.scratch_write, units.layernorm),
            (self._image.scratch_write, units.image),
            (self._stream.delivery.scratch_write, units.stream),
        )
        scratch = WriteArbiter(config, scratch_write_layout(config), len(sources))
        loaded = WriteArbiter(config, residual_write_layout(config), 1)
        m.submodules.scratch_arbiter, m.submodules.residual_arbiter = scratch, loaded
        connect(m, writeback.scratch_write, scratch.urgent)
        connect(m, writeback.residual_write, loaded.urgent)
        for index, (write, port) in enumerate(sources):
            connect(m, write, scratch.waiting[index])
            m.d.comb += scratch.waiting_place[index].eq(port.place)
        connect(m, self._stream.delivery.residual_write, loaded.waiting[0])
        m.d.comb += loaded.waiting_place[0].eq(units.stream.place)
        for arbiter in (scratch, loaded):
            m.d.comb += arbiter.urgent_place.eq(units.engine.place)
        connect(m, loaded.write, residual.write)
        # A register between the scratchpad's many writers and the unit that reads when none of them writes; whoever
        # follows rows reads them two cycles later at the earliest.
        scratch_writer = Signal.like(scratch.writer)
        m.d.sync += [
            scratchpad.write.valid.eq(scratch.write.valid),
            scratchpad.write.payload.eq(scratch.write.payload),
            scratch_writer.eq(scratch.writer),
        ]
        self._writers = {"scratchpad": scratch_writer, "residual": loaded.writer}
        self._read_residual(m)

    def _read_residual(self, m: Module) -> None:
        """Write-back reads first; LayerNorm takes what is left; results are stored when nothing else runs."""
        residual, layernorm, units = self._residual, self._layernorm, self._sequencer.units
        readers = (
            (self._writeback.residual_read, units.engine),
            (layernorm.residual_read, units.layernorm),
            (self._store.residual_read, units.store),
        )
        # A register between readers and memory: RESIDUAL_LATENCY has it.
        reader = Signal(place_layout(self._config))
        m.d.sync += residual.read.enable.eq(Cat(*(read.enable for read, _ in readers)).any())
        m.d.comb += [
            layernorm.residual_read_ready.eq(~self._writeback.residual_read.enable),
        ]
        for read, port in reversed(readers):
            m.d.comb += read.data.eq(residual.read.data)
            with m.If(read.enable):
                m.d.sync += [residual.read.address.eq(read.address), reader.eq(port.place)]
        self._residual_reader = reader

    def _wire_trace(self, m: Module) -> None:
        """Every write, as it happens."""
        sequencer, softmax, writeback = self._sequencer, self._softmax, self._writeback
        writes = {
            "scratchpad": self._scratchpad.write,
            "residual": self._residual.write,
            "score": writeback.score_write,
            "queue": self._gate.queue_write,
        }
        units = sequencer.units
        writers = {**self._writers, "score": units.engine.place, "queue": units.gate.place}
        for name, write in writes.items():
            port = getattr(self, f"trace_{name}")
            m.d.comb += [port.valid.eq(write.valid), port.payload.eq(write.payload)]
        request = self._stream.request
        m.d.comb += [
            self.trace_stream.valid.eq(request.valid & request.ready),
            self.trace_stream.payload.eq(request.payload),
        ]
        for name in trace_payloads(self._config):
            m.d.comb += getattr(self, f"trace_{name}_place").eq(writers.get(name, units.engine.place))
        exponentials, query = self.trace_exponential, self.trace_query
        buffer = Signal()
        with m.If(softmax.job.valid & softmax.job.ready):
            m.d.sync += buffer.eq(softmax.job.payload.buffer)
        p = self._config.elements
        m.d.comb += [
            exponentials.valid.eq(softmax.exponentials.valid & softmax.exponentials.ready),
            exponentials.payload.eq(softmax.exponentials.payload),
            query.valid.eq(softmax.done),
            query.payload.address.eq(buffer),
            self.trace_place.eq(sequencer.progress.engine_place),
        ]
        for element in range(p):
            scales = query.payload.scales[element]
            m.d.comb += scales.eq(Mux(buffer, softmax.query_scales[p + element], softmax.query_scales[element]))
