"""Boards: pins, clocks and reset of each are a design without faults, and the SDRAM's clock suits its data."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, Signal
from amaranth.lib import io, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth_boards.arty_a7 import ArtyA7_35Platform

from tessera.common.progress import silent
from tessera.hw.boards.board import BOARDS, board
from tessera.hw.boards.top import BoardTop, board_platform
from tessera.hw.ecp5.platform import NETWORK_SITES, Ecp5
from tessera.hw.interfaces.axi import Axi4Read, Axi4Write
from tessera.hw.interfaces.sdram import SdramPads
from tessera.hw.presets import preset
from tessera.hw.protocol import Identity
from tessera.hw.sdram import pins as sdram_pins
from tessera.hw.sdram.chip import ANY_CHIP, CHIPS
from tessera.hw.sdram.memory import SdramMemory
from tessera.hw.sdram.pins import EXTRA_LATENCY, SdramPins, chip_clock_delay
from tessera.sim.machine.sdram import SOURCE, data_sheet
from tessera.sim.verilator.build import build_simulator
from tessera.sim.verilator.options import BuildOptions
from tessera.sim.verilator.verilog import export_verilog
from tessera.sw.fpga.synthesis.cost import SynthesisError
from tessera.sw.fpga.synthesis.yosys import check_netlist
from tests.hw.boards.no_accelerator import NoAccelerator
from tests.hw.sdram.sdram_models import CLOCK, SYSTEM, run

MHZ = 1_000_000


def files(target, clock_hz=None):
    """RTLIL and constraints of a board around no accelerator."""
    config = preset(target.preset)
    identity = Identity.of(config, clock_hz=clock_hz or target.clock_hz, build="test")
    top = BoardTop(target, config, identity, accelerator=NoAccelerator(config))
    made = board_platform(target, Ecp5).prepare(top, "top", emit_src=False).files
    return [text if isinstance(text, str) else text.decode() for text in (made["top.il"], made["top.lpf"])]


@pytest.mark.parametrize("name", BOARDS)
def test_tops_are_designs_without_faults(name, tmp_path):
    """Nothing undriven or driven twice, no loop, no latch; each pin has a site, the oscillator a frequency."""
    target = board(name)
    design, constraints = files(target)
    check_netlist(design, tmp_path, silent)
    top = design[: design.index("module \\top.")]
    ports = set(re.findall(r"wire width \d+ (?:input|output|inout) \d+ +\\(\S+)", top))
    located = set(re.findall(r'LOCATE COMP "([^"\[]+)', constraints))
    assert ports and ports == located
    hz = re.search(r'FREQUENCY PORT "\S+" ([\d.]+) HZ', constraints)
    assert hz and float(hz[1]) == target.platform().default_clk_frequency
    assert len(re.findall(r'LOCATE COMP "(?:rgb_)?led', constraints)) == 8


@pytest.mark.parametrize("name", BOARDS)
def test_every_clock_network_has_a_site_of_its_own(name):
    """Where nextpnr's router finds the way in, wherever else it puts the register (``tessera.hw.ecp5.platform``)."""
    platform, m = board_platform(board(name), Ecp5), Module()
    for number in range(3):
        platform.clock_network(m, f"network_{number}", Signal())
    design = rtlil.convert(m, name="top", ports=[])
    assert re.findall(r'attribute \\BEL "(.+)"', design) == list(NETWORK_SITES["85F"])
    assert design.count("cell \\DCCA") == 3, "a third goes where nextpnr puts it"
    assert "attribute \\BEL" in files(board(name))[0]


def test_a_clock_without_a_driver_would_be_seen(tmp_path):
    design, _ = files(board("ecpix5-85f"))
    broken = re.sub(r"connect \\CLKOS \S+.*\n", "", design)
    assert broken != design
    with pytest.raises(SynthesisError, match="has no driver"):
        check_netlist(broken, tmp_path, silent)


def test_unknown_board():
    with pytest.raises(ValueError, match="unknown board 'arty'; choose one of: ulx3s-85f, ecpix5-85f"):
        board("arty")


