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

from collections.abc import Sequence

from amaranth.hdl import Assert, Cat, Const, Module, Mux, ResetInserter, ResetSignal, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.bus.control import ControlRegisters
from hw.bus.read_master import ReadMaster
from hw.compute.array import ComputeArray
from hw.compute.engine import ComputeEngine
from hw.compute.parameters import ParameterStore
from hw.compute.writeback import Writeback
from hw.config import AcceleratorConfig
from hw.interfaces import (
    Axi4Lite,
    Axi4Read,
    Axi4Write,
    Strobe,
    bank_exponentials,
    query_scale,
    residual_write,
    score_write,
    scratch_write,
)
from hw.isa import ErrorCode, StallSource
from hw.memory.image import ImageLoader
from hw.memory.residual import ResidualMemory
from hw.memory.scratchpad import Scratchpad
from hw.memory.store import StoreUnit
from hw.memory.stream import WeightStream
from hw.nonlinear.gate import Gate, queue_write
from hw.nonlinear.layernorm import LayerNorm
from hw.nonlinear.softmax import Softmax
from hw.sequencer.sequencer import Sequencer

FETCH, IMAGE, WEIGHTS = range(3)
"""Clients of the read master, in order of priority."""


def trace_payloads(config: AcceleratorConfig) -> dict[str, data.Layout]:
    """Payloads of the trace ports: one for each memory that commands write."""
    return {
        "scratchpad": scratch_write(config),
        "residual": residual_write(config),
        "score": score_write(config),
        "exponential": bank_exponentials(config),
        "queue": queue_write(config),
        "query": data.StructLayout({"address": 1, "scales": data.ArrayLayout(query_scale(config), config.elements)}),
    }


