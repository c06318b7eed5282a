"""The page's viewer: its data are the timeline's and the machine's, and a browser shows them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from tessera.sw.report import timeline, viewer, write_report
from tessera.sw.results.outcome import RunResult
from tessera.sw.run import execute
from tessera.sw.run.target import Target
from tests.helpers.browser import seen
from tests.helpers.small_checkpoints import save_small


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, Path]:
    """A run of both tasks of a small model, and the page of its report."""
    folder = tmp_path_factory.mktemp("viewer")
    small = save_small(folder / "small.safetensors")
    result = execute.run(Target(model=small, preset="tiny"), accuracy_scenes=0)
    return result, write_report(result, folder / "out")[0]


def test_data_are_the_timeline_the_routing_and_the_rollout(finished: tuple[RunResult, Path]) -> None:
    result, _ = finished
    data = viewer.viewer_data(result)
    assert data["units"] == list(timeline.TRACKS) and data["grid"] == [2, 4] and len(data["colours"]) == 4
    for task, outcome in zip(data["tasks"], result.tasks().values(), strict=True):
        found = [event for event in timeline.events(outcome) if event.working]
        for track, flat in zip(data["units"], task["units"], strict=True):
            numbers = np.array(flat).reshape(-1, 3)
            starts = np.cumsum(numbers[:, 0])
            told = [(int(s), int(s + n), task["names"][k]) for s, (_, n, k) in zip(starts, numbers, strict=True)]
            assert told == [(event.start, event.end, event.name) for event in found if event.track == track]
        (chosen,) = outcome.routing.values()
        assert task["experts"] == {"layer01": chosen[1:, 0].tolist()}
        assert {layer for _, layer in task["layers"]} == {"", "layer00", "layer01"}
        shares = np.frombuffer(base64.b64decode(task["attention"]["shares"]), np.uint8).reshape(8, 8)
        rollout = outcome.rollout()
        assert rollout is not None
        among = rollout[1:, 1:]
        largest = np.array(task["attention"]["largest"])[:, None] / len(rollout)
        assert np.abs(shares / 255 * largest - among).max() < 0.01 * among.max()


def test_attention_of_many_patches_is_left_out(finished: tuple[RunResult, Path], monkeypatch) -> None:
    monkeypatch.setattr(viewer, "MOST_PATCHES", 7)
    assert [task["attention"] for task in viewer.viewer_data(finished[0])["tasks"]] == [None, None]


def test_names_cannot_end_the_script() -> None:
    text = viewer.script_text({"name": "</script><b>"})
    assert "<" not in text and json.loads(text) == {"name": "</script><b>"}


def test_units_at_work_are_lit(finished: tuple[RunResult, Path]) -> None:
    result, page = finished
    for name, share in (("segmentation", 0.3), ("depth", 0.8)):
        outcome = result.tasks()[name]
        cycle = int(share * outcome.result.cycles)
        shown = seen(page, f"task={name}&cycle={cycle}").by_id("viewer")
        found = timeline.events(outcome)
        lit = {event.track for event in found if event.working and event.start <= cycle < event.end}
        assert lit and set(json.loads(shown["data-lit"])) == lit
        assert (shown["data-task"], shown["data-cycle"]) == (name, str(cycle))


def test_patches_show_their_expert_and_what_they_are_made_of(finished: tuple[RunResult, Path]) -> None:
    result, page = finished
    outcome = result.tasks()["depth"]
    elements = seen(page, "task=depth&layer=layer01")
    labels = [attributes["aria-label"] for tag, attributes in elements.found if "aria-pressed" in attributes]
    (chosen,) = outcome.routing.values()
    experts = chosen[1:, 0].reshape(2, 4)
    assert labels == [f"row {row}, column {column}: expert {experts[row, column]}" for row, column in np.ndindex(2, 4)]
    assert elements.by_id("viewer")["data-layer"] == "layer01" and elements.by_id("viewer")["data-attended"] == ""
    shown = seen(page, "task=depth&layer=layer01&patch=1,2").by_id("viewer")
    rollout = outcome.rollout()
    assert rollout is not None
    top = np.unravel_index(rollout[1 + 4 + 2, 1:].argmax(), (2, 4))
    assert (shown["data-patch"], shown["data-attended"]) == ("1,2", f"{top[0]},{top[1]}")


def test_an_address_that_names_nothing_there_is_shows_the_beginning(finished: tuple[RunResult, Path]) -> None:
    shown = seen(finished[1], "task=none&layer=9&patch=7,7&cycle=x").by_id("viewer")
    assert [shown[f"data-{name}"] for name in ("task", "cycle", "layer", "patch")] == ["segmentation", "0", "", ""]


def test_keys_move_through_cycles_and_patches(finished: tuple[RunResult, Path]) -> None:
    script = """
      const key = (name, element) => element.dispatchEvent(new KeyboardEvent("keydown", {key: name, bubbles: true}));
      key("ArrowRight", document.querySelector("#viewer input"));
      key("ArrowRight", document.querySelector("#viewer .patches button"));
      key("ArrowDown", document.activeElement);
      document.activeElement.click();
    """
    shown = seen(finished[1], "task=depth", script=script).by_id("viewer")
    step = round(finished[0].tasks()["depth"].result.cycles / 500)
    assert abs(int(shown["data-cycle"]) - step) <= 1 and shown["data-patch"] == "1,1"


@pytest.mark.parametrize("width", [600, 1400])
def test_nothing_is_wider_than_the_window(finished: tuple[RunResult, Path], width: int) -> None:
    """Figures and tables that are wider scroll in their own places, and captions keep a size to read."""
    script = """
      document.body.dataset.over = document.documentElement.scrollWidth - document.documentElement.clientWidth;
      document.body.dataset.shrunk = Math.min(...[...document.querySelectorAll("figure img")]
        .filter((image) => image.offsetWidth).map((image) => image.offsetWidth / image.naturalWidth));
    """
    body = next(attributes for tag, attributes in seen(finished[1], width=width, script=script).found if tag == "body")
    assert int(body["data-over"]) == 0 and float(body["data-shrunk"]) > 0.79
