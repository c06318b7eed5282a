"""Activation: one pipelined lane of an activation function, and its requantisation or its product with a residual."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tessera.hw.blocks.arithmetic import exceeds, pick, saturate
from tessera.hw.blocks.multiplier import Multiplier
from tessera.hw.blocks.piecewise import Piecewise, interpolate
from tessera.hw.blocks.pipeline import delay
from tessera.hw.blocks.rounding import ROUNDING_LATENCY, registered_round_shift
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.compute import activation_settings_layout, table_entry_layout, table_write_layout
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.tables import ACTIVATION_SEGMENTS, gelu_table

_FRACTION_BITS = gelu_table().delta.fraction_bits
"""Bits of an argument within a segment."""


class Activation(wiring.Component):
    """An activation function as ReLU minus a tabulated even difference (Edge-MoE, section on GELU).

    ::

        z ─► |z|, ReLU ─► difference(|z|) ─► ReLU - difference + zero point ─► x multiplier ─► round shift ─► clip
                                                                       residual ──┘

    A step such as the sigmoid is the difference itself, or 1 minus it (``tessera.hw.tables.ActivationTable``).

    Parameters
    ----------
    config:
        Number formats.

    Members
    -------
    argument: In(signed(gelu_input))
        Format ``gelu_input``, 11 fraction bits.
    factor: In(signed(residual_width))
        Residual value of the argument, FACTOR_LATENCY cycles after it.
    settings: In(activation_settings)
        The function, and constants that requantise ``gelu_output`` (14 fraction bits, with zero point) to an
        activation. They are stable while values are in flight.
    table_write: In(Strobe(table_write))
        Entries of the table of ``Function.TABLE``. GELU's lies beside it and stays.
    value: Out(signed(residual_width))
        LATENCY cycles later, format ``unsigned_activation``; or the product, saturated to the residual's format.
    clipped: Out(1)
        The product was clipped.

    Timing: LATENCY cycles, initiation interval 1, no backpressure.
    Resources: two tables of 512 segments, two multipliers.
    Tested: every argument.
    """

    FACTOR_LATENCY = 1 + Piecewise.LATENCY
    LATENCY = FACTOR_LATENCY + Multiplier.LATENCY + 1 + ROUNDING_LATENCY + 1

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        numerics = config.numerics
        super().__init__(
            {
                "argument": In(signed(numerics.gelu_input.width)),
                "factor": In(signed(numerics.residual_width)),
                "settings": In(activation_settings_layout(config)),
                "table_write": In(Strobe(table_write_layout(config))),
                "value": Out(signed(numerics.residual_width)),
                "clipped": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        numerics, settings = self._config.numerics, self.settings
        # First stage: the table holds only the even difference, so that it needs the magnitude alone.
        width, fraction = numerics.gelu_input.width, numerics.gelu_output.fraction
        magnitude, main, negative = Signal(width), Signal(signed(width)), self.argument[-1]
        above = Mux(settings.step, 1 << numerics.gelu_input.fraction, self.argument)
        m.d.sync += [
            magnitude.eq(Mux(negative, -self.argument, self.argument)),
            main.eq(Mux(negative & ~settings.identity, 0, above)),
        ]
        difference = self._look_up(m, magnitude)
        # ReLU and zero point join on the way, so that one sum is left: a - (v >> n) - r = a + ~(v >> n) + ~r.
        raised = Signal(signed(numerics.gelu_output.width + 3))
        m.d.sync += raised.eq((main << (fraction - numerics.gelu_input.fraction)) + settings.zero_point)
        raised = delay(m, raised, Piecewise.LATENCY - 1, name="raised")
        # A step adds the difference to 0 for a negative argument: a + (v >> n) + r. Only the inversion differs.
        subtracts = delay(m, ~(negative & settings.step), self.FACTOR_LATENCY, name="subtracts")
        narrowing = numerics.gelu_delta.fraction - fraction
        added = Cat(difference[narrowing - 1 :], Const(0, 1))
        added = (added ^ subtracts.replicate(len(added))).as_signed()
        total = (Cat(1, raised).as_signed() + added)[1:].as_signed()
        self._scale(m, total)
        return m

    def _look_up(self, m: Module, magnitude: Value) -> Value:
        """The difference, from GELU's table or the other one; its lines have as many entries as a chunk."""
        settings, write = self.settings, self.table_write
        per_line = len(write.payload.entries)
        lines, part_bits = ACTIVATION_SEGMENTS // per_line, exact_log2(per_line)
        m.submodules.function_table = table = memory.Memory(
            shape=data.ArrayLayout(table_entry_layout(), per_line), depth=2 * lines, init=_initial(per_line)
        )
        port, read = table.write_port(), table.read_port()
        # Segments beyond the table, and those of no function, read as GELU's last one, which is 0.
        segment = magnitude[_FRACTION_BITS:]
        index_bits = exact_log2(ACTIVATION_SEGMENTS)
        index = Mux(settings.flat | segment[index_bits:].any(), ~0, segment[:index_bits])
        m.d.comb += [
            port.en.eq(write.valid & (write.payload.address < lines)),
            port.addr.eq(write.payload.address),
            port.data.eq(write.payload.entries),
            read.addr.eq(Cat(index[part_bits:index_bits], ~settings.loaded)),
        ]
        part = delay(m, index[:part_bits], 1, name="part")
        entry = Signal(table_entry_layout())
        m.d.sync += entry.as_value().eq(pick([one.as_value() for one in read.data], part))
        fraction = delay(m, magnitude[:_FRACTION_BITS], 2, name="fraction")
        value = Signal(entry.base.shape())
        m.d.sync += value.eq(interpolate(m, entry.base, entry.slope.as_signed(), fraction))
        return value

    def _scale(self, m: Module, total: Value) -> None:
        """Times the multiplier with the zero point, or times the residual without."""
        numerics, settings = self._config.numerics, self.settings
        output = saturate(total, numerics.gelu_output)
        # The value is unsigned and as wide as the signed factors. Half its range is subtracted before the product is
        # made, and the product of that half is added behind it. A factor of a residual is signed, with a bit less
        # behind the point; its zero point of 1 rounds that bit.
        width, half = len(output), len(output) - 1
        offset = Cat(output[:half], ~output[half]).as_signed()
        m.submodules.scaler = multiplier = Multiplier(max(width, numerics.residual_width), 1, width)
        m.d.comb += [
            multiplier.broadcast.eq(Mux(settings.multiplies, self.factor, settings.multiplier)),
            multiplier.stationary[0].eq(Mux(settings.multiplies, total[1 : width + 1].as_signed(), offset)),
        ]
        product = Signal(signed(width + max(numerics.multiplier_width + 1, numerics.residual_width)))
        m.d.sync += product.eq(multiplier.product[0] + (settings.correction << half))
        rounded = registered_round_shift(m, product, settings.shift, name="rounded")
        requantised = saturate(rounded, numerics.unsigned_activation)
        m.d.sync += [
            self.value.eq(Mux(settings.multiplies, saturate(rounded, numerics.residual), requantised)),
            self.clipped.eq(settings.multiplies & exceeds(rounded, numerics.residual)),
        ]


def _initial(per_line: int) -> list[list[dict[str, int]]]:
    """Lines of an empty table, then those of GELU's."""
    delta, mask = gelu_table().delta, (1 << table_entry_layout().members["slope"]) - 1
    entries = [{"base": 0, "slope": 0}] * ACTIVATION_SEGMENTS
    entries += [{"base": base, "slope": slope & mask} for base, slope in zip(delta.base, delta.slope, strict=True)]
    entries += [{"base": 0, "slope": 0}] * (2 * ACTIVATION_SEGMENTS - len(entries))
    return [entries[first : first + per_line] for first in range(0, len(entries), per_line)]