class Accelerator(wiring.Component):
    """The complete machine. Edge-MoE (ICCAD 2023) in open RTL: see ``docs/architecture.md``.

    Parameters
    ----------
    config:
        Sizes of the build; model geometry is data in the commands.
    trace:
        Bring every write into an on-chip memory out to ports, for verification. They cost nothing when left open.

    Members
    -------
    control: In(Axi4Lite)
        Registers of ``hw.isa.REGISTERS``.
    read, write: Out(Axi4Read), Out(Axi4Write)
        Memory: program, weights, image; results.
    interrupt:
        Level, until cleared by the host.
    trace_MEMORY: Out(Strobe)
        Payloads of :func:`trace_payloads`.
    trace_place:
        Command in progress, its expert << 16, second expert matrix << 31.
    """

    def __init__(self, config: AcceleratorConfig, *, trace: bool = False) -> None:
        self._config = config
        self._trace = trace
        members = {
            "control": In(Axi4Lite()),
            "read": Out(Axi4Read(config)),
            "write": Out(Axi4Write(config)),
            "interrupt": Out(1),
        }
        if trace:
            members |= {f"trace_{name}": Out(Strobe(payload)) for name, payload in trace_payloads(config).items()}
            members["trace_place"] = Out(32)
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        """Make the units, resettable as one by the registers, and wire them."""
        m = Module()
        config = self._config
        self._registers = m.submodules.registers = ControlRegisters(config, error_sources=5)
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
        job_units = ("engine", "layernorm", "gate", "image", "store")
        layouts = {name: self._units[name].job.payload.shape() for name in job_units}
        self._units["sequencer"] = Sequencer(config, layouts)
        for name, unit in self._units.items():
            m.submodules[name] = ResetInserter(self._registers.clear)(unit)
            setattr(self, f"_{name}", unit)

        self._wire_host(m)
        self._wire_memory(m)
        self._wire_jobs(m, job_units)
        self._wire_compute(m)
        self._wire_nonlinear(m)
        self._wire_on_chip(m)
        if self._trace:
            self._wire_trace(m)
        return m

    def _wire_host(self, m: Module) -> None:
        """Registers: settings out, state, errors and events in."""
        registers, sequencer, engine, master = self._registers, self._sequencer, self._engine, self._read_master
        connect(m, flipped(self.control), registers.bus)
        sources = (master.error, self._store.error, sequencer.error)
        for port, source in zip(registers.error, sources, strict=False):
            m.d.comb += [port.valid.eq(source.valid), port.payload.eq(source.payload)]
        ranges = ((self._scratchpad, ErrorCode.SCRATCHPAD_RANGE), (self._residual, ErrorCode.RESIDUAL_RANGE))
        for port, (memory, code) in zip(list(registers.error)[len(sources) :], ranges, strict=True):
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
            self._residual.read_enable,
            self._softmax.exponentials.valid,
            self._softmax.score_read_enable,
            sequencer.ended,
        )
        m.d.comb += [
            self.interrupt.eq(registers.interrupt),
            registers.quiescent.eq(master.quiescent & self._store.quiescent),
            registers.finished.eq(sequencer.finished),
            registers.saturated.eq(self._writeback.saturated),
            registers.command_index.eq(sequencer.index),
            registers.progress.eq(Cat(*moving).any()),
            registers.stalled_on.eq(Mux(engine.stall_weights, StallSource.STREAM, sequencer.stalled_on)),
            registers.started.valid.eq(sequencer.started),
            registers.started.payload.eq(sequencer.index),
            registers.ended.valid.eq(sequencer.ended),
            registers.ended.payload.eq(sequencer.index),
            registers.mac_busy.eq(engine.beat.valid),
            registers.stall_weights.eq(engine.stall_weights),
            registers.stall_attention.eq(engine.stall_attention),
            registers.stall_drain.eq(engine.stall_drain),
            registers.idle_cycles.eq(~engine.busy),
            registers.read_beat.eq(master.beat),
            registers.write_beat.eq(self._store.transferred),
        ]

    def _wire_memory(self, m: Module) -> None:
        """AXI masters and their clients."""
        registers, master, store = self._registers, self._read_master, self._store
        connect(m, flipped(self.read), master.bus)
        connect(m, flipped(self.write), store.bus)
        for index, client in ((FETCH, self._sequencer), (IMAGE, self._image), (WEIGHTS, self._stream)):
            connect(m, client.request, master.request[index])
            connect(m, master.response[index], client.response)
        for unit in (master, store):
            m.d.comb += [
                unit.window_base.eq(registers.window_base),
                unit.window_limit.eq(registers.window_limit),
                unit.halt.eq(registers.halt),
            ]

    def _wire_jobs(self, m: Module, job_units: Sequence[str]) -> None:
        """The sequencer's settings, jobs and dones."""
        registers, sequencer, stream = self._registers, self._sequencer, self._stream
        m.d.comb += [
            sequencer.start.eq(registers.start),
            sequencer.task_index.eq(registers.task_index),
            sequencer.program_address.eq(registers.program_address),
            sequencer.weight_address.eq(registers.weight_address),
            sequencer.image_base.eq(registers.image_address),
            sequencer.output_base.eq(registers.output_address),
            sequencer.counts.eq(self._gate.counts),
            stream.permit.eq(sequencer.stream_permit),
            sequencer.stream_done.eq(stream.done),
        ]
        connect(m, sequencer.stream_job, stream.job)
        for name in job_units:
            unit = self._units[name]
            connect(m, getattr(sequencer, f"{name}_job"), unit.job)
            m.d.comb += getattr(sequencer, f"{name}_done").eq(unit.done)

    def _wire_compute(self, m: Module) -> None:
        """Engine to array to write-back."""
        engine, array, writeback, stream = self._engine, self._array, self._writeback, self._stream
        parameters, scratchpad, gate = self._parameters, self._scratchpad, self._gate
        connect(m, engine.beat, array.beat)
        connect(m, engine.step, writeback.step)
        connect(m, engine.hold, array.hold)
        connect(m, stream.fill, array.fill)
        connect(m, stream.parameters, parameters.write)
        connect(m, array.result, writeback.result)
        connect(m, engine.load, scratchpad.load)
        connect(m, scratchpad.load_data, engine.load_data)
        connect(m, engine.parameters_release, parameters.release)
        m.d.comb += [
            scratchpad.broadcast_enable.eq(engine.broadcast_enable),
            scratchpad.broadcast_address.eq(engine.broadcast_address),
            array.broadcast.eq(scratchpad.broadcast_data),
            engine.tile_filled.eq(stream.tile_filled),
            stream.tile_freed.eq(engine.tile_freed),
            engine.writeback_idle.eq(writeback.idle),
            engine.parameters_level.eq(parameters.level),
            engine.score_written.eq(writeback.score_write.valid & writeback.score_write.payload.attention),
            gate.queue_address.eq(engine.queue_address),
            engine.queue_entry.eq(gate.queue_entry),
            writeback.constants.eq(engine.constants),
            parameters.read_index.eq(writeback.parameter_index),
            writeback.parameters.eq(parameters.read_data),
        ]

    def _wire_nonlinear(self, m: Module) -> None:
        """Softmax, gate and LayerNorm."""
        engine, softmax, gate, layernorm = self._engine, self._softmax, self._gate, self._layernorm
        connect(m, engine.softmax, softmax.job)
        connect(m, self._writeback.score_write, softmax.score_write)
        connect(m, softmax.exponentials, self._array.exponentials)
        connect(m, self._stream.shift_write, layernorm.shift_write)
        m.d.comb += [
            engine.softmax_done.eq(softmax.done),
            self._writeback.query_scales.eq(softmax.query_scales),
            softmax.score_read_enable.eq(gate.score_read_enable),
            softmax.score_read_address.eq(gate.score_read_address),
            gate.score_read_data.eq(softmax.score_read_data),
        ]

    def _wire_on_chip(self, m: Module) -> None:
        """Scratchpad and residual memory: commands run one at a time, so at most one unit uses a port."""
        scratchpad, residual = self._scratchpad, self._residual
        self._share(
            m,
            scratchpad.write,
            [unit.scratch_write for unit in (self._writeback, self._layernorm, self._image, self._stream)],
        )
        self._share(m, residual.write, [self._writeback.residual_write, self._stream.residual_write])
        writeback, layernorm, store = self._writeback, self._layernorm, self._store
        readers = (
            (writeback.residual_read_enable, writeback.residual_read_address, writeback.residual_read_data),
            (layernorm.residual_read_enable, layernorm.residual_read_address, layernorm.residual_read_data),
            (store.read_enable, store.read_address, store.read_data),
        )
        m.d.comb += residual.read_enable.eq(Cat(*(enable for enable, _, _ in readers)).any())
        for enable, address, word in readers:
            m.d.comb += word.eq(residual.read_data)
            with m.If(enable):
                m.d.comb += residual.read_address.eq(address)

    def _share(self, m: Module, target: wiring.PureInterface, sources: Sequence[wiring.PureInterface]) -> None:
        """Give one write port to whichever source is active."""
        valid = Cat(*(source.valid for source in sources))
        m.d.comb += target.valid.eq(valid.any())
        for source in sources:
            with m.If(source.valid):
                m.d.comb += target.payload.eq(source.payload)
        with m.If(~ResetSignal()):
            m.d.sync += Assert((valid & (valid - 1)[: len(valid)]) == 0, "two units write one memory at once")

    def _wire_trace(self, m: Module) -> None:
        """Every write, as it happens."""
        sequencer, softmax, writeback = self._sequencer, self._softmax, self._writeback
        writes = {
            "scratchpad": self._scratchpad.write,
            "residual": self._residual.write,
            "score": writeback.score_write,
            "queue": self._gate.queue_write,
        }
        for name, write in writes.items():
            port = getattr(self, f"trace_{name}")
            m.d.comb += [port.valid.eq(write.valid), port.payload.eq(write.payload)]
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
            self.trace_place.eq(sequencer.index | self._expert_place(sequencer)),
        ]
        for element in range(p):
            scales = query.payload.scales[element]
            m.d.comb += scales.eq(Mux(buffer, softmax.query_scales[p + element], softmax.query_scales[element]))

    def _expert_place(self, sequencer: Sequencer) -> Value:
        """Where the expert loop is, as ``trace_place`` shows it; 0 outside of it."""
        place = Cat(sequencer.expert, Const(0, 15 - len(sequencer.expert)), sequencer.second_matrix) << 16
        return Mux(sequencer.experts_active, place, 0)
