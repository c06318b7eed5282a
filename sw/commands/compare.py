"""``tessera compare``: what changed between two runs, benches or evaluations."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from tessera.sw.commands.terminal import VERDICT_FAILED, console, reported, table

if TYPE_CHECKING:
    from tessera.sw.report.compare.compare import FileComparison

_FILE = "JSON file of run, bench or evaluate, or a folder that holds one"


@reported
def command(
    before: Annotated[Path, typer.Argument(help=f"{_FILE}: what it was.")],
    after: Annotated[Path, typer.Argument(help=f"{_FILE}: what it is now.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; files in it are replaced.")] = Path(
        "build/compare"
    ),
    fail_above: Annotated[
        float | None,
        typer.Option(help="Exit with 1 if cycles of any task rose by more than so many per cent."),
    ] = None,
) -> None:
    """Show what changed between two runs, two benches or two evaluations.

    Compares cycles by task and by kind of command, errors, scores, configuration and tools. Writes comparison.html and
    comparison.json into --out. Exit code 0 whatever changed. With --fail-above it is 1 if cycles of a task rose by
    more, or if the second file lacks a task of the first.

    Examples
    --------
      tessera compare build/run build/run-new

      tessera compare yesterday/bench.json build/bench/bench.json -o build/compare --fail-above 1
    """
    from tessera.common.files import check_folder
    from tessera.sw.report.compare.compare import compare_files
    from tessera.sw.report.compare.write import write_comparison

    check_folder(out)
    if fail_above is not None and not (math.isfinite(fail_above) and fail_above >= 0):
        raise ValueError(f"--fail-above is {fail_above:g}; give per cent from 0 on, such as 0.5")
    comparison = compare_files(before, after)
    rise = comparison.cycles_rise
    if fail_above is not None and rise is None:
        raise ValueError(f"--fail-above needs cycles that both files have; {before} and {after} have none in common")
    files = write_comparison(comparison, out)
    _show(comparison)
    console.print(f"Page: {escape(str(files[0]))}, numbers: {escape(str(files[1]))}", soft_wrap=True)
    if fail_above is None or rise is None:
        return
    for line in comparison.incomparable:
        console.print(f"[bold red]tessera:[/bold red] no cycles to compare for {escape(line.place)}", soft_wrap=True)
    if rise > fail_above:
        console.print(f"[bold red]tessera:[/bold red] cycles rose by {rise:.2f} %, more than {fail_above:g} %")
    if rise > fail_above or comparison.incomparable:
        raise typer.Exit(VERDICT_FAILED)


def _show(comparison: FileComparison) -> None:
    from tessera.sw.report.compare.contents import CYCLES
    from tessera.sw.report.compare.write import shown, shown_change

    same = []
    for section, lines in comparison.sections.items():
        told = lines if section == CYCLES else comparison.changed(section)
        if told:
            rows = [
                (escape(line.place), escape(line.name), escape(shown(line.before)), escape(shown(line.after)), change)
                for line in told
                for change in [shown_change(line)]
            ]
            table(section.capitalize(), ["", "", "before", "after", "change"], rows, texts=2)
        elif lines:
            same.append(section)
    for notice in comparison.notices:
        console.print(f"[yellow]notice[/yellow] {escape(notice)}", soft_wrap=True)
    if same:
        console.print(f"Unchanged: {', '.join(same)}", soft_wrap=True)
