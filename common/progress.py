"""The one callback that tells how far a long job is, and how a part of a job reports as a slice of the whole."""

from __future__ import annotations

import time
from collections.abc import Callable

Progress = Callable[[str, float, str], None]
"""Called with the name of a stage, the fraction of it that is done (0 to 1), and a few words on where it is, or none.

Stages follow one another: a new name ends the stage before it.
"""


def silent(stage: str, fraction: float, detail: str) -> None:
    """Tell nobody."""


def within(
    on_progress: Progress, stage: str, start: float = 0.0, stop: float = 1.0, *, detail: str | None = None
) -> Progress:
    """Make the callback for a job that is a part of a stage.

    Parameters
    ----------
    on_progress:
        Callback of the whole job.
    stage:
        Name of its stage that the part belongs to.
    start, stop:
        Fractions of the stage between which the part lies.
    detail:
        Words to show all the time. Without any, the part's stages and details are shown.
    """
    if on_progress is silent:
        return silent

    def told(name: str, fraction: float, words: str) -> None:
        shown = ": ".join(part for part in (name, words) if part) if detail is None else detail
        on_progress(stage, start + (stop - start) * fraction, shown)

    return told


def throttled(on_progress: Progress, seconds: float = 0.25) -> Progress:
    """Pass on one call in so many seconds, and the end of each stage."""
    last = float("-inf")

    def told(stage: str, fraction: float, detail: str) -> None:
        nonlocal last
        now = time.monotonic()
        if fraction >= 1 or now - last >= seconds:
            last = now
            on_progress(stage, fraction, detail)

    return told
