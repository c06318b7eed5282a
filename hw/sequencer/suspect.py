"""The unit that the watchdog names when nothing moves."""

from __future__ import annotations

from amaranth.hdl import Const, Mux, Value

from tessera.hw.isa import StallSource
from tessera.hw.sequencer.ledger import ENGINE, GATE, IMAGE, NORM, STORE, STREAM

SUSPECTS = (
    (STREAM, StallSource.STREAM),
    (IMAGE, StallSource.IMAGE),
    (STORE, StallSource.STORE),
    (ENGINE, StallSource.ENGINE),
    (NORM, StallSource.LAYERNORM),
    (GATE, StallSource.GATE),
)
"""Order in which busy units are suspected: a unit that uses external memory first, because others wait for its data."""


def suspect(busy: Value) -> Value:
    """The ``StallSource`` to name: the first busy unit of ``SUSPECTS``, or the command fetch if no unit is busy.

    Parameters
    ----------
    busy:
        One bit for each unit, in the order of ``tessera.hw.sequencer.ledger.UNITS``.
    """
    named: Value = Const(StallSource.FETCH, max(StallSource).bit_length())
    # The last multiplexer decides first, so the order is reversed.
    for unit, source in reversed(SUSPECTS):
        named = Mux(busy[unit], source, named)
    return named
