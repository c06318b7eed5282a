"""Clock gating: units that hold all their registers while they have nothing to do.

Stopping the clock of an idle unit changes no output. It saves power, and work of the simulator. Resets reach a sleeping
unit.

The enable of a sleeping unit is a signal called ``NAME_awake`` beside the unit's instance ``NAME``. The fast simulation
finds it by that name and stops the unit's clock instead (``sim/verilator/simplify.py``). A platform with slow wires
(``always_awake``) leaves all units awake, because one signal to every register of a unit is as long a path as there is.
"""

from __future__ import annotations

from amaranth.hdl import Elaboratable, EnableInserter, Module, Mux, Signal, ValueLike
from amaranth.lib import stream, wiring

from tessera.hw.blocks.jobs import hand_over_while


def sleeping(m: Module, platform: object, name: str, unit: wiring.Component, awake: ValueLike) -> Elaboratable:
    """The unit, to become the submodule ``name``. Registers and memory ports change only in cycles with ``awake``."""
    if getattr(platform, "always_awake", False):
        return unit
    enable = Signal(name=f"{name}_awake")
    m.d.comb += enable.eq(awake)
    return EnableInserter(enable)(unit)


def extend_pulse(m: Module, event: ValueLike, cycles: int, *, name: str) -> Signal:
    """1 in cycles with the event, and in the ``cycles`` after it: the latency of the pipeline that it enters."""
    # A bit per cycle instead of a count: shifting needs no adder.
    remaining, active = Signal(cycles, name=f"{name}_remaining"), Signal(name=f"{name}_active")
    m.d.comb += active.eq(event | remaining[0])
    m.d.sync += remaining.eq(Mux(event, -1, remaining >> 1))
    return active


def hand_over_when_awake(
    m: Module, offered: stream.Interface, job: stream.Interface, done: ValueLike, *, name: str
) -> Signal:
    """Hand the ``offered`` jobs to a unit's ``job`` once it is awake.

    Returns 1 from the cycle after an offer to that of the unit's ``done``. There is a register between an offer and the
    enable, because the enable reaches the whole unit. It costs a job one cycle.
    """
    active = Signal(name=f"{name}_working")
    with m.If(offered.valid):
        m.d.sync += active.eq(1)
    with m.Elif(done):
        m.d.sync += active.eq(0)
    hand_over_while(m, active, offered, job)
    return active
