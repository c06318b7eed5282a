"""Writeback: what becomes of the array's results."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tessera.hw.blocks.checks import check
from tessera.hw.blocks.fields import assign, same_fields
from tessera.hw.blocks.pipeline import delay
from tessera.hw.blocks.queue import Queue
from tessera.hw.blocks.sleep import extend_pulse, sleeping
from tessera.hw.compute.activation import Activation
from tessera.hw.compute.assembler import GroupAssembler
from tessera.hw.compute.drain import Drain
from tessera.hw.compute.factors import Factors
from tessera.hw.compute.residual_update import ResidualUpdate
from tessera.hw.compute.transposer import Transposer
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.compute import (
    StepKind,
    StepProgress,
    accumulators_layout,
    destination_layout,
    job_constants_layout,
    parameter_read,
    query_scales_layout,
    recipe_layout,
    step_layout,
    table_write_layout,
)
from tessera.hw.interfaces.memory import residual_read, residual_write_layout, score_write_layout, scratch_write_layout
from tessera.hw.interfaces.strobe import Strobe

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
        Constants of the job, stable until the steps that use them are written.
    parameters: Out(TableRead)
        Read port of the parameter store.
    query_scales: In(query_scales)
        Multiplier and shift of the held queries, at index ``buffer * P + element``.
    scratch_write, score_write, residual_write: Out(Strobe(struct of that name))
        The writes, each memory's in the order of the steps.
    table_write: In(Strobe(table_write))
        Table of ``Function.TABLE``, while no value goes through that function (asserted).
    residual_read: Out(MemoryRead)
        Read port of the residual memory, which must not be held up.
    progress: Out(StepProgress)
        Scores and jobs that have been written, and whether all steps have.
    row_written: Out(1)
        Pulse: a step with ``row_last`` is being written; it can be read two cycles later.
    saturated: Out(1)
        Pulse: a residual value was clipped; no later than the first cycle of ``progress.idle``.

    Timing: a step is written LATENCY + P / R - 1 cycles after its result, RESIDUAL_UPDATE more if to the residual
    memory. Attention outputs are written row by row once their words are complete.
    """

    LATENCY = Drain.LATENCY + GroupAssembler.LATENCY + 1
    RESIDUAL_UPDATE = ResidualUpdate.LATENCY - GroupAssembler.LATENCY - 1

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        self._depth = max(4, WAIT_CYCLES * config.requantise_lanes // config.elements)
        super().__init__(
            {
                "step": In(Strobe(step_layout(config))),
                "result": In(Strobe(accumulators_layout(config))),
                "constants": In(job_constants_layout(config)),
                "parameters": Out(parameter_read(config)),
                "query_scales": In(query_scales_layout(config)),
                "scratch_write": Out(Strobe(scratch_write_layout(config))),
                "table_write": In(Strobe(table_write_layout(config))),
                "residual_read": Out(residual_read(config)),
                "residual_write": Out(Strobe(residual_write_layout(config))),
                "score_write": Out(Strobe(score_write_layout(config))),
                "progress": Out(StepProgress()),
                "row_written": Out(1),
                "saturated": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Drain and assemble each step; then its destination decides which unit takes the values."""
        m = Module()
        config = self._config
        m.submodules.drain = drain = Drain(config)
        m.submodules.assembler = assembler = GroupAssembler(config)
        residual, transposer = ResidualUpdate(config), Transposer(config)
        updates = extend_pulse(m, residual.request.valid, ResidualUpdate.LATENCY, name="residual")
        m.submodules.residual = sleeping(m, platform, "residual", residual, updates)
        transposes = transposer.channel.valid | transposer.busy
        m.submodules.transposer = sleeping(m, platform, "transposer", transposer, transposes)
        leaves = Signal()
        m.d.comb += leaves.eq(drain.group.valid & drain.group.payload.last)
        m.d.comb += drain.recipe.eq(self._queue(m, "recipes", recipe_layout(config), self.result.valid))
        target = self._queue(m, "destinations", destination_layout(config), leaves)
        connect(m, flipped(self.result), drain.result)
        connect(m, drain.parameters, flipped(self.parameters))
        connect(m, drain.group, assembler.group)
        connect(m, flipped(self.table_write), drain.table_write)
        m.d.comb += [
            drain.constants.eq(self.constants),
            drain.query_scales.eq(self.query_scales),
            assembler.weighted.eq(target.weighted & (target.kind == StepKind.RESIDUAL_ADD)),
            assembler.gate_weight.eq(target.gate_weight),
        ]
        self._update_residual(m, residual, assembler, target, leaves)
        self._read_residual(m, residual, drain)
        to_residual = residual.request.valid
        m.d.sync += self.saturated.eq(drain.clipped | residual.saturated)

        # A step's destination goes along with its values through the assembler.
        at = data.View(target.shape(), delay(m, target.as_value(), GroupAssembler.LATENCY, name="destination"))
        direct = delay(m, leaves & ~to_residual, GroupAssembler.LATENCY, name="assembled")
        self._write_directly(m, at, direct, assembler.values, transposer)
        for last, pulse in (("row_last", self.row_written), ("job_last", self.progress.job_written)):
            updated = delay(m, to_residual & target[last], ResidualUpdate.LATENCY, name=f"updated_{last}")
            written = delay(m, direct & at[last], 1, name=f"written_{last}")
            m.d.comb += pulse.eq(updated | written)
            check(m, updated, ~written, "the results of two jobs overtake each other")
        self._report(m, direct, residual.write.valid, transposer.busy)
        return m

    def _update_residual(
        self, m: Module, residual: ResidualUpdate, assembler: GroupAssembler, target: data.View, leaves: Signal
    ) -> None:
        """Request an update with the oldest step's last group, if its values go to the residual memory."""
        request, adds = residual.request, target.kind == StepKind.RESIDUAL_ADD
        sets = (target.kind == StepKind.RESIDUAL_SET) | (target.kind == StepKind.RESIDUAL_MULTIPLY)
        to_residual = adds | sets
        m.d.comb += [
            request.valid.eq(leaves & to_residual),
            request.payload.add.eq(adds),
            *same_fields(request.payload, target, "address", "column"),
            residual.values.eq(assembler.values),
        ]
        connect(m, residual.write, flipped(self.residual_write))

    def _read_residual(self, m: Module, residual: ResidualUpdate, drain: Drain) -> None:
        """One port for what is added to and for what is multiplied: the engine keeps jobs of both kinds apart."""
        m.submodules.factors = factors = Factors(self._config, self._depth)
        connect(m, drain.multiplied, factors.group)
        m.d.comb += [
            factors.step.valid.eq(self.step.valid & (self.step.payload.kind == StepKind.RESIDUAL_MULTIPLY)),
            *assign(factors.step.payload, self.step.payload, add=0),
            drain.factors.eq(delay(m, factors.values, Activation.FACTOR_LATENCY - Factors.LATENCY, name="factors")),
            self.residual_read.enable.eq(residual.read.enable | factors.read.enable),
            self.residual_read.address.eq(
                Mux(factors.read.enable, factors.read.address, residual.read.address),
            ),
        ]
        word = self.residual_read.data
        m.d.comb += [read.data.eq(word) for read in (residual.read, factors.read)]
        both = residual.read.enable & factors.read.enable
        check(m, factors.read.enable, ~both, "the residual is added to while it is multiplied")

    def _report(self, m: Module, direct: Value, updated: Value, transposes: Value) -> None:
        """Count the steps that are not written yet."""
        pending, written = Signal(range(2 * WAIT_CYCLES)), delay(m, direct, 1, name="written")
        # Idle is registered: a job's end has time, and the comparison is long.
        m.d.sync += [
            pending.eq(pending + self.step.valid - written - updated),
            self.progress.idle.eq((pending == 0) & ~self.step.valid & ~transposes & ~self.scratch_write.valid),
        ]
        score = self.score_write
        m.d.comb += self.progress.score_written.eq(score.valid & score.payload.attention)

    def _queue(self, m: Module, name: str, layout: data.StructLayout, take: Value) -> data.View:
        """Keep fields of every step until ``take``; returns those of the oldest."""
        m.submodules[name] = queue = Queue(layout, self._depth)
        m.d.comb += [
            *same_fields(queue.source.payload, self.step.payload),
            queue.source.valid.eq(self.step.valid),
            queue.target.ready.eq(take),
        ]
        check(m, self.step.valid, queue.source.ready, f"more steps than the queue of {name} holds")
        check(m, take, queue.target.valid, f"{name}: a result without a step")
        return queue.target.payload

    def _write_directly(
        self, m: Module, at: data.View, valid: Value, values: data.View, transposer: Transposer
    ) -> None:
        """Assembled values to scratchpad, score buffer and transposer; writes leave from registers."""
        config = self._config
        scratch, score, channel = self.scratch_write, self.score_write, transposer.channel
        activates = Signal()
        m.d.comb += [
            activates.eq(valid & (at.kind == StepKind.ACTIVATION)),
            channel.valid.eq(valid & (at.kind == StepKind.ATTENTION)),
            *same_fields(channel.payload, at, "flush", "rows", "address", "row_stride"),
        ]
        # Steps of one kind and words of the transposer never come together, because attention jobs run alone.
        m.d.sync += [
            score.valid.eq(valid & (at.kind == StepKind.SCORE)),
            *assign(score.payload, at, data=list(values)),
            scratch.valid.eq(activates | transposer.write.valid),
            scratch.payload.address.eq(Mux(activates, at.address, transposer.write.payload.address)),
            scratch.payload.columns.eq(Mux(activates, 1 << at.column, transposer.write.payload.columns)),
        ]
        for element in range(config.elements):
            m.d.comb += channel.payload.data[element].eq(values[element])
        for lane in range(config.lanes):
            value = values[lane % config.elements][: config.numerics.activation_width]
            m.d.sync += scratch.payload.data[lane].eq(Mux(activates, value, transposer.write.payload.data[lane]))
        check(m, activates, ~transposer.write.valid, "an activation while attention outputs are being written")
