"""Groups of options: one option for each field, and the command gets the group."""

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from tessera.sw.commands import options


@dataclass(frozen=True, kw_only=True)
class Size:
    """A group."""

    height: Annotated[int, typer.Option(help="Rows.")] = 3
    deep: Annotated[bool, typer.Option("--deep", help="With depth.")] = False


seen: list[tuple[Size, str]] = []


@options.with_groups
def command(size: Size, name: Annotated[str, typer.Option(help="Its name.")]) -> None:
    """Take a size and a name."""
    seen.append((size, name))


def test_fields_become_options():
    app = typer.Typer()
    app.command()(command)
    assert CliRunner().invoke(app, ["--name", "a", "--height", "5", "--deep"]).exit_code == 0
    assert CliRunner().invoke(app, ["--name", "b"]).exit_code == 0
    assert seen == [(Size(height=5, deep=True), "a"), (Size(), "b")]
    assert CliRunner().invoke(app, []).exit_code == 2
    assert "Rows." in CliRunner().invoke(app, ["--help"]).output
