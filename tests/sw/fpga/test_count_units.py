"""Units are counted on their own as they are in the whole, and no unit twice."""

from pathlib import Path

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Cat, Module
from amaranth.lib.wiring import Component, In, Out

from tessera.common import cache
from tessera.common.progress import silent
from tessera.hw.ecp5.platform import Ecp5
from tessera.sw.fpga.measure import measure
from tessera.sw.fpga.resources import count
from tessera.sw.fpga.resources.count import count_units
from tessera.sw.fpga.synthesis.units import MACHINE, UnitSplit
from tests.sw.fpga.test_synth import Pair, Products, Store


class Another(Component):
    """One of the units of ``Pair``, in another neighbourhood."""

    # In the order of Pair's: ports of a unit are in that of what drives them.
    address: In(10)
    left: In(18)
    right: In(18)
    later: Out(57)

    def elaborate(self, platform):
        m = Module()
        m.submodules.store = store = Store(256)
        m.submodules.products = products = Products()
        m.d.comb += [
            store.address.eq(self.address),
            store.data.eq(self.right),
            store.write.eq(self.left[0]),
            products.left.eq(store.word),
            products.right.eq(self.right),
            products.narrow.eq(self.address),
        ]
        m.d.sync += self.later.eq(Cat(products.wide, products.scaled))
        return m


def design(component: Component) -> str:
    return rtlil.convert(component, name="top", emit_src=False, platform=Ecp5())


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Designs that went through Yosys, with nothing remembered from before."""
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path / "units")
    monkeypatch.setattr(count, "_WORK", tmp_path / "work")
    designs: list[str] = []
    whole = count.synthesise

    def noted(text: str, *arguments: object, **options: object) -> object:
        designs.append(text)
        return whole(text, *arguments, **options)

    monkeypatch.setattr(count, "synthesise", noted)
    return designs


@pytest.mark.soak
def test_units_are_counted_as_in_the_whole_and_only_once(mapped: list[str], tmp_path: Path) -> None:
    whole = measure(Pair(), tmp_path / "whole").modules
    assert count_units(design(Pair()), "pair", silent) == whole and len(mapped) == 1
    assert count_units(design(Pair()), "pair", silent) == whole and len(mapped) == 1, "it is remembered"
    found = count_units(design(Another()), "another", silent)
    assert len(mapped) == 2 and found["products"] == whole["products"] and found["top"]["ff"] == 57
    assert "blackbox" in mapped[1] and "$mul" not in mapped[1], "the unit that is known is an empty box"


def test_what_is_left_out_is_not_counted(mapped: list[str]) -> None:
    found = count_units(design(Pair()), "pair", silent, leave_out={"store", "products"})
    assert found.keys() == {"top", "aside"} and found["aside"]["bram"] == 1 and found["top"]["bram"] == 0


def test_a_units_text_is_its_own() -> None:
    pair, another = MACHINE.texts(design(Pair())), MACHINE.texts(design(Another()))
    assert pair["products"] == another["products"]
    assert pair["store"] != another["store"], "their depths differ"


def test_names_of_units() -> None:
    board = UnitSplit(core="top.system.accelerator", apart=("top.system.memory",))
    names = {
        "top": "top",
        "top.system": "top",
        "top.system.accelerator": "top",
        "top.system.accelerator.array$5": "array",
        "top.system.accelerator.softmax$70.scales$3.table": "softmax",
        "top.system.memory.bridge": "memory",
        "top.system.memory_reset": "top",
    }
    assert {module: board.name(module) for module in names} == names
    assert MACHINE.name("top.softmax$7.scales") == "softmax" and MACHINE.name("TRELLIS_FF") == "top"
