"""``tessera export``: what it says, and mistakes that it finds before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tessera.hw.presets import preset
from tessera.sw.cli import app
from tessera.sw.export.write import FILES
from tests.helpers.exported import export
from tests.helpers.small_checkpoints import save_small


def refused(out: Path, *options: str) -> str:
    result = CliRunner().invoke(app, ["export", "-o", str(out), *options])
    message = " ".join((result.output + result.stderr).split())
    assert result.exit_code == 2 and "Traceback" not in message, message
    return message


def test_every_file_is_written_and_named(tmp_path: Path) -> None:
    out = tmp_path / "core"
    result = CliRunner().invoke(app, ["export", "--preset", "tiny", "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == {name.format(top="tessera_tiny") for name in FILES}
    words = " ".join(result.output.split())
    assert "pico (seeded, not trained" in words and f"make -C {out}" in words and "tessera_regs.h" in words
    readme = (out / "README.md").read_text()
    assert all(f"`{path.name}`" in readme for path in out.iterdir())


def test_another_model_and_width(tmp_path: Path) -> None:
    model = save_small(tmp_path / "small.safetensors")
    out = export(tmp_path / "core", "tiny", "--model", str(model), "--activation-width", "12")
    bench = (out / "tb.sv").read_text()
    assert 'run_frame("segmentation"' in bench and 'run_frame("depth"' in bench
    assert "12-bit activations" in (out / "README.md").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--preset", "tyni"], ["unknown preset 'tyni'", *("tiny", "edge")]),
        (["--model", "pica"], ["unknown model 'pica'", "pico"]),
        (["--preset", "tiny", "--model", "m3vit-backbone"], ["tiny", "fit"]),
        (["--preset", "tiny", "--activation-width", "9"], ["activation_width", "9"]),
        (["--preset", "tiny", "--image", "none.png"], ["none.png"]),
    ],
)
def test_a_mistake_is_said_and_nothing_written(tmp_path: Path, options: list[str], words: list[str]) -> None:
    message = refused(tmp_path / "core", *options)
    assert all(word in message for word in words), message
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "core").write_text("mine")
    assert "is a file" in refused(tmp_path / "core", "--preset", "tiny")
    assert (tmp_path / "core").read_text() == "mine"


def test_what_else_lies_in_the_folder_stays(tmp_path: Path) -> None:
    out = tmp_path / "core"
    out.mkdir()
    (out / "mine.v").write_text("module mine; endmodule\n")
    export(out)
    assert (out / "mine.v").is_file() and (out / "tessera_tiny.v").is_file()
    assert preset("tiny").name in (out / "README.md").read_text()
