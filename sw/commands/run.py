"""``tessera run``: one picture through the machine, verified and shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from tessera.sw.commands import options
from tessera.sw.commands.terminal import (
    VERDICT_FAILED,
    Display,
    console,
    number,
    reported,
    table,
    tell,
    tell_notices,
    verdict,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tessera.sw.data.pictures import Picture
    from tessera.sw.results.outcome import FrameOutcome, RunResult
    from tessera.sw.run.execute import Memory
    from tessera.sw.run.prepare import Prepared


@dataclass(frozen=True, kw_only=True)
class MemoryOptions(options.DramOptions):
    """Options of the machine's memory."""

    memory: Annotated[
        str,
        typer.Option(help="dram (a model with a latency) or sdram (a board's: its controller, and its chip's model)."),
    ] = "dram"
    memory_clock: Annotated[
        float | None,
        typer.Option(help="With --memory sdram: MHz of core and SDRAM, which decides the SDRAM's cycles. [100]"),
    ] = None
    flip: Annotated[
        str | None, typer.Option(help="ADDRESS:BIT of the DRAM that reads inverted: break it and see it caught.")
    ] = None

    def chosen(self) -> Memory:
        """The memory that the options describe; ValueError for options that it does not have."""
        from tessera.sim.machine.sdram import SdramSettings

        flip = _flip(self.flip)
        if self.memory == "dram":
            options.only_with(
                False, "is the clock of an SDRAM: choose one with --memory sdram", {"--memory-clock": self.memory_clock}
            )
            return self.settings(flip)
        if self.memory != "sdram":
            raise ValueError(f"--memory is '{self.memory}'; choose dram or sdram")
        options.only_with(
            False,
            "cannot be chosen for an SDRAM, which does as its data sheet says; use --memory dram",
            {"--memory-latency": self.memory_latency, "--stalls": self.stalls, "--seed": self.seed, "--flip": flip},
        )
        clock = 100.0 if self.memory_clock is None else self.memory_clock
        if not 1 <= clock <= 1000:
            raise ValueError(f"--memory-clock is {clock:g}; give MHz, such as 100")
        settings = SdramSettings(clock_hz=round(1e6 * clock))
        _ = settings.timing  # says so if the chip cannot be clocked so
        return settings


@reported
@options.with_groups
def command(
    target: options.TargetOptions,
    pictures: options.PictureOptions,
    memory: MemoryOptions,
    waves: Annotated[
        bool, typer.Option("--waves", help="Record a VCD around the first mismatch, if there is one.")
    ] = False,
    out: options.Out = Path("build/run"),
    dump: Annotated[
        Path | None, typer.Option(help="Also write every intermediate tensor to this .npz file (docs/formats.md).")
    ] = None,
) -> None:
    """Run a model on the simulated machine and compare every tensor with the golden model.

    Writes run.json, PNGs and report.html into --out. Exit code 0 if everything is bit-exact, 1 if not, 2 for a mistake.

    Examples
    --------
      tessera run

      tessera run --preset tiny --task depth --image street.jpg --out build/street

      tessera run --model m3vit-backbone --routing skewed

      tessera run --stalls 40 --memory-latency 200 --frames 2

      tessera run --preset ecp5-85f --memory sdram --memory-clock 80

      tessera run --model build/m3vit.safetensors --image weights/image.float32.bin --dump build/tensors.npz
    """
    from tessera.common.files import check_file, check_folder
    from tessera.sw.report.write import FILES, report_files, write_report
    from tessera.sw.run import execute
    from tessera.sw.run.dump import dump_tensors
    from tessera.sw.run.prepare import ACCURACY_SCENES, prepare

    chosen = target.target()
    check_folder(out, *FILES)
    if dump is not None:
        if dump.suffix != ".npz":
            raise ValueError(f"the tensors are to be written to {dump}; give the name of a file that ends in .npz")
        check_file(dump)
    settings, choice = memory.chosen(), pictures.choice()
    with Display() as display:
        prepared = prepare(chosen, task=pictures.task, pictures=choice, on_progress=display)
    tasks = prepared.task_indices(pictures.task)
    options.check_kept(pictures.image, [out / name for name in report_files(prepared.program.model)])
    execute.check_memory(settings, prepared.program)
    shown = choice.load(prepared.program.model)
    _announce(prepared, tasks, shown, settings, out)
    with Display() as display:
        result = execute.execute(
            prepared,
            shown,
            tasks,
            memory=settings,
            waves=out / "mismatch.vcd" if waves else None,
            accuracy_scenes=ACCURACY_SCENES,
            on_progress=display,
        )
        display("report", 0.0, str(out))
        files = write_report(result, out)
        if dump is not None:
            display("dump", 0.0, str(dump))
            dump_tensors(prepared, result, dump)
    _summarise(result)
    if waves:
        _tell_waves(result)
    console.print(f"Report: {escape(str(files[0]))}, numbers: {escape(str(files[1]))}", soft_wrap=True)
    if not result.bit_exact:
        raise typer.Exit(VERDICT_FAILED)


