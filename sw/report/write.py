"""Writes a run's report into a folder: run.json, PNGs and one page that needs no other file."""

from __future__ import annotations

import io
import json
from pathlib import Path

from matplotlib.figure import Figure

from tessera.common.expected import PATH, expect
from tessera.common.files import check_folder, folder_aside
from tessera.common.schemas.kinds import RUN
from tessera.common.stamped import write_document
from tessera.golden.network.network import Network
from tessera.sw.report import attention_figures, cycle_figures, error_figures, expert_figures, figures
from tessera.sw.report.drawing import drawing
from tessera.sw.report.page import render
from tessera.sw.report.timeline import chrome_trace
from tessera.sw.report.viewer import script_text, viewer_data
from tessera.sw.results.outcome import RunResult

FILES = ("report.html", "run.json", "timeline.json")
"""The files of a report that are not pictures."""


def report_files(model: Network) -> list[str]:
    """Names of all files that the report of a model may have."""
    stems = ["input", "routing", "loads", "rollout"]
    for task in model.tasks:
        stems += [task.name, *(f"{kind}-{task.name}" for kind in ("errors", "cycles", "roofline"))]
    return [*FILES, *(f"{stem}.png" for stem in stems)]


def make_figures(result: RunResult) -> dict[str, Figure]:
    """The figures of the first picture by file stem."""
    expect("result", result, RunResult, "what tessera.run gives")
    picture = result.pictures[0]
    tasks = result.tasks()
    found: dict[str, Figure | None] = {"input": figures.input_figure(picture)}
    for name, outcome in tasks.items():
        found[name] = figures.prediction_figure(outcome.prediction, picture)
        found[f"errors-{name}"] = error_figures.errors_figure(outcome.prediction, picture)
    found["routing"] = expert_figures.expert_maps(list(tasks.values()), picture)
    found["loads"] = expert_figures.expert_loads(list(tasks.values()))
    rollouts = {name: rollout for name, outcome in tasks.items() if (rollout := outcome.rollout()) is not None}
    found["rollout"] = attention_figures.rollout_figure(rollouts, result.program, picture)
    for name, outcome in tasks.items():
        found[f"cycles-{name}"] = cycle_figures.causes_figure(outcome)
        found[f"roofline-{name}"] = cycle_figures.roofline_figure(outcome)
    return {name: figure for name, figure in found.items() if figure is not None}


def write_report(result: RunResult, folder: Path | str) -> list[Path]:
    """Write the report; no file is left half-written. Returns the files, the page first.

    Numbers are written before anything is drawn: a figure that cannot be drawn does not cost them.

    Files: ``report.html``, ``run.json``, ``timeline.json`` (a Chrome trace), ``input.png``, ``<task>.png``,
    ``errors-<task>.png``, ``routing.png``, ``loads.png``, ``rollout.png``, ``cycles-<task>.png``,
    ``roofline-<task>.png``; those that say nothing about the model are left out.

    Raises
    ------
    ValueError
        For something else than a result, or a folder that cannot be written.
    """
    expect("result", result, RunResult, "what tessera.run gives")
    expect("folder", folder, PATH, "the path of a folder")
    folder = Path(folder)
    check_folder(folder, *FILES)
    with folder_aside(folder) as aside:
        data = write_document(aside / "run.json", RUN, result.to_dict())
        facts = {name: data[name] for name in ("model", "preset", "program_digest", "git", "date", "command")}
        trace = chrome_trace(list(result.tasks().values()), facts)
        (aside / "timeline.json").write_text(json.dumps(trace, separators=(",", ":")) + "\n", encoding="utf-8")
    (folder / "report.html").unlink(missing_ok=True)  # of another run
    images: dict[str, bytes] = {}
    for name, figure in make_figures(result).items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        images[name] = buffer.getvalue()
    page = render(data, images, script_text(viewer_data(result)), drawing(result.program.model, alone=False))
    names = [*FILES, *(f"{name}.png" for name in images)]
    with folder_aside(folder) as aside:
        (aside / "report.html").write_text(page, encoding="utf-8")
        for name, png in images.items():
            (aside / f"{name}.png").write_bytes(png)
    return [folder / name for name in names]
