"""Registers beside a pipeline: delays, enables that let empty stages hold still, and copies for distant readers."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Const, Module, Signal, Value
from amaranth.lib import data, wiring


def delay(
    m: Module, value: Value | data.View, cycles: int, *, name: str, enables: Sequence[Value] | None = None
) -> Value | data.View:
    """``value`` of ``cycles`` cycles ago, in registers called ``name_1``, ``name_2``, ...

    Parameters
    ----------
    enables:
        Enable of each stage, see :func:`occupancy`. With enables the result is not reset, and is meaningful only where
        something valid passes.
    """
    for stage in range(1, cycles + 1):
        register = Signal(value.shape(), name=f"{name}_{stage}", reset_less=enables is not None)
        with m.If(enables[stage - 1] if enables is not None else Const(1)):
            m.d.sync += register.eq(value)
        value = register
    return value


def connect_delayed(
    m: Module, source: wiring.PureInterface, target: wiring.PureInterface, cycles: int, *, name: str
) -> None:
    """Join two strobes; an event of ``source`` reaches ``target`` so many ``cycles`` later."""
    m.d.comb += [
        target.valid.eq(delay(m, source.valid, cycles, name=f"{name}_valid")),
        target.payload.eq(delay(m, source.payload, cycles, name=f"{name}_payload")),
    ]


def copy(m: Module, value: Value, *, name: str) -> Signal:
    """``value`` of a cycle ago, in a duplicate register that synthesis must not merge: for readers placed far away.

    ``tessera.sw.fpga.synthesis.yosys`` knows the register by its attribute.
    """
    register = Signal(len(value), name=name, reset_less=True, attrs={"apart": "1"})
    m.d.sync += register.eq(value)
    return register


def occupancy(m: Module, valid: Value, cycles: int, *, name: str = "valid") -> list[Value]:
    """``valid`` now and of 1, 2, ... ``cycles`` cycles ago: item n says whether stage n of a pipeline takes something.

    Registers that load only then hold still in between. This saves power and simulation time.
    """
    moves = [valid]
    for stage in range(1, cycles + 1):
        moves.append(Signal(name=f"{name}_{stage}"))
        m.d.sync += moves[stage].eq(moves[stage - 1])
    return moves
