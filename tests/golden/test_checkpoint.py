"""Checkpoints: what is saved comes back, and every unusable file is refused with a reason."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tessera.golden import checkpoint
from tessera.golden.checkpoint import Checkpoint, CheckpointError
from tessera.golden.config import NANO
from tessera.golden.model import seeded

SMALL = replace(NANO, name="small", dim=24, layers=2, mlp_hidden=16, expert_layers=(1,), experts=3, expert_hidden=8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    checkpoint.save(path, Checkpoint.of(seeded(SMALL, 1), seed=1, data_version=9, metrics={"mean_iou": 0.5}))
    return path


def metadata(config: dict[str, object] | None = None) -> dict[str, str]:
    return {
        "format": checkpoint.FORMAT,
        "config": json.dumps(config or SMALL.to_dict()),
        "seed": "1",
        "data_version": "1",
        "metrics": "{}",
        "tools": "{}",
    }


def test_round_trip(path: Path) -> None:
    loaded = checkpoint.load(path)
    assert loaded.geometry == SMALL and loaded.network.name == "small" and (loaded.seed, loaded.data_version) == (1, 9)
    assert loaded.metrics == {"mean_iou": 0.5} and loaded.tools == checkpoint.training_tools()
    for name, value in seeded(SMALL, 1).state_dict().items():
        assert torch.equal(value, loaded.model.weights[name]), name
    assert [entry.name for entry in path.parent.iterdir()] == [path.name], "a temporary file was left behind"


def test_the_origin_is_kept_and_older_files_are_of_trained_models(path: Path, tmp_path: Path) -> None:
    assert (checkpoint.load(path).weights, checkpoint.load(path).routing) == ("trained", "model")
    made = Checkpoint.of(seeded(SMALL, 1), seed=1, data_version=9, weights="seeded", routing="skewed")
    checkpoint.save(tmp_path / "made.safetensors", made)
    loaded = checkpoint.load(tmp_path / "made.safetensors")
    assert (loaded.weights, loaded.routing) == ("seeded", "skewed")
    checkpoint.save(tmp_path / "foreign.safetensors", Checkpoint(model=made.model, weights="imported", source="else"))
    loaded = checkpoint.load(tmp_path / "foreign.safetensors")
    assert (loaded.weights, loaded.source, loaded.routing) == ("imported", "else", "model")
    assert loaded.geometry is None and loaded.network == made.network
    older = tmp_path / "older.safetensors"
    save_file(seeded(SMALL, 1).state_dict(), older, metadata=metadata() | {"format": "tessera-checkpoint-1"})
    assert not {"weights", "routing", "network"} & set(metadata())
    loaded = checkpoint.load(older)
    assert (loaded.weights, loaded.source, loaded.routing) == ("trained", "", "model")
    assert loaded.geometry == SMALL and loaded.network == made.network


def test_failed_save_keeps_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(path, Checkpoint.of(seeded(SMALL, 2), seed=2, data_version=9))
    assert path.read_bytes() == before and [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at .*none.safetensors"):
        checkpoint.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_truncated_file(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        checkpoint.load(path)


def test_other_kinds_of_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_text("not a checkpoint at all, only a text of some length")
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        checkpoint.load(path)


def test_missing_metadata(path: Path) -> None:
    save_file(load_file(path), path)
    with pytest.raises(CheckpointError, match="no metadata format, config, seed, data_version, metrics, tools"):
        checkpoint.load(path)


def test_bad_metadata(path: Path) -> None:
    tensors = load_file(path)
    for key, value, message in (
        ("format", "other-2", "format 'other-2'"),
        ("config", "{", "unreadable metadata"),
        ("config", "{}", "unreadable metadata"),
        ("config", json.dumps(SMALL.to_dict() | {"heads": 5}), "unreadable metadata .*dim 24 is not a multiple"),
        ("config", "null", "unreadable metadata .*neither a network nor a geometry"),
        ("network", json.dumps({"format": 0}), "unreadable metadata .*network has format 0, this version reads 1"),
        ("seed", "one", "unreadable metadata"),
    ):
        save_file(tensors, path, metadata=metadata() | {key: value})
        with pytest.raises(CheckpointError, match=message):
            checkpoint.load(path)


def test_every_wrong_tensor_is_listed_at_once(path: Path) -> None:
    tensors = load_file(path)
    del tensors["cls_token"], tensors["blocks.0.norm1.bias"]
    tensors["surplus"] = torch.zeros(3)
    tensors["heads.depth.bias"] = torch.zeros(5)
    tensors["blocks.1.mlp.gate.1.w_gate"] = torch.zeros(3, 24)
    tensors["norm.bias"][3] = float("nan")
    save_file(tensors, path, metadata=metadata())
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path)
    message = str(caught.value)
    for part in (
        "(6 tensors)",
        "missing: cls_token (1, 1, 24)",
        "missing: blocks.0.norm1.bias (24,)",
        "unexpected: surplus (3,)",
        "wrong shape: heads.depth.bias is (5,), expected (16,)",
        "not finite: norm.bias",
        "wrong shape: blocks.1.mlp.gate.1.w_gate is (3, 24), expected (24, 3)",
    ):
        assert part in message
