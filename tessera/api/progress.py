"""Progress of the API's functions: bars unless they are switched off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tessera.common.expected import WrongKindError, described
from tessera.common.progress import Progress, silent

Shown = bool | Progress
"""Whether to show bars, or a function of stage, fraction and detail that is called instead."""


@contextmanager
def shown(progress: Shown) -> Iterator[Progress]:
    """Yield what a long function reports to; WrongKindError for what cannot be called."""
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise WrongKindError(f"progress is {described(progress)}; expected True, False, or a function to call with it")
    if progress is True:
        from tessera.sw.commands.terminal import Display

        with Display() as display:
            yield display
    else:
        yield progress or silent
