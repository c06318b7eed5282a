"""Units of the machine that are made only to ask them something."""

from __future__ import annotations

import gc
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from amaranth.hdl import UnusedElaboratable


@contextmanager
def unelaborated() -> Iterator[None]:
    """Allow units to be made inside and never elaborated, which Amaranth otherwise warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)
        yield
        # A unit warns when it is collected. Its parts refer to each other, so that this may be later.
        gc.collect()


@contextmanager
def refused_quietly() -> Iterator[None]:
    """Let a design refuse its parameters inside, without Amaranth's warnings of the parts that were made already."""
    try:
        yield
    except ValueError as error:
        with unelaborated():
            traceback.clear_frames(error.__traceback__)  # they hold the parts
        raise
