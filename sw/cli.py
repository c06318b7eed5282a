"""The command line: ``tessera COMMAND``. It only dispatches; each command is a file in ``sw/commands``."""

from __future__ import annotations

import io
import logging
import os
import sys
from typing import Annotated

import typer

from tessera.common.processes import end_on_signals
from tessera.sw.commands import (
    bench,
    bitstream,
    compare,
    compile,
    deploy,
    doctor,
    estimate,
    evaluate,
    export,
    flash,
    import_,
    quantize,
    run,
    selftest,
    show,
    synth,
    train,
    verify,
    waves,
)

app = typer.Typer(
    name="tessera",
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""An open accelerator for multi-task mixture-of-experts vision transformers, simulated cycle by cycle.

Start with `tessera doctor`, then `tessera run`: it takes a picture through a trained model on the simulated hardware,
proves every tensor equal to the golden model, and writes a report into build/run.

The way of a model: `train` or `import` -> `quantize` -> `compile` -> `run`, or `deploy` to a board. The way to trust
it: `verify`, `selftest`. What a network is made of: `show`. What happens inside: `waves`. What it scores: `evaluate`.
What it costs: `bench`, `estimate`, `synth`. What changed: `compare`. A board: `bitstream`, `flash`. A system on chip of
your own: `export`.

Exit codes: 0 good; 1 a verdict failed (not bit-exact, a fault not caught, does not fit); 2 a mistake in what was given,
or something missing on this computer. `TESSERA_TRACEBACK=1` shows where an error came from.""",
)
for module in (
    doctor,
    train,
    import_,
    show,
    quantize,
    evaluate,
    compile,
    run,
    deploy,
    verify,
    selftest,
    waves,
    bench,
    compare,
    estimate,
    synth,
    bitstream,
    flash,
    export,
):
    app.command(module.__name__.rpartition(".")[2].rstrip("_"))(module.command)


def show_version(wanted: bool) -> None:
    """Print the version and the commit, and end."""
    if wanted:
        from tessera.common.tools import git_id, own_version

        typer.echo(f"tessera {own_version()} ({git_id()})")
        raise typer.Exit


@app.callback()
def before_command(
    version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and the commit."),
    ] = False,
) -> None:
    """Options in front of a command."""


def main() -> None:
    """Entry point of the ``tessera`` program."""
    # The models are small: threads of PyTorch and NumPy cost more than they bring. Training sets its own number.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # where it keeps its fonts is nobody's concern
    os.environ.pop("MPLBACKEND", None)  # figures become files; what shows windows is not asked for, and may be missing
    sys.argv[0] = "tessera"  # in messages and in the stamps of results, however it was started
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # it may be closed, or somebody's own
            stream.reconfigure(errors="replace")  # a terminal without a character is no reason to fail
    end_on_signals()
    app(prog_name="tessera")  # in the usage too, which otherwise says how it was started


if __name__ == "__main__":
    main()
