"""Datasets: what tiny folders in the published formats hold comes out, and whatever is wrong with them is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from tessera.golden.metrics import IGNORE
from tessera.sw.data.cityscapes import CLASS_SET, TRAIN_IDS
from tessera.sw.data.dataset import voc_colours
from tessera.sw.data.datasets import (
    DATASETS,
    DatasetProblems,
    DatasetRequest,
    Item,
    ProceduralScenes,
    open_dataset,
    resized,
)
from tessera.sw.data.nyu40 import NAMES, class_numbers
from tessera.sw.data.pascal_context import label_table
from tests.helpers.dataset_folders import (
    SIZE,
    pattern,
    save_png,
    write_cityscapes,
    write_nyud_folder,
    write_nyud_labeled,
    write_pascal_mt,
    write_pascal_voc,
)

PARTIAL = DatasetRequest(partial=True)


def refused(name: str, root: Path, request: DatasetRequest = PARTIAL) -> str:
    with pytest.raises(DatasetProblems) as error:
        open_dataset(name, root, request)
    message = str(error.value)
    assert "Expected layout:" in message and "Where to get it: " in message
    return message


# Cityscapes -----------------------------------------------------------------------------------------------------------


def test_cityscapes_has_pictures_classes_and_depth(tmp_path: Path) -> None:
    stems = write_cityscapes(tmp_path)
    data = open_dataset("cityscapes", tmp_path, PARTIAL)
    assert [data[number].name for number in range(len(data))] == stems and data.tasks == ("segmentation", "depth")
    item = data[1]
    assert np.array_equal(item.image, pattern(1, 255, (*SIZE, 3))) and item.image.dtype == np.uint8
    labels = (7 + np.arange(48).reshape(SIZE)) % 34
    assert item.segmentation is not None and item.depth is not None and data.classes is not None
    for label, name in ((7, "road"), (11, "building"), (24, "person"), (33, "bicycle")):
        assert {data.classes.names[c] for c in item.segmentation[labels == label]} == {name}
    for label in (0, 6, 9, 10, 14, 18, 29, 30):
        assert (item.segmentation[labels == label] == IGNORE).all()
    raw = np.asarray(Image.open(next(tmp_path.glob("disparity/val/aachen/*000001*"))), np.float64)
    assert np.isnan(item.depth[0, :2]).all() and item.depth[0, 2] == 0.25 * 200  # one pixel of disparity
    assert item.depth[3, 4] == pytest.approx(0.25 * 200 / ((raw[3, 4] - 1) / 256))


def test_cityscapes_has_nineteen_classes() -> None:
    assert len(CLASS_SET) == 19 == (TRAIN_IDS != IGNORE).sum() and len(TRAIN_IDS) == 34
    assert sorted(TRAIN_IDS[TRAIN_IDS != IGNORE]) == list(range(19))


def test_far_disparities_are_no_depth(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    path = next(tmp_path.glob("disparity/val/ulm/*"))
    save_png(path, np.full(SIZE, 1 + 128, np.uint16))  # half a pixel: 100 m
    depth = open_dataset("cityscapes", tmp_path, PARTIAL)[2].depth
    assert depth is not None and np.isposinf(depth).all()


def test_a_task_needs_only_its_own_files(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    for folder in ("disparity", "camera"):
        for path in tmp_path.glob(f"{folder}/*/*/*"):
            path.unlink()
    item = open_dataset("cityscapes", tmp_path, DatasetRequest(partial=True, tasks=("segmentation",)))[0]
    assert item.depth is None and item.segmentation is not None
    message = refused("cityscapes", tmp_path)
    assert "disparity/val: missing for 3 of 3 pictures: aachen_000000_000019_disparity.png, " in message


def test_a_half_downloaded_folder_is_refused_with_all_that_is_missing(tmp_path: Path) -> None:
    stems = write_cityscapes(tmp_path)
    (tmp_path / f"gtFine/val/aachen/{stems[1]}_gtFine_labelIds.png").unlink()
    (tmp_path / f"camera/val/ulm/{stems[2]}_camera.json").unlink()
    message = refused("cityscapes", tmp_path, DatasetRequest())
    assert "leftImg8bit/val: 3 of 500 pictures" in message
    assert f"gtFine/val: missing for 1 of 3 pictures: {stems[1]}_gtFine_labelIds.png" in message
    assert f"camera/val: missing for 1 of 3 pictures: {stems[2]}_camera.json" in message
    assert "1 pictures are complete: --partial uses those" in message
    data = open_dataset("cityscapes", tmp_path, PARTIAL)
    assert [data[n].name for n in range(len(data))] == stems[:1] and len(data.notices) == 3


def test_an_empty_or_missing_folder_says_where_to_get_it(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "none"):
        for name in DATASETS:
            message = refused(name, root)
            assert "https" not in message and "{split}" in message
    assert "www.cityscapes-dataset.net" in refused("cityscapes", tmp_path)


def test_a_label_out_of_range_is_named_with_its_file(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    path = next(tmp_path.glob("gtFine/val/ulm/*"))
    labels = np.zeros(SIZE, np.uint8)
    labels[2, 5] = 77
    save_png(path, labels)
    with pytest.raises(ValueError, match=r"label out of range: .*ulm_000002.* has 1 pixels of label 77, .* row 2, col"):
        open_dataset("cityscapes", tmp_path, PARTIAL)[2]


@pytest.mark.parametrize(
    ("part", "content", "words"),
    [
        ("leftImg8bit", b"\x89PNG broken", "is not a readable picture"),
        ("gtFine", b"", "is not a readable picture"),
        ("camera", b"{", "has no readable extrinsic.baseline and intrinsic.fx"),
        ("camera", b'{"extrinsic": {"baseline": 0}, "intrinsic": {"fx": 1}}', "baseline times fx is 0.0"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, part: str, content: bytes, words: str) -> None:
    write_cityscapes(tmp_path)
    path = next(tmp_path.glob(f"{part}/val/ulm/*"))
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as error:
        open_dataset("cityscapes", tmp_path, PARTIAL)[2]
    assert path.name in str(error.value)


def test_coloured_or_misfitting_labels_are_refused(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    path = next(tmp_path.glob("gtFine/val/ulm/*"))
    save_png(path, np.zeros((*SIZE, 3), np.uint8))
    data = open_dataset("cityscapes", tmp_path, PARTIAL)
    with pytest.raises(ValueError, match="has 3 channels, expected one with a label for each pixel"):
        data[2]
    save_png(path, np.zeros((3, 4), np.uint8))
    with pytest.raises(ValueError, match=r"is 3x4 pixels .* its picture is 6x8"):
        data[2]


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I;16"])
def test_pictures_of_any_mode_and_size(tmp_path: Path, mode: str) -> None:
    write_cityscapes(tmp_path)
    path = next(tmp_path.glob("leftImg8bit/val/ulm/*"))
    picture = Image.fromarray(pattern(3, 255, (9, 5, 3)).astype(np.uint8))
    if mode == "I;16":
        picture = Image.fromarray(pattern(3, 65535, (9, 5)).astype(np.uint16))
    else:
        picture = picture.convert("L").convert(mode) if mode == "LA" else picture.convert(mode)
    picture.save(path, "TIFF" if mode == "CMYK" else "PNG")
    image = open_dataset("cityscapes", tmp_path, DatasetRequest(partial=True, tasks=("segmentation",)))
    with pytest.raises(ValueError, match="is 6x8 pixels .* its picture is 9x5"):
        image[2]
    for kind in ("gtFine",):
        save_png(next(tmp_path.glob(f"{kind}/val/ulm/*")), np.zeros((9, 5), np.uint8))
    item = resized(image[2], 16, 32)
    assert item.image.shape == (16, 32, 3) and item.image.dtype == np.uint8 and np.ptp(item.image) > 50


# NYU Depth v2 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("matlab", [False, True])
def test_nyud_folder(tmp_path: Path, matlab: bool) -> None:
    names = write_nyud_folder(tmp_path, matlab=matlab)
    data = open_dataset("nyud", tmp_path, PARTIAL)
    assert len(data) == 3 and data.classes is not None and len(data.classes) == 40
    item, raw = data[2], (2 + np.arange(48).reshape(SIZE)) % 41
    assert item.name == names[2] and item.segmentation is not None and item.depth is not None
    assert np.array_equal(item.segmentation, np.where(raw == 0, IGNORE, raw - 1))
    depth = np.linspace(0, 12, 48, dtype=np.float32).reshape(SIZE)
    assert np.array_equal(np.isnan(item.depth), depth == 0) and np.array_equal(np.isinf(item.depth), depth > 10)
    assert np.array_equal(item.depth[depth < 10].ravel()[1:], depth[depth < 10].ravel()[1:])
    with_background = open_dataset("nyud", tmp_path, DatasetRequest(partial=True, classes=41))[2].segmentation
    assert with_background is not None and np.array_equal(with_background, raw)


def test_nyud_labelled_file(tmp_path: Path) -> None:
    images, labels = write_nyud_labeled(tmp_path)
    data = open_dataset("nyud", tmp_path, PARTIAL)
    assert len(data) == 2 and data.classes is not None
    item = data[1]
    assert item.name == "picture 4" and np.array_equal(item.image, images[3])
    assert item.segmentation is not None and item.depth is not None and not np.isnan(item.depth).any()
    numbers = class_numbers()[labels[3]]
    assert np.array_equal(item.segmentation, np.where(labels[3] == 0, IGNORE, numbers - 1))
    holes = open_dataset("nyud", tmp_path, DatasetRequest(partial=True, raw_depth=True))[1].depth
    assert holes is not None and np.array_equal(np.isnan(holes), item.depth <= 2)
    training = open_dataset("nyud", tmp_path, DatasetRequest(partial=True, split="train"))
    assert [training[n].name for n in range(2)] == ["picture 1", "picture 3"]


def test_nyu_labels_become_forty_classes() -> None:
    numbers = class_numbers()
    assert len(numbers) == 895 and len(NAMES) == 40 and numbers[0] == 0 and set(numbers[1:]) == set(range(1, 41))
    for label, name in ((21, "wall"), (11, "floor"), (4, "ceiling"), (5, "chair"), (157, "bed"), (331, "person")):
        assert NAMES[numbers[label] - 1] == name
    counts = np.bincount(numbers[1:])
    assert (counts[1:38] == 1).all() and counts[38:].tolist() == [68, 82, 707]


def test_nyud_that_is_not_whole(tmp_path: Path) -> None:
    names = write_nyud_folder(tmp_path / "folder")
    (tmp_path / "folder" / f"depth/{names[0]}.npy").unlink()
    message = refused("nyud", tmp_path / "folder", DatasetRequest())
    assert "depth/*.npy or *.mat: 1 of 3 are missing: 0001" in message
    assert "gt_sets/val.txt lists 3 of 654 pictures" in message
    assert len(open_dataset("nyud", tmp_path / "folder", PARTIAL)) == 2
    with pytest.raises(ValueError, match="raw depth is in nyu_depth_v2_labeled.mat only"):
        open_dataset("nyud", tmp_path / "folder", DatasetRequest(raw_depth=True))
    write_nyud_labeled(tmp_path / "file")
    assert "splits.mat names 2 of 654 pictures" in refused("nyud", tmp_path / "file", DatasetRequest())
    mat = tmp_path / "file" / "nyu_depth_v2_labeled.mat"
    mat.write_bytes(mat.read_bytes()[:1000])
    (tmp_path / "file/splits.mat").unlink()
    message = refused("nyud", tmp_path / "file")
    assert "is not a whole HDF5 file" in message and "missing: splits.mat" in message


def test_nyud_splits_beyond_the_pictures(tmp_path: Path) -> None:
    write_nyud_labeled(tmp_path)
    savemat(tmp_path / "splits.mat", {"testNdxs": np.array([[2], [5]])})
    assert "splits.mat names pictures 2 to 5, nyu_depth_v2_labeled.mat has 4" in refused("nyud", tmp_path)
    assert "splits.mat has no readable 'trainNdxs'" in refused("nyud", tmp_path, DatasetRequest(split="train"))


def test_nyud_label_out_of_range(tmp_path: Path) -> None:
    labels = np.zeros((4, *SIZE), np.int64)
    labels[1, 5, 7] = 895
    write_nyud_labeled(tmp_path, labels)
    with pytest.raises(ValueError, match=r"picture 2 has 1 pixels of label 895, .* row 5, column 7; expected 0 to 894"):
        open_dataset("nyud", tmp_path, PARTIAL)[0]


# PASCAL-Context -------------------------------------------------------------------------------------------------------


def test_pascal_mt_in_its_three_sets_of_classes(tmp_path: Path) -> None:
    names = write_pascal_mt(tmp_path)
    raw = 1 + (1 + np.arange(48).reshape(SIZE) * 10) % 459
    of = {
        count: open_dataset("pascal-context", tmp_path, DatasetRequest(partial=True, classes=count))
        for count in (59, 60, 21)
    }
    items = {count: data[1] for count, data in of.items()}
    assert all(item.name == names[1] and item.depth is None for item in items.values())
    for count, data in of.items():
        assert data.classes is not None and len(data.classes) == count == len(data.classes.colours)
    first, second = items[59].segmentation, items[60].segmentation
    assert (
        first is not None and second is not None and items[21].segmentation is not None and of[59].classes is not None
    )
    for label, name in ((232, "light"), (72, "chair"), (162, "food"), (422, None)):
        got = {None if c == IGNORE else of[59].classes.names[c] for c in first[raw == label]}
        assert got == {name}, label
    assert np.array_equal(second, np.where(first == IGNORE, 0, first + 1))
    expected = (1 + np.arange(48).reshape(SIZE)) % 21
    expected[-1, -1] = 255
    assert np.array_equal(items[21].segmentation, expected)


def test_pascal_context_as_converted_pictures(tmp_path: Path) -> None:
    write_pascal_voc(tmp_path)
    raw = np.arange(48).reshape(SIZE) + 12
    item = open_dataset("pascal-context", tmp_path, PARTIAL)[0]
    assert item.segmentation is not None and np.array_equal(item.segmentation, raw - 1)
    item = open_dataset("pascal-context", tmp_path, DatasetRequest(partial=True, classes=60))[0]
    assert item.segmentation is not None and np.array_equal(item.segmentation, raw)


def test_pascal_labels_have_classes_in_order_of_their_numbers() -> None:
    table = label_table(59, raw=True)
    assert len(table) == 460 and np.array_equal(table[table != IGNORE], np.arange(59))
    assert (label_table(60, raw=True)[table == IGNORE] == 0).all()


def test_pascal_that_is_not_whole(tmp_path: Path) -> None:
    names = write_pascal_mt(tmp_path)
    (tmp_path / f"pascal-context/trainval/{names[0]}.mat").unlink()
    (tmp_path / f"JPEGImages/{names[1]}.jpg").unlink()
    message = refused("pascal-context", tmp_path, DatasetRequest())
    assert f"labels of 59 classes: 1 of 2 are missing: {names[0]}" in message
    assert f"JPEGImages/*.jpg: 1 of 2 are missing: {names[1]}" in message
    assert "lists 2 of 5,105 pictures" in message
    write_pascal_mt(tmp_path)
    (tmp_path / f"pascal-context/trainval/{names[0]}.mat").write_bytes(b"MATLAB 5.0 but broken")
    with pytest.raises(ValueError, match=rf"{names[0]}.mat is not a readable .mat file"):
        open_dataset("pascal-context", tmp_path, PARTIAL)[0]
    savemat(tmp_path / f"pascal-context/trainval/{names[0]}.mat", {"Other": np.zeros(SIZE)})
    with pytest.raises(ValueError, match="has no variable 'LabelMap'"):
        open_dataset("pascal-context", tmp_path, PARTIAL)[0]


# All ------------------------------------------------------------------------------------------------------------------


def test_what_no_dataset_has_is_refused(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    for request, words in (
        (DatasetRequest(split="test"), "cityscapes has no split 'test'; choose one of: train, val"),
        (DatasetRequest(tasks=("normals",)), "cityscapes has no normals; it has: segmentation, depth"),
        (DatasetRequest(classes=8), "published with 19 classes, not 8"),
    ):
        with pytest.raises(ValueError, match=words):
            open_dataset("cityscapes", tmp_path, request)
    with pytest.raises(ValueError, match="pascal-context has no depth; it has: segmentation"):
        open_dataset("pascal-context", tmp_path, DatasetRequest(tasks=("depth",)))
    with pytest.raises(ValueError, match="unknown dataset 'kitti'; choose one of: procedural, cityscapes"):
        open_dataset("kitti", tmp_path)
    with pytest.raises(ValueError, match="say which with --root"):
        open_dataset("nyud", None)


def test_resizing_keeps_labels_and_metres() -> None:
    item = Item(
        name="",
        image=np.full((4, 4, 3), 90, np.uint8),
        segmentation=np.array([[0, 1], [IGNORE, 3]], np.uint8).repeat(2, 0).repeat(2, 1),
        depth=np.array([[1, 2], [np.nan, 4]], np.float32).repeat(2, 0).repeat(2, 1),
    )
    for height, width in ((2, 2), (8, 4), (6, 10), (1, 1)):
        small = resized(item, height, width)
        assert small.image.shape == (height, width, 3) and (small.image == 90).all()
        assert small.segmentation is not None and small.segmentation.shape == (height, width)
        assert small.depth is not None and small.depth.shape == (height, width)
    two = resized(item, 2, 2)
    assert np.array_equal(two.segmentation, [[0, 1], [IGNORE, 3]])
    assert np.array_equal(two.depth, [[1, 2], [np.nan, 4]], equal_nan=True)
    ramp = Item(name="", image=np.zeros((9, 9, 3), np.uint8), depth=np.arange(81, dtype=np.float32).reshape(9, 9))
    assert np.array_equal(resized(ramp, 3, 3).depth, [[10, 13, 16], [37, 40, 43], [64, 67, 70]])  # centres of pixels


def test_procedural_scenes_are_a_dataset() -> None:
    data = ProceduralScenes(2, 32, 64)
    items = [data[number] for number in range(len(data))]
    assert len(items) == 2 and items[0].image.shape == (32, 64, 3) and data.classes is not None
    assert not np.array_equal(items[0].image, items[1].image)
    with pytest.raises(IndexError):
        data[2]
    with pytest.raises(ValueError, match="scenes is 0"):
        ProceduralScenes(0, 32, 64)


def test_voc_colours() -> None:
    assert voc_colours(21)[[0, 1, 2, 3, 8, 20]].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [64, 0, 0], [0, 64, 128],
    ]  # fmt: skip
