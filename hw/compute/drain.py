"""Drain: a step's P accumulators through the requantiser and GELU, R at a time."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.arithmetic import pick
from tessera.hw.blocks.checks import check
from tessera.hw.blocks.fields import same_fields
from tessera.hw.blocks.pipeline import delay, occupancy
from tessera.hw.blocks.sleep import extend_pulse, sleeping
from tessera.hw.compute.gelu import Gelu
from tessera.hw.compute.requantiser import Requantiser, ResultFormat
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.compute import (
    ParameterMode,
    StepKind,
    accumulators_layout,
    group_layout,
    job_constants_layout,
    parameter_read,
    parameter_set_layout,
    query_scale_layout,
    query_scales_layout,
    recipe_layout,
)
from tessera.hw.interfaces.memory import MEMORY_LATENCY
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.isa import COUNT_WIDTH


class Drain(wiring.Component):
    """Accumulators to values of their destination, before gate weight and residual.

    ::

        result ─► shift register ─► delay ─┬─► operands ─► Requantiser ─┬─► Gelu ──┬─► group
             parameters ─► (ParameterStore)┘                            └─► delay ─┘

    Parameters
    ----------
    config:
        Sizes.

    Members
    -------
    result: In(Strobe(accumulators)), recipe: In(recipe)
        Sums of one step and what to do with them; at least P / R cycles apart (asserted).
    constants: In(job_constants)
        Constants of the job, stable until its last group has left.
    parameters: Out(TableRead)
        Read port of the parameter store.
    query_scales: In(query_scales)
        Multiplier and shift of each held query, at index ``buffer * P + element``.
    group: Out(Strobe(group))
        R values of a step; the groups of a step leave in order.
    clipped: Out(1)
        Pulse: a value for the residual stream was clipped.

    Timing: group 0 leaves LATENCY cycles after its result, the others in the cycles that follow.
    """

    LATENCY = 2 + MEMORY_LATENCY + Requantiser.LATENCY + Gelu.LATENCY

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        lanes = config.requantise_lanes
        self._tag = data.StructLayout(
            {
                "valid": 1,  # there is a group
                "last": 1,  # the step's last group
                "gelu": 1,  # values go through GELU
                "target": ResultFormat,  # format of the requantiser's results
                "mode": ParameterMode,  # where the operands come from
                "set": range(max(2, lanes)),  # mode STEP: the step's set among the R sets that are read
                "scale": range(max(2, 2 * config.elements // lanes)),  # mode QUERY: the group among all query scales
            }
        )
        super().__init__(
            {
                "result": In(Strobe(accumulators_layout(config))),
                "recipe": In(recipe_layout(config)),
                "constants": In(job_constants_layout(config)),
                "parameters": Out(parameter_read(config)),
                "query_scales": In(query_scales_layout(config)),
                "group": Out(Strobe(group_layout(config))),
                "clipped": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes = self._config.requantise_lanes
        accumulator, tag = self._divide(m)
        requantiser = Requantiser(self._config)
        m.submodules.requantiser = requantiser
        tag = self._choose_operands(m, requantiser, accumulator, tag)
        tag = self._later(m, tag, Requantiser.LATENCY, "requantised")
        m.d.sync += self.clipped.eq(tag.valid & (tag.target == ResultFormat.RESIDUAL) & requantiser.clipped.any())

        end = self._later(m, tag, Gelu.LATENCY, "activated")
        moves = occupancy(m, tag.valid, Gelu.LATENCY - 1, name="passing")
        m.d.comb += [self.group.valid.eq(end.valid), self.group.payload.last.eq(end.last)]
        # Values without GELU go beside it, because the drain's latency must not depend on the step.
        curved = extend_pulse(m, tag.valid & tag.gelu, Gelu.LATENCY - 1, name="gelu")
        for lane in range(lanes):
            value = requantiser.value[lane]
            gelu = Gelu(self._config)
            m.submodules[f"gelu_{lane}"] = sleeping(m, platform, f"gelu_{lane}", gelu, curved)
            m.d.comb += [
                gelu.argument.eq(value),
                gelu.multiplier.eq(self.constants.gelu_multiplier),
                gelu.shift.eq(self.constants.gelu_shift),
            ]
            passed = delay(m, value, Gelu.LATENCY, name=f"passed_{lane}", enables=moves)
            m.d.comb += self.group.payload.value[lane].eq(Mux(end.gelu, gelu.value, passed))
        return m

    def _later(self, m: Module, tag: data.View, cycles: int, name: str) -> data.View:
        """A tag some cycles later."""
        return data.View(self._tag, delay(m, tag.as_value(), cycles, name=name))

    def _divide(self, m: Module) -> tuple[Value, data.View]:
        """Shift a step's accumulators out in groups of R; returns the group's bits and its tag."""
        config, recipe = self._config, self.recipe
        lanes = config.requantise_lanes
        groups = config.elements // lanes
        width = lanes * config.numerics.accumulator_width
        waiting = Signal(groups * width)
        remaining = Signal(range(groups + 1))
        divided, tag, index = Signal(self._tag), Signal(self._tag), Signal(COUNT_WIDTH)
        # The sums shift down by a group per cycle, so that a group needs no multiplexer.
        with m.If(self.result.valid):
            m.d.sync += [
                waiting.eq(self.result.payload.as_value()),
                remaining.eq(groups),
                index.eq(recipe.parameter_index),
                *same_fields(divided, recipe, "gelu", "mode"),
                divided.scale.eq(Mux(recipe.buffer, groups, 0)),
                divided.set.eq(recipe.parameter_index[: lanes.bit_length() - 1]),
            ]
            with m.Switch(recipe.kind):
                with m.Case(StepKind.RESIDUAL_ADD, StepKind.RESIDUAL_SET):
                    m.d.sync += divided.target.eq(ResultFormat.RESIDUAL)
                with m.Case(StepKind.SCORE):
                    m.d.sync += divided.target.eq(ResultFormat.SCORE)
                with m.Default():
                    m.d.sync += divided.target.eq(Mux(recipe.gelu, ResultFormat.GELU_INPUT, ResultFormat.ACTIVATION))
        with m.Elif(remaining != 0):
            m.d.sync += [
                waiting.eq(waiting >> width),
                remaining.eq(remaining - 1),
                divided.scale.eq(divided.scale + 1),
                index.eq(index + Mux(divided.mode == ParameterMode.STEP, 0, lanes)),
            ]
        m.d.comb += [
            tag.eq(divided),
            tag.valid.eq(remaining != 0),
            tag.last.eq(remaining == 1),
            self.parameters.address.eq(index),
        ]
        check(m, self.result.valid, remaining <= 1, "a result while {} groups of the last one wait", remaining)
        return waiting[:width], tag

    def _choose_operands(self, m: Module, requantiser: Requantiser, accumulator: Value, tag: data.View) -> data.View:
        """Bias, multiplier and shift of each lane into registers before the requantiser; returns the group's tag."""
        config = self._config
        lanes, width = config.requantise_lanes, config.numerics.accumulator_width
        moves = occupancy(m, tag.valid, MEMORY_LATENCY)
        accumulator = delay(m, accumulator, MEMORY_LATENCY, name="fetched", enables=moves)
        # Parameter sets come from memory with the group; query scales are registers, so they are picked a cycle before.
        scale_bits = query_scale_layout(config).size
        before = self._later(m, tag, MEMORY_LATENCY - 1, "fetching")
        scales = Signal(lanes * scale_bits)
        with m.If(moves[-2]):
            held, size = self.query_scales.as_value(), lanes * scale_bits
            m.d.sync += scales.eq(pick([held[i : i + size] for i in range(0, len(held), size)], before.scale))
        tag = self._later(m, before, 1, "fetched")
        for lane in range(lanes):
            source = Signal(parameter_set_layout(config), name=f"source_{lane}")
            scale = data.View(query_scale_layout(config), scales.word_select(lane, scale_bits))
            with m.Switch(tag.mode):
                with m.Case(ParameterMode.ELEMENT):
                    m.d.comb += source.eq(self.parameters.data[lane])
                with m.Case(ParameterMode.STEP):
                    m.d.comb += source.eq(self.parameters.data[tag.set])
                with m.Case(ParameterMode.SCORE):
                    m.d.comb += [
                        source.multiplier.eq(self.constants.score_multiplier),
                        source.shift.eq(self.constants.score_shift),
                    ]
                with m.Case(ParameterMode.QUERY):
                    m.d.comb += same_fields(source, scale, "multiplier", "shift")
            with m.If(moves[-1]):
                m.d.sync += [
                    requantiser.accumulator[lane].eq(accumulator[lane * width : (lane + 1) * width].as_signed()),
                    requantiser.bias[lane].eq(source.bias),
                    requantiser.multiplier[lane].eq(source.multiplier),
                    requantiser.shift[lane].eq(source.shift),
                ]
        chosen = self._later(m, tag, 1, "chosen")
        m.d.comb += [requantiser.valid.eq(chosen.valid), requantiser.target.eq(chosen.target)]
        return chosen
