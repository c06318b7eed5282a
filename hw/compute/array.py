"""ComputeArray: P dot products of T lanes per cycle, accumulated over the beats of a step."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tessera.hw.blocks.arithmetic import registered_tree
from tessera.hw.blocks.multiplier import Multiplier
from tessera.hw.blocks.pipeline import copy
from tessera.hw.compute.bank import StationaryBanks
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.compute import accumulators_layout, beat_layout, job_constants_layout
from tessera.hw.interfaces.memory import (
    MEMORY_LATENCY,
    bank_exponentials_layout,
    bank_fill_layout,
    bank_hold_layout,
    lanes_layout,
)
from tessera.hw.interfaces.strobe import Strobe


class ComputeArray(wiring.Component):
    """The unified compute unit's datapath: every multiplication of a layer but the requantiser's happens here.

    A *step* is one broadcast row reduced against the stationary row of each element, one beat per word of T lanes.
    ``first`` clears the accumulators, ``last`` hands them over. A beat in every cycle, steps back to back, steps of a
    single beat and pauses are all allowed. ::

        beat --> banks --(5)-----------> operands --> products --> adder tree --> accumulator --> result
                 broadcast --> broadcast operand ^  1            1          log2 T            1

    Operands are the lanes, extended to A + 1 signed bits by ``broadcast_unsigned`` and ``stationary_unsigned``.
    ``wide`` beats multiply 16-bit signed values instead, the low 16 bits of lanes 2i + 1 and 2i together: T/2 products
    in the even lanes' multipliers. Accumulators wrap: the compiler makes sure that reductions fit
    ``accumulator_width``.

    Parameters
    ----------
    config:
        Sizes and number formats.

    Members
    -------
    beat: In(Strobe(beat))
        Stationary address and flags of one beat.
    broadcast: In(lanes)
        The beat's broadcast word, MEMORY_LATENCY cycles after the beat.
    constants: In(job_constants)
        Their ``padding`` is each lane of the word of a ``padded`` beat, in the same cycle.
    fill, hold, exponentials:
        The banks' writers, see :class:`StationaryBanks`.
    result: Out(Strobe(accumulators))
        P accumulators of a step, valid for one cycle, ``LATENCY`` cycles after its last beat.

    Timing: ``LATENCY = 8 + log2 T``, no backpressure. Resources: P x T multiplier blocks.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        self.LATENCY = StationaryBanks.LATENCY + Multiplier.LATENCY + (config.lanes - 1).bit_length() + 1
        super().__init__(
            {
                "beat": In(Strobe(beat_layout(config))),
                "broadcast": In(lanes_layout(config)),
                "constants": In(job_constants_layout(config)),
                "fill": In(stream.Signature(bank_fill_layout(config))),
                "hold": In(Strobe(bank_hold_layout(config))),
                "exponentials": In(stream.Signature(bank_exponentials_layout(config))),
                "result": Out(Strobe(accumulators_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Banks, multipliers lane by lane, then a tree and an accumulator per element."""
        m = Module()
        config, payload = self._config, self.beat.payload
        m.submodules.banks = banks = StationaryBanks(config)
        connect(m, flipped(self.fill), banks.fill)
        connect(m, flipped(self.hold), banks.hold)
        connect(m, flipped(self.exponentials), banks.exponentials)
        m.d.comb += [banks.read.enable.eq(self.beat.valid), banks.read.address.eq(payload.stationary_address)]

        def delayed(bit: Value, cycles: int, name: str) -> Value:
            pipe = Signal(cycles, name=name)
            m.d.sync += pipe.eq(Cat(bit, pipe))
            return pipe[-1]

        # Flags travel beside the words that they belong to.
        modes = {
            "wide": delayed(payload.wide, MEMORY_LATENCY, "wide"),
            "padded": delayed(payload.padded, MEMORY_LATENCY, "padded"),
            "broadcast_unsigned": delayed(payload.broadcast_unsigned, MEMORY_LATENCY, "broadcast_unsigned"),
            "stationary_unsigned": delayed(payload.stationary_unsigned, banks.LATENCY - 1, "stationary_unsigned"),
        }
        products = self._products(m, banks, **modes)
        valid = delayed(self.beat.valid, self.LATENCY - 1, "valid")
        first = delayed(payload.first, self.LATENCY - 1, "first")
        last = delayed(self.beat.valid & payload.last, self.LATENCY, "last")
        for i in range(config.elements):
            total = self._sum(m, [lane[i] for lane in products], f"_{i}")
            # The accumulator is loaded only with a valid beat, so that pauses within a step change nothing.
            accumulator = Signal(signed(config.numerics.accumulator_width), name=f"accumulator_{i}", reset_less=True)
            with m.If(valid):
                m.d.sync += accumulator.eq(Mux(first, 0, accumulator) + total)
            m.d.comb += self.result.payload[i].eq(accumulator)
        m.d.comb += self.result.valid.eq(last)
        return m

    def _products(
        self,
        m: Module,
        banks: StationaryBanks,
        *,
        wide: Value,
        padded: Value,
        broadcast_unsigned: Value,
        stationary_unsigned: Value,
    ) -> list:
        """One multiplier component per lane; returns its products, element by element.

        In wide beats the odd lanes' broadcast operand is zero, which silences their products.
        """
        width, wide_width = self._config.numerics.activation_width, self._config.numerics.wide.width

        def extended(lane: Value, is_unsigned: Value) -> Value:
            return Cat(lane, lane[-1] & ~is_unsigned).as_signed()

        def joined(word: Sequence[Value], k: int, is_unsigned: Value, wide: Value) -> Value:
            return Mux(wide, Cat(word[k], word[k + 1])[:wide_width].as_signed(), extended(word[k], is_unsigned))

        # Each element has its own bits: they go to all of its operands.
        modes = [
            [
                copy(m, bit, name=f"{name}_{i}")
                for name, bit in (("element_unsigned", stationary_unsigned), ("element_wide", wide))
            ]
            for i in range(self._config.elements)
        ]
        products = []
        broadcast = [Mux(padded, self.constants.padding, lane) for lane in self.broadcast]
        for k in range(self._config.lanes):
            even = k % 2 == 0
            operand_width = max(width + 1, wide_width) if even else width + 1
            m.submodules[f"lane_{k}"] = lane = Multiplier(operand_width, self._config.elements)
            # A lane's multipliers lie apart: a register on their operand's way to them.
            shared = Signal.like(lane.broadcast, name=f"broadcast_{k}", reset_less=True)
            if even:
                m.d.sync += shared.eq(joined(broadcast, k, broadcast_unsigned, wide))
            else:
                m.d.sync += shared.eq(Mux(wide, 0, extended(broadcast[k], broadcast_unsigned)))
            m.d.comb += lane.broadcast.eq(shared)
            for i, operand in enumerate(lane.stationary):
                word = banks.read.data[i]
                source = joined(word, k, *modes[i]) if even else extended(word[k], modes[i][0])
                m.d.comb += operand.eq(source)
            products.append(lane.product)
        return products

    def _sum(self, m: Module, products: list[Value], suffix: str) -> Value:
        """Adder tree over one element's products, a register per level.

        The sum of a pair has one bit more than a product of two lanes. It has no bit more than a wide product, because
        the odd lane's product is 0 then.

        Names end with the element's number (``suffix``). So a simulator keeps the sums of a level side by side, as
        vectors.
        """
        numerics = self._config.numerics
        lane_product, wide_product = 2 * (numerics.activation_width + 1), 2 * numerics.wide.width
        width = max(wide_product, lane_product + 1)
        pairs = []
        for k in range(0, len(products), 2):
            pair = Signal(signed(width), name=f"pair_{k // 2}{suffix}", reset_less=True)
            m.d.sync += pair.eq(products[k] + products[k + 1])
            pairs.append(pair)
        total, _depth = registered_tree(m, pairs, suffix=suffix)
        return total
