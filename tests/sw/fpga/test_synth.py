"""Cells are counted rightly on designs small enough to count by hand; what must not be built is refused."""

import io
import re

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, signed
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out
from rich.console import Console

from tessera.common.progress import silent
from tessera.golden.config import M3VIT_BACKBONE, NANO
from tessera.hw.accelerator import Accelerator
from tessera.hw.boards.on_chip_memory import OnChipMemory
from tessera.hw.compute.activation import Activation
from tessera.hw.presets import preset
from tessera.hw.sdram.chip import ANY_CHIP
from tessera.hw.sdram.memory import SdramMemory
from tessera.sw.compiler.fit import fit
from tessera.sw.fpga.measure import SynthesisCost, measure, run_synth, synth_table
from tessera.sw.fpga.synthesis.cost import SynthesisError, count, excess, family
from tessera.sw.fpga.synthesis.yosys import COLLISION_FREE, LARGEST_REGISTER_FILE, synthesise
from tests.helpers.networks import network_of


class Products(Component):
    """An 18 x 18 product and one with a 3-bit operand, registered."""

    left: In(signed(18))
    right: In(signed(18))
    narrow: In(3)
    wide: Out(signed(36))
    scaled: Out(signed(21))

    def elaborate(self, platform):
        m = Module()
        m.d.sync += [self.wide.eq(self.left * self.right), self.scaled.eq(self.left * self.narrow)]
        return m


class Store(Component):
    """Words of 18 bits and a register behind them."""

    address: In(10)
    write: In(1)
    data: In(18)
    word: Out(18)

    def __init__(self, depth=1024):
        self.depth = depth
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = Memory(shape=18, depth=self.depth, init=[])
        write, read = ram.write_port(), ram.read_port()
        m.d.comb += [
            write.addr.eq(self.address),
            write.data.eq(self.data),
            write.en.eq(self.write),
            read.addr.eq(self.address),
            read.en.eq(~self.write),
        ]
        m.d.sync += self.word.eq(read.data)
        return m


class Pair(Component):
    """Both and a second memory, each a module of its own."""

    address: In(10)
    write: In(1)
    data: In(18)
    word: Out(18)
    other: Out(18)
    wide: Out(signed(36))
    scaled: Out(signed(21))

    def elaborate(self, platform):
        m = Module()
        m.submodules.store = store = Store()
        m.submodules.aside = aside = Store(512)
        m.submodules.products = products = Products()
        m.d.comb += [
            *(getattr(part, name).eq(getattr(self, name)) for part in (store, aside) for name in ("write", "data")),
            store.address.eq(self.address),
            aside.address.eq(self.address[1:]),
            self.word.eq(store.word),
            self.other.eq(aside.word),
            products.left.eq(store.word),
            products.right.eq(self.data),
            products.narrow.eq(self.address),
            self.wide.eq(products.wide),
            self.scaled.eq(products.scaled),
        ]
        return m


def test_each_module_is_counted(tmp_path):
    progress = []
    result = measure(Pair(), tmp_path, on_progress=lambda *step: progress.append(step)).to_dict()
    store, products = result["modules"]["store"], result["modules"]["products"]
    assert store == {"lut": store["lut"], "ff": 18, "dsp": 0, "bram": 1}
    assert store["lut"] <= 2, "a memory with one port needs no logic beside an inverter"
    assert (products["ff"], products["dsp"], products["bram"]) == (36 + 21, 1, 0), "the narrow product takes no block"
    assert 21 <= products["lut"] <= 150
    assert result["modules"]["top"]["ff"] == 0
    assert {name: result[name] for name in ("ff", "dsp", "bram")} == {"ff": 36 + 57, "dsp": 1, "bram": 2}
    assert result["lut"] == sum(module["lut"] for module in result["modules"].values())
    memories = {use["unit"]: (use["name"], use["words"], use["width"], use["kind"]) for use in result["memories"]}
    assert memories == {"store": ("ram", 1024, 18, "block"), "aside": ("ram", 512, 18, "block")}
    assert result["fits"] and not result["excess"]
    shares = [share for _, share, _ in progress]
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_each_module_is_counted_in_another_family(tmp_path):
    result = measure(Pair(), tmp_path, family="xcup").to_dict()
    store, products = result["modules"]["store"], result["modules"]["products"]
    assert (store["ff"], store["dsp"], store["bram"]) == (18, 0, 1)
    assert (products["dsp"], products["bram"]) == (1, 0)
    assert {use["unit"]: use["kind"] for use in result["memories"]} == {"store": "block", "aside": "block"}
    assert result["device"]["name"] == "XCZU9EG" and result["fits"]


def test_unit_of_the_machine(tmp_path):
    result = measure(Activation(preset("tiny")), tmp_path).total
    assert result["dsp"] == 2, "the factor in front and the table's slope"
    assert result["bram"] == 2
    assert 50 < result["lut"] < 1000


