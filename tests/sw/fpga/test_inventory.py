"""The walk finds every memory and product that the netlist has, and asks the RTL for nothing else."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Array, EnableInserter, Module, Mux, ResetInserter, Signal, signed, unsigned
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from tessera.common.collector import collector_paused
from tessera.hw.accelerator import Accelerator
from tessera.hw.config import AcceleratorConfig
from tessera.hw.ecp5.platform import Ecp5
from tessera.hw.presets import preset
from tessera.sw.fpga.resources.block_rams import block_rams
from tessera.sw.fpga.resources.configurations import CALIBRATION, HELD_BACK
from tessera.sw.fpga.resources.inventory import Inventory, RtlMemory, RtlProduct, inventory, machine_inventory
from tessera.sw.fpga.resources.multipliers import multiplier_blocks
from tessera.sw.fpga.synthesis.units import MACHINE
from tessera.sw.fpga.synthesis.yosys import NARROW_OPERAND


def netlist_inventory(design: str) -> tuple[Counter, Counter]:
    """Memories and products that a design's RTLIL has, of each unit: the truth that the walk must find."""
    memories: Counter[tuple[object, ...]] = Counter()
    products: Counter[tuple[object, ...]] = Counter()
    for unit, text in MACHINE.texts(design).items():
        for module in text.split("\nmodule ")[1:]:
            ports: dict[str, list[list[str]]] = defaultdict(lambda: [[], []])
            for kind, cell in re.findall(r"^  cell \$mem(rd|wr)_v2 (.*?)^  end", module, re.MULTILINE | re.DOTALL):
                memory = re.search(r'MEMID "\\\\(\S+)"', cell)[1]
                ports[memory][kind == "wr"].append(re.search(r"CLK_ENABLE (?:1')?([01])", cell)[1])
            for width, words, name in re.findall(r"^  memory width (\d+) size (\d+) \\(\S+)", module, re.MULTILINE):
                reads, writes = ports[name]
                memories[unit, int(words), int(width), len(reads), len(writes), "0" in reads] += 1
            products[unit, "placed"] += module.count("cell \\MULT18X18D ")
            for cell in re.findall(r"^  cell \$mul (.*?)^  end", module, re.MULTILINE | re.DOTALL):
                bits = sorted(int(width) for width in re.findall(r"parameter \\[AB]_WIDTH (\d+)", cell))
                if not re.search(r"connect \\[AB] \d+'0*10*$", cell, re.MULTILINE):  # a shift
                    products[unit, *bits] += 1
    return memories, +products


def walked_inventory(found: Inventory) -> tuple[Counter, Counter]:
    """What the walk found, in the form of :func:`netlist_inventory`."""
    memories = Counter(
        (unit, part.words, part.width, part.read_ports, part.write_ports, part.asynchronous)
        for unit, parts in found.memories.items()
        for part in parts
    )
    products: Counter[tuple[object, ...]] = Counter()
    for unit, parts in found.products.items():
        for part in parts:
            products[(unit, "placed") if part.placed else (unit, *sorted(part.operands))] += part.count
    return memories, products


def without_narrow(products: Counter) -> Counter:
    """Products that become multiplier blocks, by unit and the bits of their operands."""
    return Counter({key: number for key, number in products.items() if "placed" in key or key[1] >= NARROW_OPERAND})


@pytest.mark.parametrize("config", [CALIBRATION[3], HELD_BACK[2]], ids=lambda config: config.name)
def test_the_walk_finds_what_the_netlist_has(config: AcceleratorConfig) -> None:
    with collector_paused():
        design = rtlil.convert(Accelerator(config), name="top", emit_src=False, platform=Ecp5())
    memories, products = netlist_inventory(design)
    walked_memories, walked_products = walked_inventory(machine_inventory(config))
    assert sum(memories.values()) >= 40 and products["array", "placed"] == config.elements * config.lanes
    assert walked_memories == memories
    # Narrow products cost no multipliers; the netlist has some in assertions, which synthesis removes.
    assert without_narrow(walked_products) == without_narrow(products)


class Nested(Component):
    """Memories and products of each kind, some below wrappers and some in expressions."""

    def __init__(self) -> None:
        super().__init__({"a": In(20), "b": In(signed(9)), "c": Out(signed(64)), "taken": Out(1)})

    def elaborate(self, platform):
        m, inner = Module(), Module()
        inner.submodules.shared = shared = Memory(shape=unsigned(16), depth=64, init=[])
        inner.submodules.table = table = Memory(shape=unsigned(8), depth=128, init=range(100))
        write, read, other = shared.write_port(granularity=8), shared.read_port(domain="comb"), shared.read_port()
        looked_up, address = table.read_port(), Signal(6)
        inner.d.comb += [address.eq(self.a), looked_up.addr.eq(self.a)]
        inner.d.comb += [write.addr.eq(address), read.addr.eq(address), other.addr.eq(self.a[3:])]
        with inner.If((self.a * self.b)[3]):
            inner.d.sync += self.c.eq(Mux(self.a[0], self.a[:7] * self.a[8:], self.a.word_select(self.a[:2], 5)) * 8)
        inner.d.sync += self.taken.eq(Array([read.data, other.data, looked_up.data])[self.a[0]][0])
        m.submodules.unit = ResetInserter(self.a[5])(EnableInserter(self.a[6])(inner))
        return m


def test_the_walk_looks_below_wrappers_and_into_expressions() -> None:
    found = inventory(Nested())
    assert found.memories == {
        "unit": [
            RtlMemory(
                path="unit.shared", words=64, width=16, read_ports=2, shared_ports=1, asynchronous=True, granularity=8
            ),
            RtlMemory(path="unit.table", words=128, width=8, write_ports=0),
        ]
    }
    assert sorted(part.operands for part in found.products["unit"]) == [(2, 3), (7, 12), (21, 9)]
    assert walked_inventory(found) == netlist_inventory(rtlil.convert(Nested(), name="top", platform=Ecp5()))
    with pytest.raises(
        ValueError, match=r"memory unit.shared has 1 write ports with an enable per 8 bits; the estimator"
    ):
        block_rams(found.memories["unit"][0])


def test_a_design_is_walked_once() -> None:
    first = machine_inventory(preset("tiny"))
    assert machine_inventory(replace(preset("tiny"), name="other")) is first


@pytest.mark.parametrize(
    ("operands", "placed", "blocks"),
    [((5, 30), False, 0), ((6, 18), False, 1), ((18, 19), False, 2), ((22, 22), False, 4), ((4, 4), True, 1)],
)
def test_a_product_takes_blocks(operands: tuple[int, int], placed: bool, blocks: int) -> None:
    assert multiplier_blocks(RtlProduct(path="any", operands=operands, count=3, placed=placed)) == 3 * blocks
