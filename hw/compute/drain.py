"""Drain: a step's P accumulators through requantiser and activation function, R at a time."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tessera.hw.blocks.arithmetic import pick
from tessera.hw.blocks.checks import check
from tessera.hw.blocks.fields import assign, same_fields
from tessera.hw.blocks.pipeline import delay, occupancy
from tessera.hw.blocks.sleep import extend_pulse, sleeping
from tessera.hw.compute.activation import Activation
from tessera.hw.compute.requantiser import Requantiser, ResultFormat
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.compute import (
    ParameterMode,
    StepKind,
    accumulators_layout,
    activation_settings_layout,
    factors_layout,
    group_layout,
    job_constants_layout,
    parameter_read,
    parameter_set_layout,
    query_scale_layout,
    query_scales_layout,
    recipe_layout,
    table_write_layout,
)
from tessera.hw.interfaces.memory import MEMORY_LATENCY
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.isa import COUNT_WIDTH, Function
from tessera.hw.tables import ACTIVATION_SEGMENTS, gelu_table


class Drain(wiring.Component):
    """Accumulators to values of their destination, before gate weight and residual.

    ::

        result ─► shift register ─► delay ─┬─► operands ─► Requantiser ─┬─► Activation ──┬─► group
             parameters ─► (ParameterStore)┘                            └─► delay ───────┘

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
    table_write: In(Strobe(table_write))
        Table of ``Function.TABLE``, and behind it its constants; while no value goes through that function (asserted).
    multiplied: Out(Strobe(1)), factors: In(factors)
        A group's values are multiplied by the residual, 1 with the last group of its step; and those residual values,
        ``Activation.FACTOR_LATENCY`` cycles later.
    group: Out(Strobe(group))
        R values of a step; the groups of a step leave in order.
    clipped: Out(1)
        Pulse: a value for the residual stream was clipped.

    Timing: group 0 leaves LATENCY cycles after its result, the others in the cycles that follow.
    """

    LATENCY = 2 + MEMORY_LATENCY + Requantiser.LATENCY + Activation.LATENCY

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        lanes = config.requantise_lanes
        self._tag = data.StructLayout(
            {
                "valid": 1,  # there is a group
                "last": 1,  # the step's last group
                "activated": 1,  # values go through the activation function
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
                "table_write": In(Strobe(table_write_layout(config))),
                "multiplied": Out(Strobe(1)),
                "factors": In(factors_layout(config)),
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
        end = self._later(m, tag, Activation.LATENCY, "activated")
        moves = occupancy(m, tag.valid, Activation.LATENCY - 1, name="passing")
        chosen, enters = self._settings(m), tag.valid & tag.activated
        m.d.comb += [
            self.group.valid.eq(end.valid),
            self.group.payload.last.eq(end.last),
            self.multiplied.valid.eq(enters & chosen.multiplies),
            self.multiplied.payload.eq(tag.last),
        ]
        # Values without a function go beside it, because the drain's latency must not depend on the step.
        active = extend_pulse(m, enters, Activation.LATENCY - 1, name="activation")
        writes = self.table_write.valid
        check(m, writes, ~(active & chosen.loaded), "an activation function's table is written while it is in use")
        clips = Signal(lanes)
        for lane in range(lanes):
            value = requantiser.value[lane]
            unit = Activation(self._config)
            m.submodules[f"activation_{lane}"] = sleeping(m, platform, f"activation_{lane}", unit, active | writes)
            connect(m, flipped(self.table_write), unit.table_write)
            m.d.comb += [
                unit.argument.eq(value),
                unit.factor.eq(self.factors[lane]),
                unit.settings.eq(chosen),
                clips[lane].eq(unit.clipped),
            ]
            passed = delay(m, value, Activation.LATENCY, name=f"passed_{lane}", enables=moves)
            m.d.comb += self.group.payload.value[lane].eq(Mux(end.activated, unit.value, passed))
        exceeds_residual = tag.valid & (tag.target == ResultFormat.RESIDUAL) & requantiser.clipped.any()
        m.d.sync += self.clipped.eq(exceeds_residual | (end.valid & end.activated & clips.any()))
        return m

    def _settings(self, m: Module) -> data.View:
        """What the activation function is to do, from the job's constants and those of the loaded table."""
        constants, write = self.constants, self.table_write
        zero_point, step = Signal(16), Signal()
        settings = Signal(activation_settings_layout(self._config))
        # The entry behind the last segment has the table's constants.
        lines = ACTIVATION_SEGMENTS // len(write.payload.entries)
        with m.If(write.valid & (write.payload.address >= lines)):
            m.d.sync += [zero_point.eq(write.payload.entries[0].base), step.eq(write.payload.entries[0].slope)]
        multiplies, loaded = constants.multiplies, constants.function == Function.TABLE
        without = Mux(constants.function == Function.GELU, gelu_table().zero_point, Mux(loaded, zero_point, 0))
        # Registered, because every lane depends on it: constants are there long before the values.
        m.d.sync += assign(
            settings,
            identity=constants.function == Function.NONE,
            flat=(constants.function == Function.NONE) | (constants.function == Function.RELU),
            loaded=loaded,
            step=loaded & step,
            multiplies=multiplies,
            zero_point=Mux(multiplies, 1, without),
            multiplier=constants.function_multiplier,
            correction=Mux(multiplies, 0, constants.function_multiplier),
            shift=constants.function_shift,
        )
        return settings

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
                *same_fields(divided, recipe, "activated", "mode"),
                divided.scale.eq(Mux(recipe.buffer, groups, 0)),
                divided.set.eq(recipe.parameter_index[: lanes.bit_length() - 1]),
            ]
            with m.Switch(recipe.kind):
                with m.Case(StepKind.RESIDUAL_ADD, StepKind.RESIDUAL_SET):
                    m.d.sync += divided.target.eq(ResultFormat.RESIDUAL)
                with m.Case(StepKind.SCORE):
                    m.d.sync += divided.target.eq(ResultFormat.SCORE)
                with m.Default():
                    curved = ResultFormat.GELU_INPUT
                    m.d.sync += divided.target.eq(Mux(recipe.activated, curved, ResultFormat.ACTIVATION))
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