def test_a_clock_that_a_board_cannot_have():
    ulx3s = board("ulx3s-85f")
    for clock_hz, words in (
        (83_123_456, "cannot make 83.1235 MHz of 25 MHz"),
        (150 * MHZ, "the chip allows"),
        (15 * MHZ, "a UART needs at least 6"),
    ):
        with pytest.raises(ValueError, match=words):
            files(ulx3s, clock_hz)
    with pytest.raises(ValueError, match="at 160 MHz and CAS latency 3 no clock of the SDRAM suits both directions"):
        chip_clock_delay(160 * MHZ, 3)


@pytest.mark.parametrize("mhz", [25, 50, 80, 100, 110, 125])
def test_the_chip_s_clock_leaves_room_on_every_side(mhz):
    """Counted in the times at which things happen at the pins, from the controller's edge at 0."""
    period, cas = 1e3 / mhz, ANY_CHIP.timing(mhz * MHZ).cas_latency
    edge = chip_clock_delay(mhz * MHZ, cas) * period
    command_from, command_to = sdram_pins.SKEW_NS, period - sdram_pins.SKEW_NS
    assert edge - sdram_pins.CHIP_SETUP_NS > command_from + 0.5 and edge + sdram_pins.CHIP_HOLD_NS < command_to - 0.5
    shortest, longest = sdram_pins.ROUND_TRIP_NS
    word_from, word_to = edge + sdram_pins.ACCESS_NS[cas] + longest, edge + period + sdram_pins.HOLD_NS + shortest
    assert word_from + 0.5 < 2 * period < word_to - 0.5


class MemoryOnPins(wiring.Component):
    """SdramMemory with the registers of the pads; its ``pads`` are the chip's pins."""

    def __init__(self, config, timing):
        self._memory = SdramMemory(config, timing, readers=2, writers=2, extra_latency=EXTRA_LATENCY)
        super().__init__(
            {
                "readers": In(Axi4Read(config)).array(2),
                "writers": In(Axi4Write(config)).array(2),
                "pads": Out(SdramPads()),
                "initialised": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = self._memory
        widths = {"clk_en": 1, "cs": 1, "ras": 1, "cas": 1, "we": 1, "ba": 2, "a": 13, "dqm": 2}
        low = ("cs", "ras", "cas", "we")
        ports = {name: io.SimulationPort("o", width, name=name, invert=name in low) for name, width in widths.items()}
        ports["dq"] = io.SimulationPort("io", 16, name="dq")
        m.submodules.pins = pins = SdramPins(type("Ports", (), ports), "sync")
        for outer, inner in zip((*self.readers, *self.writers), (*memory.readers, *memory.writers), strict=True):
            connect(m, flipped(outer), inner)
        connect(m, memory.pads, pins.pads)
        chip = self.pads
        m.d.comb += [
            *(getattr(chip, f"{name}_n").eq(ports[name].o) for name in low),
            *(getattr(chip, name).eq(ports[name].o) for name in ("ba", "a", "dqm")),
            chip.cke.eq(ports["clk_en"].o),
            chip.dq_o.eq(ports["dq"].o),
            chip.dq_oe.eq(ports["dq"].oe[0]),
            ports["dq"].i.eq(chip.dq_i),
            self.initialised.eq(memory.initialised),
        ]
        return m


def test_pads_with_registers_talk_to_the_chip():
    """Commands, words out and words in keep together, and the controller expects words when they come."""
    chip, config = CHIPS["IS42S16160G-7"], preset("ecp5-85f")
    options = BuildOptions(
        top="sdram_system",
        sources=[SOURCE, SYSTEM],
        parameters={"BYTES": config.memory_bytes},
        optimise=False,
        main=CLOCK,
    )
    verilog = export_verilog(MemoryOnPins(config, chip.timing(100 * MHZ)), name="memory")
    counted = run(build_simulator(verilog, options), data_sheet(chip, 100 * MHZ), seed=5, accesses=2000)
    assert counted["finished"] >= 2000


def test_a_board_with_another_family_is_refused():
    with pytest.raises(ValueError, match="board arty has the platform ArtyA7_35Platform, which is no ECP5"):
        replace(board("ecpix5-85f"), name="arty", platform=ArtyA7_35Platform)


def test_a_second_board_is_an_entry():
    """Nothing but data: the same FPGA on another board's pins, with another clock."""
    other = replace(board("ecpix5-85f"), name="other", clock_hz=60 * MHZ, memory=4096)
    design, _ = files(other)
    assert "EHXPLLL" in design
