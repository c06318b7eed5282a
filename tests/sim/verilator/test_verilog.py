"""Exported designs are kept by content: the same design comes back, another key or edited sources do not hit it."""

from __future__ import annotations

from pathlib import Path

import pytest
from amaranth.hdl import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from sim.verilator import verilog
from sim.verilator.verilog import export_cached, export_verilog


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


def _export(folder: Path, made: list[int], key: str = "a"):
    def make() -> _Add:
        made.append(1)
        return _Add()

    return export_cached(make, name="add", key=key, folder=folder)


@pytest.fixture(autouse=True)
def _unedited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verilog, "_IMPORTED", float("inf"))


def test_the_same_design_is_exported_once(tmp_path: Path, made: list[int]) -> None:
    first, second = _export(tmp_path, made), _export(tmp_path, made)
    assert first == second == export_verilog(_Add(), name="add") and len(made) == 1
    assert first.ports[0].leaves[1].path == "y" and first.ports[0].leaves[1].dims == (3,)


def test_another_key_is_another_design(tmp_path: Path, made: list[int]) -> None:
    _export(tmp_path, made)
    _export(tmp_path, made, key="b")
    assert len(made) == 2 and len(list(tmp_path.iterdir())) == 2


def test_sources_edited_after_import_are_never_cached(
    tmp_path: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _export(tmp_path, made)
    monkeypatch.setattr(verilog, "_IMPORTED", 0.0)
    _export(tmp_path, made)
    _export(tmp_path, made)
    assert len(made) == 3 and len(list(tmp_path.iterdir())) == 1
