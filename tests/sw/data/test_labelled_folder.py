"""Folders of classes, as torchvision's ImageFolder has them: what is read, left out and refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tessera.sw.data.dataset import DatasetProblems
from tessera.sw.data.datasets import DatasetRequest, find_source, open_dataset
from tests.helpers.dataset_folders import save_png, write_classes


def opened(root: Path, **request: object):
    return open_dataset(f"folder:{root}", None, DatasetRequest(**{"split": "", **request}))


def test_classes_are_numbered_in_the_order_of_their_names(tmp_path: Path) -> None:
    write_classes(tmp_path, {"dog": 2, "Zebra": 1, "10": 1, "2": 1})
    save_png(tmp_path / "dog" / "more" / "deep.png", np.zeros((4, 4), np.uint8))
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "labels.csv").touch()
    (tmp_path / "dog" / "notes.txt").touch()
    data = opened(tmp_path)
    assert data.classes is not None and data.classes.names == ("10", "2", "Zebra", "dog")  # as sorted() has them
    found = [(data[number].name, data[number].label) for number in range(len(data))]
    assert found[:3] == [("10/0.png", 0), ("2/0.png", 1), ("Zebra/0.png", 2)]
    assert found[3:] == [("dog/0.png", 3), ("dog/1.png", 3), ("dog/more/deep.png", 3)]
    assert data[5].image.shape == (4, 4, 3) and data.split == "all" and len(data.classes.colours) == 4
    assert data.notices == (
        "beside the class folders, left out: labels.csv",
        "no pictures, left out: dog/notes.txt",
    )


def test_a_class_keeps_its_number_in_a_split_without_it(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"a": 1, "b": 1, "c": 1})
    write_classes(tmp_path / "val", {"a": 1, "c": 2})
    source = find_source(f"folder:{tmp_path}", None)
    assert source.splits == ("train", "val") and source.class_names == ("a", "b", "c") and source.split(None) == "val"
    with pytest.raises(DatasetProblems, match="val/b: no such folder, another split has it") as found:
        opened(tmp_path, split="val")
    assert "3 pictures are complete: --partial uses those" in str(found.value)
    assert "Where to get it" not in str(found.value)
    data = opened(tmp_path, split="val", partial=True)
    assert [data[number].label for number in range(3)] == [0, 2, 2]
    with pytest.raises(ValueError, match="no split 'test'; choose one with --split: train, val"):
        source.split("test")


def test_a_folder_called_like_a_split_may_be_a_class(tmp_path: Path) -> None:
    write_classes(tmp_path, {"train": 1, "bus": 1})
    source = find_source(f"folder:{tmp_path}", None)
    assert source.splits == () and source.class_names == ("bus", "train") and source.split(None) == ""
    with pytest.raises(ValueError, match="has no splits, such as val: leave --split out"):
        source.split("val")


def test_what_is_not_whole_is_named_or_left_out(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 2, "b": 1})
    (tmp_path / "empty").mkdir()
    save_png(tmp_path / "stray.png", np.zeros((4, 4), np.uint8))
    (tmp_path / "a" / "1.png").write_bytes(b"")
    with pytest.raises(DatasetProblems) as found:
        opened(tmp_path, count=10)
    for words in ("pictures of no class, beside the class folders: stray.png", "empty: no picture", "a/1.png is not a"):
        assert words in str(found.value)
    data = opened(tmp_path, count=10, partial=True)
    assert [data[number].label for number in range(len(data))] == [0, 1] and len(data.notices) == 3
    assert data.classes is not None and data.classes.names == ("a", "b", "empty")


def test_a_selection_covers_all_classes(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 4, "b": 4, "c": 4})
    data = opened(tmp_path, count=3)
    assert [data[number].label for number in range(3)] == [0, 1, 2]
    assert data.notices == ("3 of 12 pictures, selected evenly",)


@pytest.mark.parametrize(("there", "words"), [(None, "is not there"), ("file", "is a file"), ("", "has no folders")])
def test_no_folders_of_classes_are_refused(tmp_path: Path, there: str | None, words: str) -> None:
    root = tmp_path / "data"
    if there:
        root.touch()
    elif there is not None:
        save_png(root / "0.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match=words):
        find_source(f"folder:{root}", None)
    with pytest.raises(ValueError, match="leave --root out"):
        find_source(f"folder:{root}", tmp_path)


@pytest.mark.parametrize("target", ["..", "../..", "../bus", "../bus/deep", "."])
def test_a_link_to_other_classes_is_not_followed(tmp_path: Path, target: str) -> None:
    write_classes(tmp_path / "val", {"car": 2, "bus": 3, "bus/deep": 1})
    write_classes(tmp_path / "store", {"more": 1})
    (tmp_path / "val" / "car" / "up").symlink_to(target)
    (tmp_path / "val" / "car" / "out").symlink_to(tmp_path / "store")
    (tmp_path / "val" / "car" / "one.png").symlink_to("../bus/0.png")
    data = opened(tmp_path, split="val")
    assert sorted(data[number].name for number in range(len(data)) if data[number].label == 1) == [
        "val/car/0.png",
        "val/car/1.png",
        "val/car/one.png",
        "val/car/out/more/0.png",
    ]
    assert len(data) == 8
    assert "links to folders that are read already or lie above, left out: val/car/up" in data.notices


@pytest.mark.parametrize("name", ["car", "zoo"])
@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("bus", "is a link into .*bus, another class"),
        ("bus/deep", "is a link into .*bus, another class"),
        ("..", "is a link to .*, which it lies in: take the link away"),
        (".", "is a link to .*, which it lies in: take the link away"),
    ],
)
def test_a_class_that_is_a_link_to_others_is_refused(tmp_path: Path, name: str, target: str, words: str) -> None:
    write_classes(tmp_path / "val", {"bus": 1, "bus/deep": 1, "dog": 1})
    (tmp_path / "val" / name).symlink_to(target)
    with pytest.raises(ValueError, match=f"val/{name} {words}"):
        find_source(f"folder:{tmp_path}", None)


def test_folders_that_links_lead_to_are_classes(tmp_path: Path) -> None:
    write_classes(tmp_path / "store", {"a": 1, "b": 2})
    for name in ("a", "b"):
        (tmp_path / "data" / "val").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "val" / name).symlink_to(tmp_path / "store" / name)
    (tmp_path / "data" / "test").symlink_to("val")
    data = opened(tmp_path / "data", split="test")
    assert [data[number].label for number in range(len(data))] == [0, 1, 1] and data.notices == ()


@pytest.mark.parametrize(
    ("name", "split"),
    [("Val", "val"), ("VALIDATION", "val"), ("valid", "val"), ("Train", "train"), ("testing", "test")],
)
def test_other_names_of_splits_are_taken_with_a_notice(tmp_path: Path, name: str, split: str) -> None:
    write_classes(tmp_path / name, {"a": 1, "b": 2})
    source = find_source(f"folder:{tmp_path}", None)
    assert source.splits == (split,) and source.class_names == ("a", "b")
    data = opened(tmp_path, split=split)
    assert [data[number].label for number in range(3)] == [0, 1, 1] and data[0].name == f"{name}/a/0.png"
    assert data.notices == (f"{name} is taken as the split {split}",)


def test_splits_that_are_not_clear_are_refused(tmp_path: Path) -> None:
    write_classes(tmp_path / "one" / "val", {"a": 1})
    write_classes(tmp_path / "one" / "validation", {"a": 1})
    with pytest.raises(ValueError, match="has val, validation, which may each be the split val: take one of them away"):
        find_source(f"folder:{tmp_path / 'one'}", None)
    write_classes(tmp_path / "two", {"Train": 1, "Val": 1})
    with pytest.raises(ValueError, match=r"has folders of splits \(Train, Val\) without folders of classes"):
        find_source(f"folder:{tmp_path / 'two'}", None)
