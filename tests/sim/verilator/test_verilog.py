"""Exported designs are kept by content: the same design comes back, another key or edited sources do not find it."""

from __future__ import annotations

from pathlib import Path

import pytest
from amaranth.hdl import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tessera.common import cache, digest
from tessera.sim.verilator.verilog import export_cached, export_verilog


class _Add(wiring.Component):
    def __init__(self) -> None:
        super().__init__({"a": In(data.ArrayLayout(data.StructLayout({"x": 4, "y": 5}), 3)), "o": Out(8)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.o.eq(self.a[0].x + self.a[2].y)
        return m


@pytest.fixture
def made() -> list[int]:
    return []


def _export(made: list[int], key: str = "a"):
    def make() -> _Add:
        made.append(1)
        return _Add()

    return export_cached(make, name="add", key=key)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's folder, in a process that began after the last edit."""
    monkeypatch.setattr(digest, "_STARTED", float("inf"))
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)
    return tmp_path


def test_the_same_design_is_exported_once(kept: Path, made: list[int]) -> None:
    first, second = _export(made), _export(made)
    assert first == second == export_verilog(_Add(), name="add") and len(made) == 1
    assert first.ports[0].leaves[1].path == "y" and first.ports[0].leaves[1].dims == (3,)


def test_another_key_is_another_design(kept: Path, made: list[int]) -> None:
    _export(made)
    _export(made, key="b")
    assert len(made) == 2 and len(list(kept.iterdir())) == 2


def test_sources_edited_after_import_are_of_one_process_alone(
    kept: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _export(made)
    for process, started in enumerate((0.0, 1.0), 2):
        monkeypatch.setattr(digest, "_STARTED", started)
        _export(made)
        assert len(made) == process, "neither the design of before the edit, nor that of the other process"
    monkeypatch.setattr(digest, "_STARTED", float("inf"))
    _export(made)
    assert len(made) == 3, "the design of before the edit is still the one for the others"
