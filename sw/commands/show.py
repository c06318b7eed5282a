"""``tessera show``: what a network is made of, as text, as a drawing, or as the machine's steps."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from tessera.sw.commands import options
from tessera.sw.commands.terminal import Display, console, reported

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tessera.program.program import Program
    from tessera.sw.report.outline import OutlineItem, Series


@reported
def command(
    model: Annotated[
        str, typer.Argument(help="nano, m3vit-tiny, m3vit-backbone, deit-small, pico, or the path of a checkpoint.")
    ] = "nano",
    routing: options.Routing = None,
    steps: Annotated[bool, typer.Option("--steps", help="What the machine does, step by step.")] = False,
    preset: Annotated[
        str | None, typer.Option(help="With --steps: also the cycles that the array takes at least, on this machine.")
    ] = None,
    activation_width: options.Width = 8,
    svg: Annotated[Path | None, typer.Option(help="Also draw the network into this file.")] = None,
    json: Annotated[Path | None, typer.Option(help="Also write operators and steps into this file.")] = None,
) -> None:
    """Show a network: its operators by layer, with shapes and weights, and the results of its tasks.

    Layers that repeat are shown once. A network that the machine cannot run is shown as well; --steps names the
    operators that have no step.

    Examples
    --------
      tessera show nano

      tessera show m3vit-tiny --steps --preset ecp5-85f

      tessera show build/own-network.safetensors --svg build/network.svg --json build/network.json
    """
    from tessera.common.files import check_file, file_aside
    from tessera.common.schemas.kinds import NETWORK
    from tessera.common.stamped import write_document
    from tessera.golden.integer.plan import plan
    from tessera.sw.report import outline
    from tessera.sw.report.drawing import drawing
    from tessera.sw.run.prepare import load_model

    options.only_with(steps, "says on which machine: add --steps", {"--preset": preset})
    for file in filter(None, (svg, json)):
        check_file(file)
    loaded = load_model(model, routing)[1]
    network = loaded.network
    operators, found = outline.of_network(network), []
    cycles: dict[str, int] = {}
    if steps:
        found = outline.of_plan(plan(network), network)
    if preset is not None:
        chosen = options.ModelOptions(model=model, routing=routing, activation_width=activation_width).on(preset)
        cycles = _cycles(_compiled(chosen))
    if svg:
        with file_aside(svg) as aside:
            aside.write_text(drawing(network, alone=True), encoding="utf-8")
    if json:
        content = {"model": network.name, **network.facts(), "outline": _plain(operators), "steps": _plain(found)}
        write_document(json, NETWORK, content | {"cycles": cycles})
    facts = network.facts()
    console.print(
        f"[bold]{escape(network.name)}[/bold]: pictures {network.image_height} x {network.image_width}, "
        f"{facts['operators']} operators, {facts['parameters']:,} weights, {loaded.weights}",
        soft_wrap=True,
    )
    _print(found if steps else operators, cycles)
    for name, path in (("Drawing", svg), ("Numbers", json)):
        if path:
            console.print(f"{name}: {escape(str(path))}", soft_wrap=True)


def _compiled(target: Any) -> Program:
    from tessera.sw.run.prepare import compile_file

    with Display() as display:
        return compile_file(target, on_progress=display)


def _cycles(program: Program) -> dict[str, int]:
    """Beats of the array by step; those of a mixture's gates and experts belong to its step."""
    owners = {getattr(step, "product", step.name): step.name for step in program.plan.steps}
    owners |= {step.name: step.name for step in program.plan.steps}
    found: Counter[str] = Counter()
    for one in program.commands:
        words = one.whole.split(".")
        starts = (".".join(words[:end]) for end in range(len(words), 0, -1))
        owner = next((owners[start] for start in starts if start in owners), None)
        if owner is not None:
            found[owner] += one.ideal_cycles
    return dict(found)


def _plain(found: Sequence[Series]) -> list[dict[str, Any]]:
    return [
        {
            "times": series.times,
            "layers": [
                {
                    "place": layer.place,
                    "last": last,
                    "items": [item.to_dict() for item in layer.items],
                }
                for layer, last in zip(series.layers, series.last, strict=True)
            ],
        }
        for series in found
    ]


def _print(found: Sequence[Series], cycles: Mapping[str, int]) -> None:
    """Lines of an outline: what, its kind, shape and weights; where it does not read the line before, what it reads."""
    items = [item for series in found for layer in series.layers for item in layer.items]
    widths = [
        max(len(cell) for cell in column) for column in zip(*(_cells(item, cycles) for item in items), strict=True)
    ]
    before = ""
    for series in found:
        for index, layer in enumerate(series.layers):
            if before:
                console.print()
            if layer.place:
                times = f" [bold]x {series.times}[/bold]" if series.times > 1 else ""
                console.print(f"[bold]{escape(series.title(index))}[/bold]{times}", soft_wrap=True)
            for item in layer.items:
                name, kind, shape, weights, work = _cells(item, cycles)
                line = f"  {name:<{widths[0]}}  {kind:<{widths[1]}}  {shape:>{widths[2]}}  {weights:>{widths[3]}}"
                line += f"  {work:>{widths[4]}}" if cycles else ""
                read = "" if item.sources in ((before,), ()) else f"  < {', '.join(_near(item))}"
                told = f"  [bold green]= {escape(', '.join(item.tasks))}[/bold green]" if item.tasks else ""
                console.print(f"{escape(line)}[dim]{escape(read)}[/dim]{told}".rstrip(), soft_wrap=True)
                before = item.name


def _near(item: OutlineItem) -> list[str]:
    """What an item reads, without the place that it is in itself."""
    return [source.removeprefix(f"{item.place}.") if item.place else source for source in item.sources]


def _cells(item: OutlineItem, cycles: Mapping[str, int]) -> tuple[str, str, str, str, str]:
    from tessera.sw.report.outline import sized

    kind = f"{item.kind.replace('_', ' ')}{f' ({item.detail})' if item.detail else ''}"
    work = f"{cycles[item.name]:,} cycles" if cycles.get(item.name) else ""
    return item.part, kind, sized(item.shape), f"{item.parameters:,}" if item.parameters else "", work
