"""Bundles that any two units may use: Strobe, and Work."""

from __future__ import annotations

from amaranth.hdl import ShapeLike
from amaranth.lib import wiring
from amaranth.lib.wiring import Out


class Strobe(wiring.Signature):
    """``valid`` and ``payload``, no backpressure.

    Parameters
    ----------
    payload:
        Shape of the payload.

    Members
    -------
    valid: Out(1)
        The payload counts in this cycle; the receiver must take it.
    payload: Out(payload)
        The value; undefined in cycles without ``valid``.
    """

    def __init__(self, payload: ShapeLike) -> None:
        super().__init__({"valid": Out(1), "payload": Out(payload)})


class Work(wiring.Signature):
    """A job for the parts of a unit, and the pulse that begins it.

    Parameters
    ----------
    job:
        Shape of the job.

    Members
    -------
    start: Out(1)
        Pulse: the job begins.
    job: Out(job)
        The job, stable from ``start`` until its last result.
    """

    def __init__(self, job: ShapeLike) -> None:
        super().__init__({"start": Out(1), "job": Out(job)})
