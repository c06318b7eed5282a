"""How a unit takes its jobs, and how the parts of a unit pass streams on."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, ValueLike
from amaranth.lib import stream, wiring

from tessera.hw.interfaces.strobe import Work


def take_job(
    m: Module, offered: stream.Interface, done: ValueLike, *, keep_until_next: bool = False
) -> wiring.PureInterface:
    """Take an offered job when idle, begin it one cycle later, and be idle again after ``done``.

    There is one register per state, because the sequencer's decisions depend on ``ready``.

    Parameters
    ----------
    offered:
        Stream of jobs.
    done:
        Pulse: the job in progress is finished.
    keep_until_next:
        The last job's fields stay until another job is taken. Otherwise they are undefined between jobs, which saves
        the registers a condition.

    Returns
    -------
    tessera.hw.interfaces.strobe.Work
        The job and the pulse that begins it, ready for ``connect``.
    """
    work = Work(offered.payload.shape()).create(path=("work",))
    idle = Signal(init=1)
    m.d.comb += offered.ready.eq(idle)
    m.d.sync += work.start.eq(idle & offered.valid)
    with m.If(idle & offered.valid if keep_until_next else idle):
        m.d.sync += [work.job.eq(offered.payload), idle.eq(~offered.valid)]
    with m.Elif(done):
        m.d.sync += idle.eq(1)
    return work


def hand_over(m: Module, source: stream.Interface, target: stream.Interface) -> None:
    """Join two streams whose payloads differ: a transfer of one is a transfer of the other."""
    m.d.comb += [target.valid.eq(source.valid), source.ready.eq(target.ready)]


def hand_over_while(m: Module, allowed: ValueLike, source: stream.Interface, target: stream.Interface) -> None:
    """Join two streams with the same payload, but in cycles with ``allowed`` only."""
    m.d.comb += [
        target.payload.eq(source.payload),
        target.valid.eq(source.valid & allowed),
        source.ready.eq(target.ready & allowed),
    ]
