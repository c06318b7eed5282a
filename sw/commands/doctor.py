"""``tessera doctor``: is everything here that the project needs."""

from __future__ import annotations

import typer
from rich.markup import escape

from tessera.sw.commands.terminal import USER_ERROR, console, reported, table, verdict


@reported
def command() -> None:
    """Check Python, packages, simulator, compiler and disk space, and say what to do about what is missing.

    Exit code 0 if everything is there, else 2.

    Example:

      tessera doctor
    """
    from tessera.common.environment import check_environment
    from tessera.common.tools import git_id

    checks = check_environment()
    rows = [(check.name, check.found, check.expected, verdict(check.ok)) for check in checks]
    table(f"Tessera {git_id()}", ["", "found", "expected", "good"], rows)
    missing = [check for check in checks if not check.ok]
    for check in missing:
        console.print(f"[bold red]{check.name}[/bold red]: {escape(check.action)}", soft_wrap=True)
    if missing:
        raise typer.Exit(USER_ERROR)
    console.print("Everything is here. Next: tessera run")
