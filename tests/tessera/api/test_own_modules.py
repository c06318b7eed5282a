"""``tessera.from_torch``: what its arguments may be, and what each wrong one says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tessera

PICTURE = torch.zeros(1, 3, 16, 32)


class Two(nn.Module):
    """A dictionary, or a tuple, of classes and marks."""

    def __init__(self, *, keys: bool) -> None:
        super().__init__()
        self.patch, self.kind, self.mark = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, 4), nn.Linear(16, 2)
        self.keys = keys

    def forward(self, pixels: Tensor) -> dict[str, Tensor] | tuple[Tensor, Tensor]:
        x = self.patch(pixels).flatten(2).mean(2)
        made = self.kind(x), self.mark(x)
        return {"kind": made[0], "mark": made[1]} if self.keys else made


def read(folder: Path, *, keys: bool = True, **options):
    """Channels of each task."""
    made = tessera.from_torch(Two(keys=keys).eval(), PICTURE, out=folder / "own.safetensors", **options)
    return {task.name: task.channels for task in made.network.tasks}


def refused(folder: Path, **options) -> str:
    """The message; nothing is written."""
    with pytest.raises(ValueError) as caught:
        read(folder, **options)
    assert not list(folder.iterdir())
    return str(caught.value)


def test_tasks_are_keys_in_any_order(tmp_path):
    kinds = {"mark": "classification", "kind": None}
    assert read(tmp_path, tasks=kinds) == read(tmp_path) == {"kind": 4, "mark": 2}
    assert read(tmp_path, tasks=["mark", "kind"]) == {"kind": 4, "mark": 2}


def test_tasks_of_a_tuple_are_in_order(tmp_path):
    assert read(tmp_path, keys=False, tasks=["mark", "kind"]) == {"mark": 4, "kind": 2}


def test_other_keys_are_refused_with_both_lists(tmp_path):
    both = "the tasks are named kind, colour, but 'own' gives a dictionary with kind, mark"
    assert both in refused(tmp_path, tasks=["kind", "colour"])
    assert "are named kind, but" in refused(tmp_path, tasks=["kind"])


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ("kind", "tasks is the text 'kind'; expected names with their kinds"),
        ([1, 2], "the name of a task is 1"),
        (["kind", "kind"], "give each task a name of its own"),
        (["../up", "mark"], "a task cannot be called '../up'"),
        (["all", "mark"], "a task cannot be called 'all'"),
        (["", "mark"], "a task cannot be called ''"),
        ({"kind": "regression", "mark": None}, "task 'kind' is 'regression'; choose one of: classification"),
    ],
    ids=["text", "numbers", "twice", "path", "all", "empty", "kind"],
)
def test_tasks_that_are_none(tasks, message: str, tmp_path):
    assert message in refused(tmp_path, keys=False, tasks=tasks)


def test_one_number_is_the_mean_of_all_colours(tmp_path):
    module = Two(keys=True).eval()
    made = [
        tessera.from_torch(module, PICTURE, out=tmp_path / "own.safetensors", mean=mean, std=std).model.weights
        for mean, std in ((0.5, 0.25), ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)))
    ]
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[1])


@pytest.mark.parametrize("given", [{"mean": (0.5, 0.5)}, {"mean": float("nan")}, {"std": 0}, {"std": "half"}])
def test_means_that_are_none(given, tmp_path):
    assert f"{next(iter(given))} is " in refused(tmp_path, **given)
