"""What commands share on the terminal: progress bars, tables, and errors as one message with an exit code."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from tessera.common.switches import switched_on

if TYPE_CHECKING:
    from tessera.sw.data.pictures import Picture

VERDICT_FAILED, USER_ERROR, INTERRUPTED = 1, 2, 130
"""Exit codes: a check came out wrong; a mistake of the user or something missing on this computer; Ctrl-C."""

AnyCommand = TypeVar("AnyCommand", bound=Callable[..., Any])

console = Console(soft_wrap=False)


def _is_mistake(error: Exception) -> bool:
    if isinstance(error, (ValueError, OSError)):
        return True
    from tessera.common.tools import ToolError
    from tessera.sim.verilator.cxx import BuildError
    from tessera.sw.driver.errors import DriverError

    return isinstance(error, (ToolError, BuildError, DriverError))


def reported(command: AnyCommand) -> AnyCommand:
    """Show the errors that a user can do something about as one message, without a stack trace.

    Exit code 1 if a simulation or a board failed or a design must not be built, 2 for everything that is not as it
    should be before that. Set the environment variable ``TESSERA_TRACEBACK`` to see the stack trace.
    """

    @functools.wraps(command)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        try:
            return command(*arguments, **options)
        except KeyboardInterrupt:
            print("tessera: ended by Ctrl-C", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if switched_on("TESSERA_TRACEBACK"):
                raise
            from tessera.common.system_errors import in_words
            from tessera.sim.bench.run import BenchFailure
            from tessera.sw.driver.errors import MachineHalted, WrongContent
            from tessera.sw.fpga.synthesis.cost import SynthesisError

            failed = isinstance(error, (BenchFailure, SynthesisError, MachineHalted, WrongContent))
            if not failed and not _is_mistake(error):
                raise
            words = in_words(error) if isinstance(error, OSError) else error
            print(f"tessera: {words}", file=sys.stderr)
            raise typer.Exit(VERDICT_FAILED if failed else USER_ERROR) from None

    return wrapper  # type: ignore[return-value]


class Display:
    """Progress bars, one a stage; call it as ``display(stage, fraction, detail)``.

    Where there is no terminal to redraw, such as in a log file, a line every ``LINE_SECONDS`` says how far it is.
    """

    LINE_SECONDS = 15.0

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<9}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[detail]}", style="dim", table_column=Column(ratio=1, no_wrap=True)),
            console=console,
            expand=True,
        )
        self._stages: dict[str, TaskID] = {}
        self._last_line = time.monotonic()

    def __call__(self, stage: str, fraction: float, detail: str = "") -> None:
        """Show where a stage is; stages before it are done."""
        if stage not in self._stages:
            for done in self._stages.values():
                self._progress.update(done, completed=1.0)
            self._stages[stage] = self._progress.add_task(stage, total=1.0, detail=detail)
        self._progress.update(self._stages[stage], completed=fraction)
        if detail:
            self._progress.update(self._stages[stage], detail=detail)
        if not console.is_terminal and time.monotonic() - self._last_line > self.LINE_SECONDS:
            self._last_line = time.monotonic()
            print(f"{stage} {fraction:.0%} {detail}", flush=True)

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            for done in self._stages.values():
                self._progress.update(done, completed=1.0)
        self._progress.stop()


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1) -> None:
    """Print a table; the first ``texts`` columns are text, the others are numbers."""
    made = Table(title=title, title_justify="left", header_style="bold")
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number >= texts else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    console.print(made)


def tell_notices(pictures: Sequence[Picture], space: int = 4) -> None:
    """Say once each what was changed about pictures, ``space`` columns behind the word notice."""
    tell((notice for picture in pictures for notice in picture.notices), space)


def tell(notices: Iterable[str], space: int = 1) -> None:
    """Say once each what a reader of results should know, ``space`` columns behind the word notice."""
    for notice in dict.fromkeys(notices):
        console.print(f"[yellow]notice[/yellow]{' ' * space}{escape(notice)}", soft_wrap=True)


def number(value: float | None, form: str, unit: str = "") -> str:
    """A number for a table; ``-`` for one that there is not."""
    return "-" if value is None else f"{value:{form}}{unit}"


def verdict(good: bool) -> str:
    """``yes`` or ``NO`` in colour."""
    return "[green]yes[/green]" if good else "[bold red]NO[/bold red]"
