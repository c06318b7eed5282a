"""Measurement of a run: events and cycles into counters and stamps, and these into the registers that show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth.hdl import Module, Value
from amaranth.lib import data, wiring

from tessera.hw.blocks.fields import same_fields
from tessera.hw.blocks.pipeline import connect_delayed, delay
from tessera.hw.config import AcceleratorConfig
from tessera.hw.control.counters import Counters
from tessera.hw.control.registers import RegisterFile
from tessera.hw.control.stamps import CommandStamps
from tessera.hw.isa import CycleCause

OBSERVED = 2
"""Cycles from an event to its count and stamp, because events come from far away."""


@dataclass(frozen=True, kw_only=True)
class RunEvents:
    """What is counted and stamped.

    Parameters
    ----------
    progress:
        Commands that are handed out; :class:`tessera.hw.interfaces.sequencer.ProgramProgress`.
    ended:
        One :class:`tessera.hw.interfaces.strobe.Strobe` per unit, with the index of a command that it has ended.
    beats:
        Beats transferred in this cycle; :func:`tessera.hw.interfaces.control.beat_events_layout`.
    """

    progress: wiring.PureInterface
    ended: Sequence[wiring.PureInterface]
    beats: data.View


def _connect_counters(m: Module, counters: Counters, registers: RegisterFile, events: RunEvents, cause: Value) -> None:
    """Count beats and the cycles' causes, and show the counts."""
    counts, shown = counters.counts, registers.shown
    m.d.comb += [
        counters.beats.eq(delay(m, events.beats, OBSERVED, name="beats")),
        # ``cause`` comes a cycle after its cycle already; one register makes the OBSERVED.
        counters.cause.eq(delay(m, cause, OBSERVED - 1, name="cause")),
        *same_fields(shown, counts, "cycles", "read_bytes", "write_bytes"),
        *(shown[cause.counter].eq(counts.causes[cause]) for cause in CycleCause),
    ]


def _connect_stamps(m: Module, stamps: CommandStamps, registers: RegisterFile, events: RunEvents, owner: Value) -> None:
    """Stamp the commands of ``events``, and show the selected command's stamps."""
    shown = registers.shown
    # All that is stamped comes equally late, so that stamps and counters belong to the same cycle.
    for ended, stamped in zip(events.ended, stamps.ended, strict=True):
        connect_delayed(m, ended, stamped, OBSERVED, name="ended")
    m.d.comb += [
        stamps.started.valid.eq(delay(m, events.progress.started, OBSERVED, name="started")),
        stamps.started.payload.eq(delay(m, events.progress.index, OBSERVED, name="index")),
        stamps.owner.eq(delay(m, owner, OBSERVED, name="owner")),
        stamps.select.eq(registers.settings.stamp_select),
        shown.stamp_start.eq(stamps.start),
        shown.stamp_end.eq(stamps.end),
        shown.stamp_previous.eq(stamps.entry.previous),
        shown.last_owner.eq(stamps.last_owner),
        *(shown[cause.stamp].eq(stamps.entry.shares[cause]) for cause in CycleCause),
    ]


def measure_run(
    m: Module,
    config: AcceleratorConfig,
    registers: RegisterFile,
    events: RunEvents,
    found: wiring.PureInterface,
    *,
    clear: Value,
    running: Value,
) -> None:
    """Make the counters and the stamps of a run.

    Parameters
    ----------
    events:
        What is counted and stamped.
    found:
        Causes and owners of the cycles; :class:`tessera.hw.interfaces.control.CycleReport`.
    clear:
        Pulse before a run.
    running:
        The machine runs.
    """
    m.submodules.counters = counters = Counters(config)
    m.submodules.stamps = stamps = CommandStamps(config, len(events.ended))
    _connect_counters(m, counters, registers, events, found.cause)
    _connect_stamps(m, stamps, registers, events, found.owner)
    observed = delay(m, running, OBSERVED, name="observed")
    for part in (counters, stamps):
        m.d.comb += [part.clear.eq(clear), part.running.eq(observed)]
    m.d.comb += [stamps.cycles.eq(counters.counts.cycles), stamps.totals.eq(counters.counts.causes)]