def _flip(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        address, bit = (int(part, 0) for part in text.split(":"))
    except ValueError:
        raise ValueError(f"--flip is '{text}'; give a byte address and a bit, such as 0x2100:6") from None
    return address, bit


def _announce(prepared: Prepared, tasks: Sequence[int], pictures: Sequence[Picture], memory: Memory, out: Path) -> None:
    from tessera.sw.cycles import bound
    from tessera.sw.run.duration import expected_duration

    model, config = prepared.program.model, prepared.config
    macs = [bound.total(prepared.program, task).macs for task in tasks]
    expected = expected_duration(prepared.program, tasks, len(pictures), read_latency=memory.read_latency)
    array = f"{config.elements} x {config.lanes} multiply-accumulates a cycle"
    work = [f"{model.tasks[task].name} ({mac / 1e6:.1f} M MACs)" for task, mac in zip(tasks, macs, strict=True)]
    assumed = " and ".join(
        [
            *(["balanced experts"] if prepared.program.mixtures else []),
            *(["no stalls"] if getattr(memory, "stall", 0) else []),
        ]
    )
    predicted = f"{expected.cycles:,} cycles predicted{f' for {assumed}' if assumed else ''}"
    predicted += f" ({expected.ideal_cycles:,} ideal)"
    moved = prepared.program.returning_bytes > 0
    lines = {
        "model": f"{prepared.label}: image {model.image_height}x{model.image_width}, {prepared.program.geometry}",
        "machine": f"{config.name}: {array}, {config.numerics.activation_width}-bit activations",
        "program": f"{len(prepared.program.commands)} commands, {prepared.program.map.weights_bytes:,} weight bytes"
        + (f", {prepared.program.returning_bytes:,} bytes of streams through memory" if moved else ""),
        "tasks": ", ".join(work),
        "picture": ", ".join(dict.fromkeys(picture.source for picture in pictures)),
        "expected": f"{predicted}, about {expected.seconds:.0f} s of simulation; a machine's first build takes minutes",
        "results": str(out),
    }
    for name, text in lines.items():
        console.print(f"[bold]{name:<9}[/bold] {escape(text)}", soft_wrap=True)
    tell_notices(pictures)
    tell(prepared.notices, 4)


def _summarise(result: RunResult) -> None:
    from tessera.sw.results.saturated import saturated_frames

    frames = result.frames
    heads = [frame.task if len(result.pictures) == 1 else f"{frame.task}, {frame.picture}" for frame in frames]
    data = [frame.to_dict() for frame in frames]
    rows = [
        ("bit-exact", [verdict(d["bit_exact"]) for d in data]),
        ("tensors compared", [f"{d['tensors_compared']:,}" for d in data]),
        ("elements compared", [f"{d['elements_compared']:,}" for d in data]),
        ("cycles (simulated)", [f"{d['cycles']:,}" for d in data]),
        ("over the bound", [f"{d['cycles'] / d['bound_cycles']:.3f}" for d in data]),
        ("MAC utilisation (simulated)", [f"{d['mac_utilisation']:.1%}" for d in data]),
        ("DRAM bytes (simulated)", [f"{d['dram_bytes']:,}" for d in data]),
        ("simulation, cycles/s", [f"{d['sim_cycles_per_s']:,.0f}" for d in data]),
        ("this picture: output error (rel. L2)", [f"{d['quantisation']['relative_l2']:.2%}" for d in data]),
        ("this picture: against float", [_against_float(d["prediction"]) for d in data]),
    ]
    if result.accuracy:
        scores = result.accuracy
        rows.append(
            (f"{scores['scenes']} scenes: output error (rel. L2)", [_mean_error(frame, scores) for frame in frames])
        )
        for arithmetic in ("float", "integer"):
            found = [_score(frame, scores, arithmetic) for frame in frames]
            rows.append((f"{scores['scenes']} scenes: {arithmetic}", found))
    table("Verified against the integer golden model", ["", *heads], [(name, *cells) for name, cells in rows])
    tell(saturated_frames([frame.saturated for frame in frames]))
    console.print(f"Program: digest {result.program.short_digest}")
    for frame in frames:
        if frame.trouble:
            console.print(
                f"[bold red]picture {frame.picture}, {frame.task}:[/bold red] {escape(frame.trouble)}", soft_wrap=True
            )


def _tell_waves(result: RunResult) -> None:
    if result.waves:
        console.print(f"Waves around the first mismatch: {escape(result.waves)}", soft_wrap=True)
    else:
        console.print("Waves: none were recorded, because nothing mismatched; `tessera waves` records any unit")


def _against_float(prediction: dict) -> str:
    if prediction["kind"] == "classification":
        return "same class" if prediction["class_agreement"] == 1 else "another class"
    if "class_agreement" in prediction:
        return f"{prediction['class_agreement']:.2%} same class"
    if "worst_token_relative_l2" in prediction:
        return f"{prediction['worst_token_relative_l2']:.2%} worst patch"
    return f"{prediction['depth_difference_m']:.3f} m RMS"


def _mean_error(frame: FrameOutcome, scores: dict) -> str:
    return f"{scores['outputs'][frame.task]['relative_l2']:.2%}"


def _score(frame: FrameOutcome, accuracy: dict, arithmetic: str) -> str:
    """What a task scored on the held-out scenes, if they have truth for it."""
    if accuracy["scored"].get(frame.prediction.kind) != frame.task:
        return "-"
    scores = accuracy[arithmetic]
    if frame.prediction.kind == "segmentation":
        return f"mIoU {number(scores['mean_iou'], '.4f')}"
    return f"RMSE {number(scores['depth_rmse_m'], '.3f', ' m')}"
