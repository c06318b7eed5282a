"""Programs that this one starts: they end with it, and so does what they started themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_ENDINGS = (signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a program to end, apart from Ctrl-C, which Python raises as an exception by itself."""

_ending = threading.Event()
"""Set once this program ends: no thread starts another program then."""
_PATIENCE = 2.0
"""Seconds that a program has to end when it is asked to."""

_running: set[subprocess.Popen[Any]] = set()


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start a program in a session of its own and yield it; ``options`` are those of ``subprocess.Popen``.

    If the block is left before the program has ended, the whole session is ended.
    """
    if _ending.is_set():
        raise SystemExit
    process = subprocess.Popen(command, start_new_session=True, **options)
    _running.add(process)
    try:
        yield process
    finally:
        _end_session(process)
        _running.discard(process)
        for stream in filter(None, (process.stdin, process.stdout, process.stderr)):
            stream.close()


def end_on_signals() -> None:
    """Let SIGTERM and SIGHUP end this program as an exception does: what it started ends, and what it made aside goes.

    A signal that is ignored stays ignored: ``nohup`` asks for that.
    """
    for number in _ENDINGS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    for ending in _ENDINGS:
        signal.signal(ending, signal.SIG_IGN)  # a second one must not disturb the tidying up after the first
    _ending.set()
    # Threads may wait for a program to end. They must see it end before this thread can wait for them.
    for process in tuple(_running):
        _end_session(process)
    with suppress(OSError):
        print(f"tessera: ended by {signal.Signals(number).name}", file=sys.stderr)
    raise SystemExit(128 + number)


def _end_session(process: subprocess.Popen[Any]) -> None:
    """End a program and what it started: asked first, because compilers have files to remove, then killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)
    process.wait()
