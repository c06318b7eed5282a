"""What accompanies a value through a pipeline: the same delay, enables that let empty stages hold still, copies."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Const, Module, Signal, Value
from amaranth.lib import data


def delay(
    m: Module, value: Value | data.View, cycles: int, *, name: str, enables: Sequence[Value] | None = None
) -> Value | data.View:
    """``value`` of ``cycles`` cycles ago; registers are called ``name_1``, ``name_2``, ...

    Parameters
    ----------
    enables:
        Of each stage, see :func:`occupancy`; the result is meaningful where something valid passes, and not reset.
    """
    for stage in range(1, cycles + 1):
        register = Signal(value.shape(), name=f"{name}_{stage}", reset_less=enables is not None)
        with m.If(enables[stage - 1] if enables is not None else Const(1)):
            m.d.sync += register.eq(value)
        value = register
    return value


def copy(m: Module, value: Value, *, name: str) -> Signal:
    """``value`` of a cycle ago, in a register that synthesis leaves apart from equal ones: for readers far from them.

    ``sw.fpga.synthesis.yosys`` knows it by its attribute.
    """
    register = Signal(len(value), name=name, reset_less=True, attrs={"apart": "1"})
    m.d.sync += register.eq(value)
    return register


def occupancy(m: Module, valid: Value, cycles: int, *, name: str = "valid") -> list[Value]:
    """``valid`` now and of 1, 2, ... ``cycles`` cycles ago: item n tells whether stage n of a pipeline takes something.

    Registers that load only then hold still in between, which saves power, and the simulation of them.
    """
    moves = [valid]
    for stage in range(1, cycles + 1):
        moves.append(Signal(name=f"{name}_{stage}"))
        m.d.sync += moves[stage].eq(moves[stage - 1])
    return moves
