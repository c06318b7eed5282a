"""Options that several commands share, with the same words everywhere, alone or in groups."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from tessera.sw.commands.terminal import AnyCommand

if TYPE_CHECKING:
    from tessera.sim.machine.settings import MemorySettings
    from tessera.sw.data.pictures import PictureChoice
    from tessera.sw.run.target import Target

MOST_SCENES, MOST_PICTURES = 10**9, 100_000
"""Largest number of a scene; most pictures of one run."""

Model = Annotated[
    str,
    typer.Option(
        help="nano or m3vit-tiny (trained); m3vit-backbone, deit-small or pico (seeded); or the path of a checkpoint."
    ),
]
Routing = Annotated[
    str | None,
    typer.Option(
        help="Loads that a seeded model's gates give: balanced, skewed (one expert takes most tokens, six none) or "
        "captured (as in a trained model). [balanced]"
    ),
]
PRESETS = (
    "Machine to build: tiny, ecp5-85f, ecp5-wide (twice its MACs), edge, edge-8 (8 bytes of memory a cycle) or "
    "edge-large (more on chip)."
)
Preset = Annotated[str, typer.Option(help=PRESETS)]
Image = Annotated[
    Path | None,
    typer.Option(help="Picture file of any size and mode, resized; or raw pixels in the model's size, *.float32.bin."),
]
Width = Annotated[int, typer.Option(help="Bits of an activation: 8, 12 or 16.")]
CALIBRATIONS = (
    "How ranges of activations follow from sample pictures: max (the largest magnitude, and a tenth), percentile (of "
    "99.99; the rest saturates) or least-error (smallest squared error of rounding and clipping)"
)
Calibration = Annotated[str, typer.Option(help=f"{CALIBRATIONS}.")]
CalibrationImages = Annotated[
    Path | None,
    typer.Option(
        help="Folder of pictures of the kind that the model was trained on, at best its training pictures: ranges of "
        "activations follow from 32 of them. [generated street scenes]"
    ),
]
Task = Annotated[str, typer.Option(help="'all', one task of the model, or several with commas; run in this order.")]
Scene = Annotated[
    int | None,
    typer.Option(min=0, max=MOST_SCENES, help="Number of a held-out procedural scene, when there is no --image. [0]"),
]
Out = Annotated[Path, typer.Option(help="Folder for the results; files in it are replaced.")]
Board = Annotated[str, typer.Option(help="Board: ulx3s-85f, or ecpix5-85f (preset tiny, memory on chip).")]


def only_with(needed: bool, why: str, given: Mapping[str, Any]) -> None:
    """ValueError for options that would be ignored.

    Parameters
    ----------
    needed:
        Whether what they depend on was chosen.
    why:
        What they are for and what to do, after the option's name.
    given:
        Their values by name; None and False stand for an option that was not given.
    """
    ignored = [name for name, value in given.items() if value is not None and value is not False]
    if ignored and not needed:
        raise ValueError(f"{ignored[0]} {why}")


def check_kept(image: Path | None, results: Sequence[Path]) -> None:
    """ValueError if a result would take the place of the picture that it is made from."""
    taken = next((path for path in results if image is not None and path.exists() and path.samefile(image)), None)
    if taken is not None:
        raise ValueError(f"{taken} is the picture itself, which would be lost; give another folder for the results")


def check_output(out: Path, model: str) -> None:
    """ValueError if what becomes of a model cannot be written to ``out``, or would take the model's own place."""
    from tessera.common.files import check_file

    check_file(out)
    if out.exists() and Path(model).exists() and out.samefile(model):
        raise ValueError(f"{out} is the model itself, which would be lost; give another name for the result")


def with_groups(command: AnyCommand) -> AnyCommand:
    """Give a command the options of its groups.

    A group is a dataclass of options. Each field becomes an option of the command line; the command gets the dataclass.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in groups:
            parameters += _options(groups[parameter.name])
        else:
            changes = {"kind": inspect.Parameter.KEYWORD_ONLY, "annotation": hints[parameter.name]}
            parameters.append(parameter.replace(**changes))

    @functools.wraps(command)
    def wrapper(**given: Any) -> Any:
        members = {
            name: group(**{field.name: given.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        return command(**members, **given)

    vars(wrapper)["__signature__"] = inspect.Signature(parameters)
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper  # type: ignore[return-value]


def _options(group: type) -> list[inspect.Parameter]:
    """Parameters of a command, one for each field of a group."""
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Options of a model, and of how it is quantised."""

    model: Model = "nano"
    routing: Routing = None
    activation_width: Width = 8
    calibration: Calibration = "max"
    calibration_images: CalibrationImages = None

    def on(self, preset: str) -> Target:
        """The model on a machine; ValueError for what there is not."""
        from tessera.sw.quantiser.calibration import Calibration
        from tessera.sw.run.target import Target

        return Target(
            model=self.model,
            routing=self.routing,
            preset=preset,
            activation_width=self.activation_width,
            calibration=Calibration.named(self.calibration),
            calibration_images=self.calibration_images,
        )


@dataclass(frozen=True, kw_only=True)
class TargetOptions(ModelOptions):
    """Options of a model and a machine."""

    preset: Preset = "edge"

    def target(self) -> Target:
        """What the options say; ValueError for what there is not."""
        return self.on(self.preset)


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """Options of pictures, and of the tasks that run on them."""

    task: Task = "all"
    image: Image = None
    scene: Scene = None
    frames: Annotated[
        int,
        typer.Option(min=1, max=MOST_PICTURES, help="Pictures one after another: further scenes, or --image again."),
    ] = 1

    def choice(self) -> PictureChoice:
        """The pictures that the options choose; ValueError for some that cannot be."""
        return chosen_pictures(self.image, self.scene, self.frames)


def chosen_pictures(image: Path | None, scene: int | None, frames: int = 1) -> PictureChoice:
    """A file, or scenes from a number on; ValueError for both, and for a file that is no picture."""
    from tessera.sw.data.pictures import PictureChoice

    only_with(image is None, "chooses a generated scene, and --image a picture: leave one out", {"--scene": scene})
    choice = PictureChoice(image=image, scene=scene or 0, frames=frames)
    choice.check()
    return choice


LATENCY, SEED = 60, 1
"""Cycles of the DRAM, and the pattern of its pauses, unless chosen."""


@dataclass(frozen=True, kw_only=True)
class DramOptions:
    """Options of the simulated DRAM."""

    memory_latency: Annotated[
        int | None,
        typer.Option(min=2, max=1000, help="Cycles from a read request to its first data in the simulated DRAM. [60]"),
    ] = None
    stalls: Annotated[
        int | None, typer.Option(min=0, max=255, help="Chance in 256 that a memory channel pauses for a cycle. [0]")
    ] = None
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**31 - 1, help="With --stalls: chooses the pattern of the pauses. [1]")
    ] = None

    def settings(self, flip: tuple[int, int] | None = None) -> MemorySettings:
        """The DRAM that the options describe; it reads bit ``flip`` (byte address, bit) inverted."""
        from tessera.sim.machine.settings import MemorySettings

        only_with(bool(self.stalls), "chooses the pattern of pauses: say how many with --stalls", {"--seed": self.seed})
        seed = SEED if self.seed is None else self.seed
        return MemorySettings(read_latency=self.memory_latency or LATENCY, stall=self.stalls or 0, seed=seed, flip=flip)
