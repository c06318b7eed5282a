"""Data sets described by a TOML file: patterns, values of class maps and of depth, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tessera.sw.data.dataset import DatasetProblems
from tessera.sw.data.datasets import DatasetRequest, find_source, open_dataset
from tessera.sw.data.described_file import read_description
from tessera.sw.data.file_pattern import FilePattern
from tessera.sw.data.schema_problems import RULES
from tests.helpers.dataset_folders import TOML, pattern, save_png, write_described


def opened(root: Path, **request: object):
    return open_dataset(str(root / "dataset.toml"), None, DatasetRequest(**request))


def described(root: Path, text: str) -> Path:
    (root / "dataset.toml").write_text(text)
    return root / "dataset.toml"


def test_values_become_classes_and_metres(tmp_path: Path) -> None:
    write_described(tmp_path)
    data = opened(tmp_path)
    assert (len(data), data.name, data.tasks, data.notices) == (3, "yard", ("segmentation", "depth"), ())
    assert data.classes is not None and data.classes.names == ("ground", "wall", "tree")
    item = data[1]
    assert item.name == "images/val/b/1.png" and item.segmentation is not None and item.depth is not None
    # Values 0, 7, 8, 20 and 255 in turn: ignored as another, ground, wall, tree, ignored.
    assert item.segmentation[0].tolist() == [255, 0, 1, 2, 255, 255, 0, 1]
    raw = np.asarray(Image.open(tmp_path / "depth/val/b/1_z.png")).astype(float)
    assert np.isnan(item.depth[0, :2]).all() and np.isposinf(item.depth[0, 2])  # none, said to be none, too far
    # Depth is kept as float32, which rounds by up to 6e-8 of a value; the expected one is float64.
    assert np.allclose(item.depth[0, 3:], raw[0, 3:] / 100, rtol=1e-6)
    same = open_dataset(f"folder:{tmp_path}", None, DatasetRequest())
    assert same.name == data.name and same[2].name == data[2].name


def test_floating_point_depth_and_labels_without_a_table(tmp_path: Path) -> None:
    save_png(tmp_path / "a_image.png", pattern(0, 255, (2, 3, 3)).astype(np.uint8))
    save_png(tmp_path / "a_ids.png", np.array([[0, 1, 255], [1, 0, 0]], np.uint8))
    Image.fromarray(np.array([[1.5, 0, 2], [np.nan, 90, 3]], np.float32)).save(tmp_path / "a_depth.tiff")
    text = 'classes = ["no", "yes"]\n[split.val]\npictures = "{name}_image.png"\nlabels = "{name}_ids.png"\n'
    described(tmp_path, text + 'depth = "{name}_depth.tiff"\n')
    (item,) = opened(tmp_path)
    assert item.segmentation.tolist() == [[0, 1, 255], [1, 0, 0]]
    assert np.array_equal(item.depth, np.array([[1.5, np.nan, 2], [np.nan, np.inf, 3]], np.float32), equal_nan=True)
    save_png(tmp_path / "a_ids.png", np.full((2, 3), 2, np.uint8))
    with pytest.raises(ValueError, match="a_ids.png has 6 pixels of label 2.*expected 0 to 1"):
        _ = opened(tmp_path)[0]


@pytest.mark.parametrize("form", ["png", "tiff", "npy"])
def test_depth_in_integers_needs_a_unit(tmp_path: Path, form: str) -> None:
    values = np.array([[2500, 0, 60000], [1, 79, 500]], np.uint16)
    save_png(tmp_path / "a.png", pattern(0, 255, (2, 3, 3)).astype(np.uint8))
    (tmp_path / "z").mkdir()
    if form == "npy":
        np.save(tmp_path / "z" / "a.npy", values)
    else:
        Image.fromarray(values).save(tmp_path / "z" / f"a.{form}")
    text = f'[split.val]\npictures = "*.png"\ndepth = "z/*.{form}"\n'
    described(tmp_path, text)
    for count in (None, 5):
        with pytest.raises(ValueError, match=rf"z/a.{form} has depths in integers .*dataset.toml .* metres = 0.001"):
            opened(tmp_path, count=count, partial=True)
    described(tmp_path, "[depth]\nmetres = 0.001\n" + text)
    depth = opened(tmp_path)[0].depth
    expected = np.array([[2.5, np.nan, 60], [0.001, 0.079, 0.5]], np.float32)
    # Both are float32, but one was multiplied by the unit: a rounding apart.
    assert np.allclose(depth, expected, rtol=1e-6, equal_nan=True)


@pytest.mark.parametrize(
    ("value", "form", "words"),
    [
        (0.5, "npy", "not a whole number: .*a.npy has 1 such pixels, the first is 0.5 in row 1, column 2; expected"),
        (np.nan, "npy", "a.npy has 1 such pixels, the first is nan in row 1, column 2"),
        (1e30, "npy", "the first is 1e\\+30 in row 1, column 2"),
        (0.25, "tiff", "a.tiff has 1 such pixels, the first is 0.25 in row 1, column 2"),
        (-1, "npy", "a.npy has 1 pixels of label -1, the first in row 1, column 2; expected 0 to 1"),
        (2, "tiff", "a.tiff has 1 pixels of label 2, the first in row 1, column 2; expected 0 to 1"),
    ],
)
def test_values_that_are_no_class_are_refused(tmp_path: Path, value: float, form: str, words: str) -> None:
    values = np.array([[0, 1, 255], [1, 1, value]], np.float32)
    save_png(tmp_path / "a.png", pattern(0, 255, (2, 3, 3)).astype(np.uint8))
    (tmp_path / "ids").mkdir()

    def save() -> None:
        file = tmp_path / "ids" / f"a.{form}"
        np.save(file, values) if form == "npy" else Image.fromarray(values).save(file)

    save()
    text = f'[split.val]\npictures = "*.png"\nlabels = "ids/*.{form}"\n'
    described(tmp_path, 'classes = ["no", "yes"]\n' + text)
    with pytest.raises(ValueError, match=words):
        opened(tmp_path, count=5)
    values[1, 2] = 0
    save()
    assert opened(tmp_path, count=5)[0].segmentation.tolist() == [[0, 1, 255], [1, 1, 0]]


def test_patterns_name_counterparts(tmp_path: Path) -> None:
    for name in ("p/x/y/1-left.png", "p/2-left.png", "p/2-right.png", "p/.3-left.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    pictures = FilePattern(root=tmp_path, text="p/**/*-left.png")
    found = pictures.found()
    assert [str(path.relative_to(tmp_path)) for path in found] == ["p/2-left.png", "p/x/y/1-left.png"]
    other = FilePattern(root=tmp_path, text="q/**/*.tif")
    assert [other.path(parts) for parts in found.values()] == [tmp_path / "q/2.tif", tmp_path / "q/x/y/1.tif"]
    words = FilePattern(root=tmp_path, text="p/{number}-{side}.png")
    assert [parts["side"] for parts in words.found().values()] == ["left", "right"]
    twice = FilePattern(root=tmp_path, text="p/{same}/{same}.png")
    assert twice.found() == {} and twice.path({"same": "k"}) == tmp_path / "p/k/k.png"
    with pytest.raises(ValueError, match="does not follow from"):
        other.check_counterpart(words)


def test_what_is_missing_or_damaged_is_named_or_left_out(tmp_path: Path) -> None:
    write_described(tmp_path)
    (tmp_path / "labels/val/a/0.png").unlink()
    (tmp_path / "depth/val/b/1_z.png").write_bytes(b"")
    with pytest.raises(DatasetProblems) as found:
        opened(tmp_path, count=10)
    for words in ("val: no labels/val/*/*.png for 1 of 3 pictures: ", "a/0.png", "1_z.png is not a readable picture"):
        assert words in str(found.value)
    data = opened(tmp_path, count=10, partial=True)
    assert [item.name for item in data] == ["images/val/b/2.png"] and len(data.notices) == 2
    assert len(opened(tmp_path, count=10, tasks=("segmentation",), partial=True)) == 2  # its depth is not looked at
    assert len(opened(tmp_path, count=10, tasks=())) == 3


def test_a_split_without_truth_is_for_calibration_alone(tmp_path: Path) -> None:
    write_described(tmp_path)
    source = find_source(str(tmp_path / "dataset.toml"), None)
    assert source.splits == ("val", "train") and source.tasks == ("segmentation", "depth") and source.classes == (3,)
    assert len(opened(tmp_path, split="train", tasks=())) == 2
    with pytest.raises(ValueError, match="split 'train' of .* has no labels, which segmentation is scored with"):
        opened(tmp_path, split="train")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("[labels]", "[label]"), "unknown key 'label'; did you mean 'labels'?"),
        (
            ('pictures = "images/val', 'picture = "images/val'),
            "unknown key 'picture' in [split.val]; did you mean",
        ),
        (("ignore =", "zzz ="), "unknown key 'zzz' in [labels]; there are: ignore, values, ignore_others"),
        (("metres = 0.01", "metres = 0"), "depth.metres is 0, expected a number above 0"),
        (("metres = 0.01", "metres = -1.5"), "depth.metres is -1.5, expected a number above 0"),
        (("metres = 0.01", "metres = nan"), "depth.metres is nan, expected a finite number above 0"),
        (("metres = 0.01", "metres = inf"), "depth.metres is inf, expected at most 1000000"),
        (("metres = 0.01", "metres = 1" + "0" * 400), "expected at most 1000000"),
        (("farthest = 50", "farthest = nan"), "depth.farthest is nan, expected a finite number above 0"),
        (("farthest = 50", "farthest = -inf"), "depth.farthest is -inf, expected a number above 0"),
        (("metres = 0.01", 'metres = "cm"'), "depth.metres is 'cm', expected a number"),
        (("[255]", "255"), "labels.ignore is 255, expected a list in brackets"),
        (("[255]", "[nan]"), "labels.ignore.0 is nan, expected a whole number"),
        (("[255]", "[99999999999]"), "labels.ignore.0 is 99999999999, expected at most 2147483647"),
        (("7 =", "x ="), "labels.values is 'x', expected a whole number of at most six digits as a key"),
        (("ignore_others = true", "ignore_others = 1"), "labels.ignore_others is 1, expected true or false"),
        (('name = "yard"', "name = true"), "name is true, expected text in quotes"),
        (('name = "yard"', 'name = ""'), "name is '', expected a text that is not empty"),
        (('["ground", "wall", "tree"]', '["ground"]'), "classes is ['ground'], expected at least 2 entries"),
        (('["ground", "wall", "tree"]', '["a", "a"]'), "classes is ['a', 'a'], expected each entry once"),
        (('pictures = "images/train/*.png"', ""), "'pictures' is missing in [split.train]"),
        ((TOML, ""), "'split' is missing"),
        ((TOML, "split = 3"), "split is 3, expected a table"),
        ((TOML, "[split]"), "split is {}, expected at least 1 entry"),
        (('7 = "ground"', '7 = "grund"'), "labels.values.7 is 'grund', which is none of the classes"),
        (('classes = ["ground", "wall", "tree"]', ""), "splits have labels, but 'classes' is missing"),
        (
            ("labels/val/*/*.png", "labels/val/*.png"),
            "split.val.labels: the pattern 'labels/val/*.png' does not",
        ),
        (('depth = "depth/val/*/*_z.png"', ""), "'depth' has no effect, because no split has depth"),
        (("[depth]", "[depth"), "is not TOML"),
    ],
)
def test_mistakes_in_the_file_are_told(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    assert change[0] in TOML
    with pytest.raises(ValueError) as found:
        read_description(described(tmp_path, TOML.replace(*change)))
    assert words in str(found.value) and "dataset.toml" in str(found.value)


def test_every_rule_of_the_schema_has_words() -> None:
    from tessera.common.paths import PROJECT_ROOT

    told = r"^(?:type|properties|items|description|title|propertyNames|additionalProperties|required|[$].*)$"

    def rules(node: dict) -> set[str]:
        own = {key for key in node if not re.match(told, key)}
        inner = [*node.get("properties", {}).values(), *(node.get(key) for key in ("items", "propertyNames"))]
        parts = [part for part in (*inner, node.get("additionalProperties")) if isinstance(part, dict)]
        return own.union(*(rules(part) for part in parts))

    schema = json.loads((PROJECT_ROOT / "sw" / "data" / "described.json").read_text())
    assert rules(schema) <= set(RULES)


def test_a_mark_at_the_beginning_is_passed_over_and_other_encodings_are_told(tmp_path: Path) -> None:
    path = tmp_path / "dataset.toml"
    path.write_bytes(b"\xef\xbb\xbf" + TOML.encode())
    assert read_description(path).name == "yard"
    for wrong in ('name = "\xe4"'.encode("latin-1"), TOML.encode("utf-16")):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match=r"dataset.toml is not TOML: byte \d+ is not UTF-8; save it as UTF-8"):
            read_description(path)


def test_no_file_and_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no description of a data set at .*docs/formats.md"):
        find_source(str(tmp_path / "other.toml"), None)
    described(tmp_path, '[split.val]\npictures = "images/*.png"\n')
    with pytest.raises(DatasetProblems, match="val: no picture is called images/\\*.png"):
        opened(tmp_path)


def test_every_key_is_in_the_documentation() -> None:
    from tessera.common.paths import PROJECT_ROOT

    def keys(node: dict) -> list[str]:
        found = list(node.get("properties", {}))
        parts = [*node.get("properties", {}).values(), node.get("additionalProperties")]
        return found + [key for part in parts if isinstance(part, dict) for key in keys(part)]

    page = (PROJECT_ROOT / "docs" / "formats.md").read_text()
    schema = json.loads((PROJECT_ROOT / "sw" / "data" / "described.json").read_text())
    assert [key for key in keys(schema) if f"`{key}" not in page and f".{key}`" not in page] == []
