"""``tessera waves``: the window is the command's, signals have names, and viewers are told of nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tessera.program.program import Program
from tessera.sim.machine.wave_filter import wave_signals
from tessera.sw.cli import app
from tessera.sw.run.prepare import prepare
from tessera.sw.run.target import Target
from tessera.sw.run.waves.record import WaveRequest, find_commands
from tests.sim.machine.test_wave_filter import changes

CYCLE_PS = 10_000
ARGUMENTS = ["waves", "--preset", "tiny", "--model", "pico"]


@pytest.fixture(scope="module")
def program() -> Program:
    return prepare(Target(model="pico", preset="tiny")).program


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("waves") / "out"
    arguments = ["--unit", "softmax", "--unit", "stream", "--command", "layer01.attention", "-o", str(out)]
    result = CliRunner().invoke(app, [*ARGUMENTS, *arguments])
    assert result.exit_code == 0, result.output
    return out, " ".join(result.output.split())


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(app, [*ARGUMENTS, *arguments])
    message = " ".join((result.output + result.stderr).split())
    assert result.exit_code == 2 and "Traceback" not in message, message
    return message


@pytest.mark.soak
def test_the_window_is_that_of_the_command(recorded: tuple[Path, str], program: Program):
    found = changes((recorded[0] / "waves.vcd").read_bytes())
    index = next(command.index for command in program.commands if command.name == "layer01.attention")
    words = re.search(r"around layer01\.attention of task task0: cycles ([\d,]+) to ([\d,]+)", recorded[1])
    first, last = (int(word.replace(",", "")) for word in words.groups())
    times = [time for time, _, _ in found]
    assert (times[-1] - times[0]) / CYCLE_PS == pytest.approx(last - first, abs=3)
    assert str(index) in {value for _, name, value in found if name == "machine.command"}
    # The unit does its whole work inside: a tile per head and group of queries, and nothing afterwards.
    done = [time for time, name, value in found if name == "machine.softmax.done" and value == "1"]
    starts = [time for time, name, value in found if name == "machine.softmax.job__valid" and value == "1"]
    assert len(done) == len(starts) > 4
    keys = {value for _, name, value in found if name == "machine.softmax.job__payload.keys"}
    assert str(program.model.shapes["layer01.attention"][0]) in keys


@pytest.mark.soak
def test_every_signal_has_a_name_and_belongs_to_a_unit(recorded: tuple[Path, str]):
    signals = wave_signals(recorded[0] / "waves.vcd")
    assert len(signals) > 200
    assert {signal.scopes[1] for signal in signals if len(signal.scopes) > 1} == {"softmax", "stream"}
    assert not any(signal.name.startswith("$") for signal in signals)
    paths = [signal.path for signal in signals]
    assert len(set(paths)) == len(paths)
    assert f"{len(signals):,} signals" in recorded[1]


@pytest.mark.soak
def test_viewers_are_told_of_signals_that_are_there(recorded: tuple[Path, str]):
    paths = {signal.path: signal for signal in wave_signals(recorded[0] / "waves.vcd")}
    surfer = re.findall(r"^variable_add (.*)$", (recorded[0] / "waves.sucl").read_text(), re.MULTILINE)
    assert {"machine.command", "machine.softmax.job__valid", "machine.softmax.job__payload.keys"} <= set(surfer)
    assert set(surfer) <= set(paths)
    save = (recorded[0] / "waves.gtkw").read_text()
    lines = re.findall(r"^(?:\+\{[^}]*\} )?(machine\.\S+)$", save, re.MULTILINE)
    shown = {line if line in paths else re.sub(r"\[\d+:0\]$", "", line): line for line in lines}
    assert set(shown) <= set(paths)
    assert all(line.endswith(f"[{paths[path].width - 1}:0]") or paths[path].width == 1 for path, line in shown.items())
    assert '[dumpfile] "waves.vcd"' in save and str(recorded[0]) not in save
    for name in re.findall(r"^\^1 (.*)$", save, re.MULTILINE):
        assert (recorded[0] / name).is_file(), name
    assert re.search(r"^[0-9a-f]{4} layer01\.attention$", (recorded[0] / "commands.txt").read_text(), re.MULTILINE)
    assert (recorded[0] / "stream.job__payload.kind.txt").read_text().startswith("0 WEIGHTS\n")


@pytest.mark.soak
def test_a_window_of_cycles(tmp_path: Path):
    out = tmp_path / "out"
    result = CliRunner().invoke(app, [*ARGUMENTS, "--unit", "image", "--window", "100:160", "-o", str(out)])
    assert result.exit_code == 0, result.output
    times = [time for time, _, _ in changes((out / "waves.vcd").read_bytes())]
    assert (times[-1] - times[0]) / CYCLE_PS == pytest.approx(60, abs=3)
    message = refused("--unit", "image", "--window", "99000000:99000010", "-o", str(tmp_path / "late"))
    assert "begins at cycle 99,000,000; the frame has" in message and not (tmp_path / "late").exists()


def test_without_a_command_it_is_the_first_in_which_the_unit_works(program: Program):
    for unit, name in (("softmax", "layer00.attention"), ("layernorm.output", "layer00.norm1"), ("array", "embed")):
        assert [command.name for command in find_commands(program, WaveRequest(units=(unit,)), 0)] == [name]


def test_the_beginning_of_a_name_takes_all_that_follow(program: Program):
    found = find_commands(program, WaveRequest(units=("array",), command="layer01"), 0)
    assert len(found) > 4 and all(command.name.startswith("layer01.") for command in found)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--unit", "softmx"], ["no unit 'softmx'", "did you mean softmax", "layernorm"]),
        (["--unit", "issuer"], ["no unit 'issuer'", "did you mean engine.issuer"]),
        (["--unit", "softmax", "--command", "layer0.attention"], ["'layer0.attention'", "layer00.attention"]),
        (["--unit", "softmax", "--window", "5"], ["--window is '5'", "1000:1500"]),
        (["--unit", "softmax", "--window", "9:5"], ["window is 9:5", "1000:1500"]),
        (["--unit", "softmax", "--window", "1:5", "--command", "embed"], ["both a command and a window"]),
        (["--unit", "softmax", "--task", "depht"], ["depht", "task0"]),
    ],
)
def test_a_mistake_is_said_before_anything_is_built(tmp_path: Path, arguments: list[str], words: list[str]):
    message = refused(*arguments, "-o", str(tmp_path / "out"))
    assert all(word in message for word in words), message
    assert list(tmp_path.iterdir()) == []
