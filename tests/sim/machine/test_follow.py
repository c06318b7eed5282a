"""Progress of a simulation from lines that are written while it is followed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tessera.common.progress import silent
from tessera.sim.machine import follow

COMMANDS = [
    SimpleNamespace(name="first", ideal_cycles=10, runs=lambda task: True),
    SimpleNamespace(name="second", ideal_cycles=30, runs=lambda task: task == 1),
]
PROGRAM: Any = SimpleNamespace(
    commands=COMMANDS, model=SimpleNamespace(tasks=[SimpleNamespace(name="depth"), SimpleNamespace(name="classes")])
)


def line(frame: int, command: int) -> str:
    return json.dumps({"frame": frame, "cycle": 2_000, "command": command, "seconds": 2.0}) + "\n"


def test_fraction_of_all_ideal_cycles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_POLL_SECONDS", 0.01)
    seen: list[tuple[str, float, str]] = []
    path = tmp_path / "progress.jsonl"

    def wait_for(count: int) -> None:
        end = time.monotonic() + 10
        while len(seen) < count and time.monotonic() < end:
            time.sleep(0.01)
        assert len(seen) == count

    with (
        follow.followed(path, [PROGRAM, PROGRAM], [0, 1], lambda *step: seen.append(step)),
        path.open("w", buffering=1) as file,
    ):
        file.write(line(0, 0) + line(1, 1)[:10])
        file.flush()
        wait_for(1)
        file.write(line(1, 1)[10:] + line(1, 2))
        file.flush()
        wait_for(3)
    assert seen == [
        ("simulate", 0.0, "depth first, 1 kcycles/s"),
        ("simulate", 20 / 50, "classes second, 1 kcycles/s"),
        ("simulate", 1.0, "classes second, 1 kcycles/s"),
    ]


def test_nobody_is_told_without_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(follow.threading, "Thread")
    with follow.followed(tmp_path / "none", [PROGRAM], [0], silent):
        pass
