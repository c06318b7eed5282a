"""Writeback: what becomes of the array's results."""

from __future__ import annotations

from amaranth.hdl import Assert, Module, Mux, ResetSignal, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from hw.blocks.pipeline import delay
from hw.blocks.sleep import lasting, sleeping
from hw.compute.assembler import GroupAssembler
from hw.compute.drain import Drain
from hw.compute.residual_update import ResidualUpdate
from hw.compute.transposer import Transposer
from hw.config import AcceleratorConfig
from hw.interfaces.compute import (
    StepKind,
    accumulators_layout,
    destination_layout,
    job_constants_layout,
    parameter_set_layout,
    query_scale_layout,
    recipe_layout,
    step_layout,
)
from hw.interfaces.memory import residual_lanes_layout, residual_write_layout, score_write_layout, scratch_write_layout
from hw.interfaces.strobe import Strobe

WAIT_CYCLES = 64
"""Longest time a step waits for its values to be assembled: the array's latency and the drain's."""


class Writeback(wiring.Component):
    """Requantise each step's accumulators and write them to scratchpad, residual memory or score buffer, in order.

    ::

        step ──► queue of recipes ──┐      queue of destinations ──────────────┬───────────────────────┐
        result ─────────────────────┴─► Drain ─► GroupAssembler (gate weight) ─┼─► scratch_write       │
                                                                               ├─► score_write         │
                                                                               ├─► Transposer ─► scratch_write
                                                                               └─► ResidualUpdate ─► residual_write

    Parameters
    ----------
    config:
        Sizes.

    Members
    -------
    step: In(Strobe(step)), result: In(Strobe(accumulators))
        Step i and, later, its sums. Both at least P / R cycles apart. Overflow of the queues is asserted.
    constants: In(job_constants)
        Stable until the steps that use them are written.
    parameter_index: Out(16), parameters: In(ArrayLayout(parameter_set, R))
        Read port of the parameter store.
    query_scales: In(ArrayLayout(query_scale, 2 P))
        Multiplier and shift of the held queries, at index ``buffer * P + element``.
    scratch_write, score_write, residual_write: Out(Strobe(struct of that name))
        The writes, each memory's in the order of the steps.
    residual_read_enable, residual_read_address: Out; residual_read_data: In
        Read port of the residual memory.
    row_written, job_written: Out(1)
        Pulses: a step with ``row_last`` or ``job_last`` is being written; it can be read two cycles later.
    idle: Out(1)
        Every step issued so far has been written and can be read. Rises two cycles after the last write, falls in the
        cycle after a step.
    saturated: Out(1)
        Pulse: a residual value was clipped; no later than the first cycle of ``idle``.

    Timing: a step is written LATENCY + P / R - 1 cycles after its result, RESIDUAL_UPDATE more if to the residual
    memory; attention outputs row by row once their words are complete.
    """

    LATENCY = Drain.LATENCY + GroupAssembler.LATENCY + 1
    RESIDUAL_UPDATE = ResidualUpdate.LATENCY - GroupAssembler.LATENCY - 1

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "step": In(Strobe(step_layout(config))),
                "result": In(Strobe(accumulators_layout(config))),
                "constants": In(job_constants_layout(config)),
                "parameter_index": Out(16),
                "parameters": In(data.ArrayLayout(parameter_set_layout(config), config.requantise_lanes)),
                "query_scales": In(data.ArrayLayout(query_scale_layout(config), 2 * config.elements)),
                "scratch_write": Out(Strobe(scratch_write_layout(config))),
                "residual_read_enable": Out(1),
                "residual_read_address": Out(16),
                "residual_read_data": In(residual_lanes_layout(config)),
                "residual_write": Out(Strobe(residual_write_layout(config))),
                "score_write": Out(Strobe(score_write_layout(config))),
                "row_written": Out(1),
                "job_written": Out(1),
                "idle": Out(1),
                "saturated": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        m.submodules.drain = drain = Drain(config)
        m.submodules.assembler = assembler = GroupAssembler(config)
        residual, transposer = ResidualUpdate(config), Transposer(config)
        updates = lasting(m, residual.request.valid, ResidualUpdate.LATENCY, name="residual")
        m.submodules.residual = sleeping(m, platform, "residual", residual, updates)
        m.submodules.transposer = sleeping(
            m, platform, "transposer", transposer, transposer.channel.valid | transposer.busy
        )
        group = drain.group
        leaves = Signal()
        m.d.comb += leaves.eq(group.valid & group.payload.last)
        drained = self._queue(m, "recipes", recipe_layout(config), self.result.valid)
        target = self._queue(m, "destinations", destination_layout(config), leaves)
        m.d.comb += [
            drain.result.valid.eq(self.result.valid),
            drain.result.payload.eq(self.result.payload),
            drain.recipe.eq(drained),
            drain.constants.eq(self.constants),
            drain.parameters.eq(self.parameters),
            drain.query_scales.eq(self.query_scales),
            self.parameter_index.eq(drain.parameter_index),
            assembler.valid.eq(group.valid),
            assembler.value.eq(group.payload.value),
            assembler.weighted.eq(target.weighted & (target.kind == StepKind.RESIDUAL_ADD)),
            assembler.gate_weight.eq(target.gate_weight),
        ]
        to_residual = (target.kind == StepKind.RESIDUAL_ADD) | (target.kind == StepKind.RESIDUAL_SET)
        m.d.comb += [
            residual.request.valid.eq(leaves & to_residual),
            residual.request.payload.add.eq(target.kind == StepKind.RESIDUAL_ADD),
            residual.request.payload.address.eq(target.address),
            residual.request.payload.column.eq(target.column),
            residual.values.eq(assembler.values),
            residual.read_data.eq(self.residual_read_data),
            self.residual_read_enable.eq(residual.read_enable),
            self.residual_read_address.eq(residual.read_address),
            self.residual_write.valid.eq(residual.write.valid),
            self.residual_write.payload.eq(residual.write.payload),
        ]
        m.d.sync += self.saturated.eq(drain.clipped | residual.saturated)

        at = data.View(
            destination_layout(config), delay(m, target.as_value(), GroupAssembler.LATENCY, name="destination")
        )
        direct = delay(m, leaves & ~to_residual, GroupAssembler.LATENCY, name="assembled")
        self._write_directly(m, at, direct, assembler.values, transposer)
        for name, pulse in (("row_last", self.row_written), ("job_last", self.job_written)):
            updated = delay(m, leaves & to_residual & target[name], ResidualUpdate.LATENCY, name=f"updated_{name}")
            written = delay(m, direct & at[name], 1, name=f"written_{name}")
            m.d.comb += pulse.eq(updated | written)
            with m.If(updated & ~ResetSignal()):
                m.d.sync += Assert(~written, "the results of two jobs overtake each other")

        pending, written = Signal(range(2 * WAIT_CYCLES)), delay(m, direct, 1, name="written")
        m.d.sync += [
            pending.eq(pending + self.step.valid - written - residual.write.valid),
            self.idle.eq((pending == 0) & ~self.step.valid & ~transposer.busy & ~self.scratch_write.valid),
        ]
        return m

    def _queue(self, m: Module, name: str, layout: data.StructLayout, take: Value) -> data.View:
        """Keep fields of every step until ``take``; returns those of the oldest."""
        config = self._config
        depth = max(4, WAIT_CYCLES * config.requantise_lanes // config.elements)
        m.submodules[name] = queue = SyncFIFO(width=layout.size, depth=depth)
        fields = Signal(layout, name=f"{name}_fields")
        m.d.comb += [
            *(fields[field].eq(self.step.payload[field]) for field in layout.members),
            queue.w_data.eq(fields.as_value()),
            queue.w_en.eq(self.step.valid),
            queue.r_en.eq(take),
        ]
        with m.If(~ResetSignal()):
            m.d.sync += [
                Assert(queue.w_rdy | ~self.step.valid, f"more steps than the queue of {name} holds"),
                Assert(queue.r_rdy | ~take, f"{name}: a result without a step"),
            ]
        return data.View(layout, queue.r_data)

    def _write_directly(self, m: Module, at: data.View, valid: Value, values: data.View, transposer) -> None:
        """Assembled values to scratchpad, score buffer and transposer; writes leave from registers."""
        config = self._config
        scratch, score, channel = self.scratch_write, self.score_write, transposer.channel
        activates = Signal()
        m.d.comb += [
            activates.eq(valid & (at.kind == StepKind.ACTIVATION)),
            channel.valid.eq(valid & (at.kind == StepKind.ATTENTION)),
            *(channel.payload[name].eq(at[name]) for name in ("flush", "rows", "address", "row_stride")),
        ]
        m.d.sync += [
            score.valid.eq(valid & (at.kind == StepKind.SCORE)),
            *(score.payload[name].eq(at[name]) for name in ("address", "attention", "buffer", "first")),
            scratch.valid.eq(activates | transposer.write.valid),
            scratch.payload.address.eq(Mux(activates, at.address, transposer.write.payload.address)),
            scratch.payload.columns.eq(Mux(activates, 1 << at.column, transposer.write.payload.columns)),
        ]
        for element in range(config.elements):
            m.d.sync += score.payload.data[element].eq(values[element])
            m.d.comb += channel.payload.data[element].eq(values[element])
        for lane in range(config.lanes):
            value = values[lane % config.elements][: config.numerics.activation_width]
            m.d.sync += scratch.payload.data[lane].eq(Mux(activates, value, transposer.write.payload.data[lane]))
        with m.If(activates & ~ResetSignal()):
            m.d.sync += Assert(~transposer.write.valid, "an activation while attention outputs are being written")
