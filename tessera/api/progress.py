"""Progress of the API's functions: bars unless they are switched off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tessera.common.progress import Progress, silent

Shown = bool | Progress
"""Whether to show bars, or a function of stage, fraction and detail that is called instead."""


@contextmanager
def shown(progress: Shown) -> Iterator[Progress]:
    """Yield what a long function reports to."""
    if progress is True:
        from tessera.sw.commands.terminal import Display

        with Display() as display:
            yield display
    else:
        yield progress or silent
