"""``tessera estimate``, and who refuses by it: before anything is synthesised, naming what is missing and what fits."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tessera.hw.config import AcceleratorConfig
from tessera.hw.presets import PRESETS
from tessera.sw.cli import app
from tessera.sw.fpga import measure
from tessera.sw.fpga.resources.changes import with_changes
from tessera.sw.fpga.synthesis.cost import SynthesisError
from tests.helpers.schemas import document


def said(arguments: list[str], status: int, *words: str) -> str:
    """Invoke, require this exit code and these words, and no stack trace."""
    result = CliRunner().invoke(app, arguments)
    message = " ".join((result.output + result.stderr).split())
    assert result.exit_code == status, message
    assert "Traceback" not in message
    for word in words:
        assert word in message, message
    return message


def test_a_board_is_estimated(tmp_path: Path) -> None:
    file = tmp_path / "estimate.json"
    message = said(["estimate", "--board", "ulx3s-85f", "--json", str(file)], 0, "estimated", "host_link", "array")
    numbers = document(file)
    assert numbers["estimated"] and numbers["board"] == "ulx3s-85f" and numbers["too_many"] == {}
    assert numbers["total"]["dsp"] == 89 and numbers["total"]["bram"] == 175
    assert set(numbers["errors"]["held_back"]) and numbers["used"]["dsp"] == 89 / 156
    for word in ("exact", "±", "Fmax: about", f"{numbers['total']['lut']:,}", "held back"):
        assert word in message


def test_sizes_may_be_changed() -> None:
    message = said(["estimate", "--preset", "tiny", "--set", "lanes=8", "--set", "memory_bytes=8"], 0)
    assert "tiny with lanes=8, memory_bytes=8 on LFE5U-85F, estimated" in message
    wider = with_changes(PRESETS["tiny"], ["lanes=16", "layernorm_row_buffer=true"])
    assert (wider.lanes, wider.layernorm_row_buffer, wider.elements) == (16, True, 4)
    assert with_changes(PRESETS["tiny"], []) is PRESETS["tiny"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--preset", "huge"], ("unknown preset 'huge'; choose one of: tiny",)),
        (["--board", "arty"], ("unknown board 'arty'; choose one of: ulx3s-85f",)),
        (["--activation-width", "9"], ("activation_width is 9; choose one of 8, 12, 16",)),
        (["--set", "lanes"], ("--set lanes: give FIELD=VALUE, such as lanes=16",)),
        (["--set", "rows=4"], ("--set rows=4: no field 'rows'; choose one of: elements, lanes",)),
        (["--set", "lanes=many"], ("--set lanes=many: 'many' is no whole number of at least 1",)),
        (["--set", "scratchpad_words=0"], ("'0' is no whole number of at least 1",)),
        (["--set", "layernorm_row_buffer=4"], ("'4' is neither true nor false",)),
        (["--set", "lanes=12"], ("lanes is 12; choose a power of two",)),
        (["--set", "max_tokens=4096"], ("max_tokens is 4096, but an attention buffer of the banks holds 768",)),
    ],
)
def test_mistakes_on_the_command_line(arguments: list[str], words: tuple[str, ...]) -> None:
    said(["estimate", *arguments], 2, *words)


REFUSED = "multipliers: needs 345, the LFE5U-85F has 156, 189 too many"


def test_what_does_not_fit_is_an_error() -> None:
    message = said(["estimate", "--preset", "edge"], 1, f"preset 'edge' does not fit the LFE5U-85F: {REFUSED}")
    assert "the nearest preset that fits is 'ecp5-wide'" in message and "Fmax" in message


@pytest.fixture
def no_synthesis(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **options: object) -> None:
        pytest.fail("it was synthesised")

    monkeypatch.setattr(measure, "measure", never)
    monkeypatch.setattr("tessera.sw.fpga.bitstream.build.synthesise", never)
    monkeypatch.setattr("tessera.sw.fpga.synthesis.design.elaborate", never)


def test_synth_refuses_before_it_begins(tmp_path: Path, no_synthesis: None) -> None:
    out = tmp_path / "out"
    said(["synth", "--preset", "edge", "--out", str(out)], 1, "does not fit the LFE5U-85F", REFUSED, "'ecp5-wide'")
    assert not out.exists()


def test_bitstream_refuses_before_it_begins(tmp_path: Path, no_synthesis: None) -> None:
    arguments = ["bitstream", "--preset", "edge", "--out", str(tmp_path / "out")]
    said(arguments, 1, "does not fit board ulx3s-85f", REFUSED, "'ecp5-wide'")


def test_compile_refuses_for_a_board(tmp_path: Path) -> None:
    out = tmp_path / "program.safetensors"
    arguments = ["compile", "--model", "pico", "--board", "ulx3s-85f", "-o", str(out)]
    said([*arguments, "--preset", "edge"], 1, "preset 'edge' does not fit board ulx3s-85f", REFUSED, "'ecp5-wide'")
    assert not out.exists()
    said(["compile", "--board", "arty", "-o", str(out)], 2, "unknown board 'arty'")


def test_another_family_is_not_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The estimator knows the ECP5 alone."""

    def measured(*arguments: object, **options: object) -> None:
        raise SynthesisError("begun")

    monkeypatch.setattr(measure, "measure", measured)
    said(["synth", "--preset", "edge", "--family", "xcup", "--out", str(tmp_path / "out")], 1, "begun")


def test_a_changed_configuration_has_a_name_of_its_own() -> None:
    other = with_changes(PRESETS["edge"], ["residual_words=4096"])
    assert isinstance(other, AcceleratorConfig) and other.name == "edge with residual_words=4096"
