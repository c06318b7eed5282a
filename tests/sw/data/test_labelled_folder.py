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
