"""Where results go is looked at before the work; a program that is ended leaves nothing running and nothing behind."""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tessera.golden import checkpoint
from tessera.golden.integer import storage
from tessera.program.program import Program
from tessera.sw import cli
from tessera.sw.cli import app
from tessera.sw.data.files import read_array
from tests.helpers.small_checkpoints import save_small

FOLDERS = {
    "run": "run.json",
    "verify": "verify.json",
    "selftest": "selftest.json",
    "bench": "bench.md",
    "deploy --port simulated": "deploy.json",
    "synth": "ecp5-85f.json",
    "bitstream": "ulx3s-85f",
    "export": "tessera.v",
}
FILES = {
    "import --format timm-vit none.pth -o": "i.safetensors",
    "quantize -o": "q.safetensors",
    "compile -o": "p.safetensors",
    "train --steps 1 -o": "t.safetensors",
    "evaluate --json": "e.json",
    "estimate --json": "e.json",
    "run --dump": "d.npz",
}


def refused(arguments: list[str]) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2 and "Traceback" not in result.stderr, result.output + result.stderr
    assert result.stderr.startswith("tessera: ") and result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture(autouse=True)
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing long may begin."""
    for long in ("tessera.sw.run.prepare.load_model", "tessera.golden.training.training.train"):
        monkeypatch.setattr(long, lambda *_, **__: pytest.fail("the work began"))


@pytest.mark.parametrize("command", FOLDERS)
def test_a_folder_that_cannot_be_written_is_refused_at_once(command: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "out" / FOLDERS[command]).mkdir(parents=True)
    assert "is a file; give a folder" in refused([*command.split(), "--out", str(tmp_path / "file")]) or (
        command == "bitstream"  # which writes into a folder in it
    )
    assert "part of this path is a file" in refused([*command.split(), "--out", str(tmp_path / "file" / "in")])
    if command not in ("bitstream", "export"):
        assert "is a folder, where the file" in refused([*command.split(), "--out", str(tmp_path / "out")])
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("command", FILES)
def test_a_file_that_cannot_be_written_is_refused_at_once(command: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / FILES[command]).mkdir()
    assert "give the name of a file" in refused([*command.split(), str(tmp_path / FILES[command])])
    assert "part of this path is a file" in refused([*command.split(), str(tmp_path / "file" / FILES[command])])
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("kind", ["checkpoint", "quantised", "program", "array"])
def test_what_may_not_be_read_is_not_called_damaged(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = tmp_path / "file.npy", builtins.open
    path.write_bytes(b"whole")

    def denied(file: object, *rest: object, **options: object) -> object:
        if str(file) == str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(file, *rest, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(builtins, "open", denied)  # root may read everything
    read = {
        "checkpoint": checkpoint.load,
        "quantised": storage.load_quantised,
        "program": Program.load,
        "array": lambda file: read_array(file, "depth"),
    }
    with pytest.raises(ValueError, match="file.npy may not be read by this user: change its permissions"):
        read[kind](path)


def test_results_do_not_take_the_place_of_what_they_are_made_from(tmp_path: Path) -> None:
    model = save_small(tmp_path / "small.safetensors")
    before = model.read_bytes()
    for command in ("quantize", "compile"):
        assert "is the model itself" in refused([command, "--model", str(model), "-o", str(model)])
    assert "give another ending" in refused(["quantize", "--model", str(model), "-o", str(tmp_path / "q.json")])
    assert model.read_bytes() == before


def test_a_signal_ends_the_simulator_and_removes_its_folder(tmp_path: Path) -> None:
    model, temporary = save_small(tmp_path / "small.safetensors"), tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-m", "tessera.sw.cli", "verify", "--model", str(model), "--preset", "tiny"]
    command += ["--images", "2000", "--stalls", "250", "--out", str(tmp_path / "out")]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while process.poll() is None and not _simulators(temporary):
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        message = process.communicate(timeout=120)[1].decode()
    assert process.returncode == 128 + signal.SIGTERM, message
    assert "ended by SIGTERM" in message and "Traceback" not in message
    assert not _simulators(temporary) and not list(temporary.iterdir()) and not (tmp_path / "out").exists()


def _simulators(temporary: Path) -> list[str]:
    """Processes that work in a folder."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and process.name != str(os.getpid()):
            try:
                if f"{temporary}/tessera-".encode() in (process / "cmdline").read_bytes():
                    found.append(process.name)
            except OSError:
                pass  # it ended meanwhile
    return found


def test_a_terminal_without_a_character_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    monkeypatch.setattr(sys, "argv", ["tessera"])
    monkeypatch.setattr(cli, "end_on_signals", lambda: None)
    monkeypatch.setattr(cli, "app", lambda **options: print("straße…", flush=True))
    cli.main()
    assert written.getvalue() == b"stra?e?\n"


def test_a_backend_for_windows_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "junk")
    monkeypatch.setattr(sys, "argv", ["tessera"])
    monkeypatch.setattr(cli, "end_on_signals", lambda: None)
    monkeypatch.setattr(cli, "app", lambda **options: None)
    cli.main()
    assert "MPLBACKEND" not in os.environ
