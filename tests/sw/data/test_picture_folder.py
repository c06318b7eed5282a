"""Folders of pictures: what is found in which order, what is selected, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tessera.sw.data.picture_folder import calibration_folder, evenly, files_of, load_pictures
from tests.helpers.dataset_folders import pattern, save_png
from tests.helpers.small_checkpoints import SMALL


def colours(seed: int) -> np.ndarray:
    return pattern(seed, 255, (6, 8, 3)).astype(np.uint8)


def test_pictures_are_found_in_the_order_of_their_paths_and_nothing_hidden(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/10.png", "a.PNG", "c/d/e.jpeg", ".hidden/x.png", "b/._2.png", "__MACOSX/y.png"):
        save_png(tmp_path / name, colours(1))
    Image.fromarray(colours(2)).save(tmp_path / "c" / "bare", format="PNG")  # a picture without an ending
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "README").write_text("no picture")
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "Thumbs.db").write_bytes(b"\0")
    (tmp_path / "raw.float32.bin").write_bytes(b"")
    (tmp_path / "c" / "circle").symlink_to(tmp_path, target_is_directory=True)
    found = files_of(tmp_path)
    names = [str(path.relative_to(tmp_path)) for path in found.pictures]
    assert names == ["a.PNG", "b/10.png", "b/2.png", "c/bare", "c/d/e.jpeg", "raw.float32.bin"]
    assert [path.name for path in found.others] == ["README", "notes.txt"]
    assert [path.name for path in found.links] == ["circle"]


def test_a_folder_is_read_once_whatever_links_lead_to_it(tmp_path: Path) -> None:
    for name in ("data/a/0.png", "data/b/1.png", "data/.kept/2.png", "store/x/3.png", "beside/4.png"):
        save_png(tmp_path / name, colours(1))
    links = {
        "a/up": "..",
        "a/above": "../..",
        "b/a": "../a",
        "b/out": "../../store",
        "b/again": "../../store/x",
        "hidden": ".kept",
        "self": "self",
    }
    for name, target in links.items():
        (tmp_path / "data" / name).symlink_to(target)
    (tmp_path / "store" / "back").symlink_to("../data")
    (tmp_path / "store" / "round").symlink_to("../store")
    found = calibration_folder(tmp_path / "data")
    names = [str(path.relative_to(tmp_path / "data")) for path in found.pictures]
    assert sorted(path.rpartition("/")[2] for path in names) == ["0.png", "1.png", "2.png", "3.png"]
    assert {"a/0.png", "b/1.png", "hidden/2.png"} < set(names)
    left = {str(path.relative_to(tmp_path / "data")) for path in found.links}
    assert {"a/up", "a/above", "b/a"} < left


def test_a_selection_is_even() -> None:
    assert evenly(3, 5) == [0, 1, 2] and evenly(5, 5) == [0, 1, 2, 3, 4]
    assert evenly(10, 2) == [2, 7] and evenly(100, 4) == [12, 37, 62, 87] and evenly(0, 4) == []
    assert len(set(evenly(33, 32))) == 32


def test_folders_without_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "notes").mkdir()
    with pytest.raises(ValueError, match="nowhere is not there; give a folder with pictures"):
        calibration_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="file is a file; give a folder"):
        calibration_folder(tmp_path / "file")
    with pytest.raises(ValueError, match="no picture, nothing; give a folder"):
        calibration_folder(tmp_path / "notes")
    (tmp_path / "notes" / "IMG_1.HEIC").touch()
    with pytest.raises(ValueError, match="only IMG_1.HEIC; give a folder"):
        calibration_folder(tmp_path / "notes")


def test_all_damaged_pictures_are_named(tmp_path: Path) -> None:
    for number in range(3):
        save_png(tmp_path / f"{number}.png", colours(number))
    (tmp_path / "0.png").write_bytes((tmp_path / "0.png").read_bytes()[:60])
    (tmp_path / "2.png").write_bytes(b"")
    files = files_of(tmp_path).pictures
    with pytest.raises(ValueError, match="2 of the 3 calibration pictures cannot be used") as found:
        load_pictures(files, SMALL)
    assert "0.png is not a readable picture" in str(found.value) and "2.png is not a readable" in str(found.value)
    assert [picture.image.shape for picture in load_pictures(files[1:2], SMALL)] == [(3, 16, 32)]