class Faulty(Component):
    """A design with one fault, by name."""

    a: In(8)
    b: In(8)
    out: Out(8)

    def __init__(self, fault):
        self.fault = fault
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        getattr(self, f"_{self.fault}")(m)
        return m

    def _divider(self, m):
        m.d.comb += self.out.eq(self.a // self.b)

    def _remainder(self, m):
        m.d.sync += self.out.eq(self.a % self.b)

    def _register_file(self, m):
        m.submodules.ram = ram = Memory(shape=8, depth=64, init=[])
        writes = [ram.write_port() for _ in range(3)]
        read = ram.read_port(domain="comb")
        m.d.comb += [read.addr.eq(self.a), self.out.eq(read.data)]
        for number, port in enumerate(writes):
            m.d.comb += [port.addr.eq(self.b + number), port.data.eq(self.a), port.en.eq(self.b[number])]


@pytest.mark.parametrize(
    "fault, words",
    [
        ("divider", "a divider: top/"),
        ("remainder", "a divider: top/"),
        ("register_file", f"64 x 8 bits, became flip-flops (at most {LARGEST_REGISTER_FILE} bits may)"),
    ],
)
def test_what_must_not_be_built_is_refused(fault, words, tmp_path):
    with pytest.raises(SynthesisError) as raised:
        measure(Faulty(fault), tmp_path)
    assert words in str(raised.value)


LATCH = """
  cell $dlatch \\holder
    parameter \\WIDTH 1
    parameter \\EN_POLARITY 1'1
    connect \\EN \\a
    connect \\D \\b
    connect \\Q \\out
  end
"""
LOOP = """
  cell $_XOR_ \\forth
    connect \\A \\a
    connect \\B \\out
    connect \\Y \\between
  end
  cell $_XOR_ \\back
    connect \\A \\between
    connect \\B \\b
    connect \\Y \\out
  end
"""
UNDRIVEN = """
  connect \\out \\between
"""
UNKNOWN = """
  cell \\mystery \\part
    connect \\a \\out
  end
"""


@pytest.mark.parametrize(
    "content, words",
    [
        (LATCH, "a latch: top/holder"),
        (LOOP, "found logic loop in module top"),
        (UNDRIVEN, "out is used but has no driver"),
        (UNKNOWN, r"check.log\): ERROR: Module `\\mystery'"),
    ],
    ids=["latch", "loop", "undriven", "unknown"],
)
def test_what_amaranth_would_not_write_is_refused_too(content, words, tmp_path):
    wires = "wire input 1 \\a\nwire input 2 \\b\nwire output 3 \\out\nwire \\between\n"
    with pytest.raises(SynthesisError, match=words):
        synthesise(f"module \\top\n{wires}{content}end\n", tmp_path, silent)


def test_cells_are_weighed():
    cells = {"LUT4": 10, "$paramod$1\\CCU2C": 3, "PFUMX": 5, "L6MUX21": 2, "TRELLIS_DPR16X4": 2, "TRELLIS_FF": 7}
    statistics = {"modules": {"\\top": {"num_cells_by_type": cells}}}
    assert count(statistics, family("ecp5")) == {"top": {"lut": 10 + 6 + 8, "ff": 7, "dsp": 0, "bram": 0}}


def test_nothing_is_left_uncounted():
    mystery = {"modules": {"\\top": {"num_cells_by_type": {"MYSTERY": 2}}}}
    with pytest.raises(SynthesisError, match="2 cells MYSTERY in top"):
        count(mystery, family("ecp5"))
    twice = {"modules": {"\\top": {"num_cells_by_type": {"top.a": 2}}, "\\top.a": {"num_cells_by_type": {}}}}
    with pytest.raises(SynthesisError, match="top.a is used 2 times"):
        count(twice, family("ecp5"))


def test_excess_is_named():
    limits = dict(family("ecp5").limits)
    assert excess(limits, family("ecp5")) == []
    assert excess({**limits, "dsp": 157}, family("ecp5")) == ["needs 157 dsp, LFE5U-85F has 156"]


def test_unknown_names_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="unknown FPGA family 'ice40'; choose one of: ecp5, xcup"):
        run_synth("tiny", tmp_path / "out", "ice40")
    with pytest.raises(ValueError, match="unknown preset 'huge'"):
        run_synth("huge", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_table_shows_every_module():
    modules = {"array": {"lut": 1234, "ff": 2, "dsp": 3, "bram": 4}}
    cost = SynthesisCost(family=family("ecp5"), modules=modules, memories=[], seconds=0.0)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(synth_table("tiny", cost))
    text = console.export_text()
    assert all(word in text for word in ("array", "1,234", "83,640", "total"))


@pytest.mark.parametrize("model", [NANO, M3VIT_BACKBONE], ids=lambda model: model.name)
def test_activations_fit_on_chip(model):
    assert fit(network_of(model), preset("ecp5-85f")).problems() == []


def test_collision_free_memories_exist():
    tiny = preset("tiny")
    # As in a board's system, memories are not the top.
    board = Module()
    board.submodules.sdram = SdramMemory(tiny, ANY_CHIP.timing(100_000_000))
    board.submodules.block_ram = OnChipMemory(tiny, 4096)
    designs = rtlil.convert(Accelerator(tiny), name="top"), rtlil.convert(board, name="top", ports=[])
    text = "".join(designs)
    modules = [re.sub(r"_\d+$", "", name) for name in re.findall(r"^module \\top\.(\S+)$", text, re.MULTILINE)]
    missing = [
        name for name in COLLISION_FREE if not any(m == name or name[0] == "." and m.endswith(name) for m in modules)
    ]
    assert not missing
