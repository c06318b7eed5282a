"""A model on a board: loaded over the serial port, run, and compared with the golden model bit by bit."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tessera.common.files import folder_aside
from tessera.common.progress import Progress, silent
from tessera.common.schemas.kinds import DEPLOY
from tessera.common.stamped import write_document
from tessera.hw.presets import PRESETS
from tessera.hw.protocol import Identity
from tessera.sim.board.board import SimulatedBoard
from tessera.sw.data.pictures import Picture
from tessera.sw.driver.device import RUN_SECONDS, Device
from tessera.sw.driver.errors import WrongConfiguration
from tessera.sw.driver.link import answer_seconds
from tessera.sw.driver.transport import SerialTransport
from tessera.sw.quantiser.saturation import excesses
from tessera.sw.report.figures import input_figure, prediction_figure
from tessera.sw.results.comparison import OutputMaps, compare
from tessera.sw.results.saturated import residual_saturated, saturated_frames
from tessera.sw.results.truth import truth_of
from tessera.sw.run.prepare import Prepared
from tessera.sw.run.target import machine

SIMULATED, SIMULATED_PRESET = "simulated", "tiny"
"""The port of the simulated board, and what it is unless told otherwise."""
SIMULATED_ANSWER_SECONDS, SIMULATED_RUN_SECONDS = 10.0, 3600.0
BAUD = 3_000_000


@dataclass(frozen=True, kw_only=True)
class DeployedFrame:
    """One picture under one task.

    Members: ``different`` elements of the output that are not the golden model's, the first of them at ``first`` (row,
    channel, expected, got), None if there is none; ``seconds`` from sending the picture to having the output.
    """

    picture: int
    task: str
    elements: int
    different: int
    first: tuple[int, int, int, int] | None
    counters: dict[str, int]
    prediction: OutputMaps
    seconds: float

    @property
    def bit_exact(self) -> bool:
        """Whether every element is the golden model's."""
        return not self.different

    @property
    def saturated(self) -> bool:
        """Whether the residual stream saturated, by the machine's own account."""
        return residual_saturated(self.counters)

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {
            "picture": self.picture,
            "task": self.task,
            "bit_exact": self.bit_exact,
            "elements_compared": self.elements,
            "elements_different": self.different,
            "first_mismatch": self.first and dict(zip(("row", "channel", "expected", "got"), self.first, strict=True)),
            "counters": self.counters,
            "saturated": self.saturated,
            "prediction": {"kind": self.prediction.kind, **self.prediction.scores},
            "relative_l2": self.prediction.relative_l2,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """A finished deployment."""

    identity: Identity
    pictures: list[Picture]
    frames: list[DeployedFrame]
    load_bytes: int
    load_seconds: float
    facts: dict[str, Any]

    @property
    def bit_exact(self) -> bool:
        """Whether every frame is."""
        return all(frame.bit_exact for frame in self.frames)

    @property
    def notices(self) -> list[str]:
        """What a reader should know: of the preparation (``facts`` has it), and of the machine."""
        return [*self.facts["notices"], *saturated_frames([frame.saturated for frame in self.frames])]

    def to_dict(self) -> dict[str, Any]:
        """Content of deploy.json."""
        rate = self.load_bytes / max(self.load_seconds, 1e-9)
        identity = asdict(self.identity) | {"digest": self.identity.digest.hex()}
        return {
            **self.facts,
            "notices": self.notices,
            "bit_exact": self.bit_exact,
            "device": identity,
            "load": {"bytes": self.load_bytes, "seconds": self.load_seconds, "bytes_per_s": rate},
            "pictures": [{"source": picture.source, "notices": list(picture.notices)} for picture in self.pictures],
            "frames": [frame.to_dict() for frame in self.frames],
        }


@contextmanager
def opened(port: str, baud: int, preset: str | None, on_progress: Progress = silent) -> Iterator[Device]:
    """The device on a serial port, or a simulated board of ``preset`` (or tiny).

    Raises
    ------
    tessera.sw.driver.errors.DriverError
        See there.
    ValueError
        Unknown preset, or a baud rate that is none.
    """
    if baud < 1:
        raise ValueError(f"--baud is {baud}; give the rate that the bitstream was built for, such as {BAUD}")
    if port != SIMULATED:
        with Device(SerialTransport(port, baud), answer_seconds=answer_seconds(baud)) as device:
            yield device
        return
    config = machine(preset or SIMULATED_PRESET)
    on_progress("build", 0.0, f"simulator of a board with preset {config.name}: minutes the first time, then kept")
    with SimulatedBoard(config, on_progress=on_progress) as board:
        on_progress("build", 1.0, "")
        with Device(SerialTransport(board.port, baud), answer_seconds=SIMULATED_ANSWER_SECONDS) as device:
            yield device


def preset_of(device: Device, preset: str | None) -> str:
    """The preset to compile for: the device's own unless it is given; WrongConfiguration if it has none we know."""
    if preset is not None:
        return preset
    found = device.identity.preset
    if found not in PRESETS:
        raise WrongConfiguration(
            f"the bitstream (build '{device.identity.build}') is of configuration '{found}', which is no preset of "
            f"this version ({', '.join(PRESETS)}); load a bitstream of one of them"
        )
    return found


def deploy_pictures(
    prepared: Prepared,
    pictures: Sequence[Picture],
    tasks: Sequence[int],
    device: Device,
    *,
    verify: bool = False,
    port: str = "",
    on_progress: Progress = silent,
) -> Deployed:
    """Load a prepared model, run every picture under every task, and compare.

    Parameters
    ----------
    prepared, pictures, tasks:
        What to run.
    device:
        Where.
    verify:
        Read program and weights back after loading.
    port:
        Its name, for the record.
    on_progress:
        Called with stage, fraction and detail.

    Raises
    ------
    tessera.sw.driver.errors.DriverError
        The device is not right for it, or fails.
    """
    program = prepared.program
    began = time.perf_counter()
    device.load(program, verify=verify, on_progress=on_progress)
    load_seconds = time.perf_counter() - began
    frames: list[DeployedFrame] = []
    for index, picture in enumerate(pictures):
        for task in tasks:
            name = program.model.tasks[task].name
            on_progress("run", len(frames) / (len(pictures) * len(tasks)), name)
            frames.append(_frame(prepared, index, picture, task, device, port == SIMULATED))
    on_progress("run", 1.0, "")
    return Deployed(
        identity=device.identity,
        pictures=list(pictures),
        frames=frames,
        load_bytes=len(program.content) * (2 if verify else 1),
        load_seconds=load_seconds,
        facts={
            "model": program.model.name,
            "weights": prepared.checkpoint.weights,
            "preset": program.config.name,
            "program_digest": program.digest,
            "calibration_pictures": prepared.calibrated_on.to_dict(),
            "saturation": [excess.to_dict() for excess in excesses(prepared.quantised)],
            "notices": list(prepared.notices),
            "port": port,
            "requests_resent": device.link.resent,
        },
    )


def _frame(
    prepared: Prepared, number: int, picture: Picture, task: int, device: Device, simulated: bool
) -> DeployedFrame:
    """Run one frame and compare its output with the golden model's."""
    program, integer = prepared.program, prepared.integer
    described = program.model.tasks[task]
    began = time.perf_counter()
    result = device.run(program, task, picture.image, seconds=SIMULATED_RUN_SECONDS if simulated else RUN_SECONDS)
    seconds = time.perf_counter() - began
    golden = integer.result(integer.run(picture.image, task), task)
    wrong = np.argwhere(result.output != golden)
    first = None
    if len(wrong):
        row, channel = (int(index) for index in wrong[0])
        first = (row, channel, int(golden[row, channel]), int(result.output[row, channel]))
    with torch.no_grad():
        (output,) = prepared.checkpoint.model.run(torch.from_numpy(picture.image[None]), [task])
    reference = output[0].double().numpy()
    values = integer.dequantise(program.plan.results[task].tensor, result.output)
    truth = truth_of(described, prepared.checkpoint.weights, picture.scene)
    return DeployedFrame(
        picture=number,
        task=described.name,
        elements=int(golden.size),
        different=len(wrong),
        first=first,
        counters=result.counters,
        prediction=compare(described, reference, values, truth),
        seconds=seconds,
    )


def write_results(result: Deployed, folder: Path) -> list[Path]:
    """Write deploy.json, input.png and a PNG for each task of the first picture; returns the files."""
    # First: nothing that fails to be drawn costs the numbers.
    write_document(folder / "deploy.json", DEPLOY, result.to_dict())
    simulated = result.facts["port"] == SIMULATED
    where = "board (simulated)" if simulated else f"board ({result.identity.build})"
    figures = {"input": input_figure(result.pictures[0])}
    for frame in result.frames:
        if frame.picture == 0:
            figures[frame.task] = prediction_figure(frame.prediction, result.pictures[0], machine=where)
    with folder_aside(folder) as aside:
        for name, figure in figures.items():
            figure.savefig(aside / f"{name}.png", format="png")
    return [folder / "deploy.json", *(folder / f"{name}.png" for name in figures)]
