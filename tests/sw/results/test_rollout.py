"""Attention rollout: read from the machine's writes, multiplied as published, summed up in the right direction."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from tessera.golden import checkpoint
from tessera.golden.config import NANO, TaskConfig
from tessera.golden.integer.model import IntegerModel
from tessera.program.layouts.routed import QueuePositions
from tessera.program.program import Program
from tessera.program.traces import Traces
from tessera.sw.compiler.compile import compile_model
from tessera.sw.data.pictures import scene_picture
from tessera.sw.quantiser.quantise import calibration_images, quantise
from tessera.sw.results import rollout
from tessera.sw.run.target import machine
from tessera.sw.verifier.readback import exponentials, written
from tests.helpers import emulator
from tests.helpers.networks import outline_of
from tests.helpers.small_checkpoints import SMALL, save_small

SIX = replace(NANO, image_height=16, image_width=24)  # 2 x 3 patches, a class token
TOKENS = SIX.tokens
GRID = outline_of(SIX)
CLASSES = outline_of(replace(SIX, tasks=(TaskConfig(name="classes", kind="classification", channels=5, cells=1),)))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Program, dict, Traces]:
    """Program, golden tensors and the emulator's writes of task 1; three tiles of queries a head."""
    loaded, config = (
        checkpoint.load(save_small(tmp_path_factory.mktemp("models") / "small.safetensors")),
        machine("tiny"),
    )
    quantised = quantise(loaded.model, calibration_images(loaded.network, range(2)), config.numerics)
    program, image = compile_model(quantised, config), scene_picture(SMALL).image
    golden = IntegerModel(quantised, config.numerics).run(image, 1)
    return program, golden, emulator.run(program, image, 1).traces


def test_attention_is_what_the_softmax_wrote(ran: tuple[Program, dict, Traces]) -> None:
    program, golden, traces = ran
    layers = rollout.machine_attention(program, traces, 1)
    assert layers is not None and [layer.shape for layer in layers] == [(3, 9, 9)] * 2
    for number, (name, values) in enumerate(exponentials(program, traces, 1)):
        expected = golden[f"{name}.exponentials"]
        assert np.array_equal(values, expected) and expected.std() > 0
        assert np.array_equal(layers[number], expected / expected.sum(axis=2, keepdims=True))


def test_attention_follows_the_machines_writes_and_no_model(ran: tuple[Program, dict, Traces]) -> None:
    program, golden, traces = ran
    records = traces.records["exponential"].copy()
    changed = Traces({**traces.records, "exponential": records}, traces.output)
    command = next(command for command in program.commands if command.name == "layer01.attention")
    # The last key of the last query of the last head; groups beyond the first hold no query of the last tile.
    last = np.flatnonzero((records["command"] == command.index) & (records["group"] == 0))[-1]
    records["data"][last, 0] ^= 1
    after = dict(exponentials(program, changed, 1))
    differences = after["layer01.attention"] - golden["layer01.attention.exponentials"]
    assert np.array_equal(after["layer00.attention"], golden["layer00.attention.exponentials"])
    assert np.count_nonzero(differences) == abs(differences[2, 8, 8]) == 1
    records["command"][last] += 1
    assert np.isnan(dict(exponentials(program, changed, 1))["layer01.attention"]).sum() == 1
    assert rollout.machine_attention(program, changed, 1) is None
    assert rollout.machine_attention(program, Traces({}, traces.output), 1) is None


def test_a_tensor_without_a_fixed_place_cannot_be_read(ran: tuple[Program, dict, Traces]) -> None:
    program, _, traces = ran
    tensor = next(t for command in program.commands for t in command.tensors if isinstance(t.layout, QueuePositions))
    with pytest.raises(ValueError, match=f"tensor '{tensor.name}' has layout 'positions'; choose one of: rows, last"):
        written(tensor, traces.records["scratchpad"], program.config)


def test_rollout_is_the_sum_over_all_paths() -> None:
    """Every way back through the layers: at each the token's own half, or another token's by its attention."""
    rng = np.random.default_rng(5)
    layers = [rng.dirichlet(np.ones(3) / 2, size=(2, 3)) for _ in range(3)]
    result = rollout.rollout(layers)
    for out, into in product(range(3), repeat=2):
        total = 0.0
        for second, first in product(range(3), repeat=2):
            steps = zip(layers[::-1], (out, second, first), (second, first, into), strict=True)
            total += np.prod([0.5 * layer[:, q, k].mean() + 0.5 * (q == k) for layer, q, k in steps])
        assert result[out, into] == pytest.approx(total)
    # Products and sums of float64, which round; the order of the layers changes far more than that.
    assert np.allclose(result.sum(axis=1), 1) and not np.allclose(result, rollout.rollout(layers[::-1]))


def test_summary_of_uniform_attention() -> None:
    found = rollout.rollout_summary(np.full((TOKENS, TOKENS), 1 / TOKENS), GRID, 0)
    places = [(row, column) for row in range(2) for column in range(3)]
    apart = np.mean([np.hypot(a[0] - b[0], a[1] - b[1]) for a in places for b in places])
    assert found == pytest.approx({"patches": 6, "class_token": 1 / 7, "own": 1 / 7, "distance": apart})


def test_summary_of_no_attention_at_all() -> None:
    found = rollout.rollout_summary(np.eye(TOKENS), GRID, 0)
    assert found == pytest.approx({"patches": 6, "class_token": 0, "own": 1, "distance": 0})


def test_direction_and_the_tokens_that_a_head_reads() -> None:
    """Row: token out, column: token in. A head of classes reads the class token alone."""
    result = np.zeros((7, 7))
    result[:, 5] = 1.0  # everything is made of patch 4, in row 1 and column 1
    result[0] = [0.5, 0.5, 0, 0, 0, 0, 0]
    assert np.array_equal(rollout.of_head(result, GRID, 0), [[0, 0, 0], [0, 1, 0]])
    assert np.array_equal(rollout.of_patch(result, GRID, 0, 2), [[0, 0, 0], [0, 1, 0]])
    assert np.array_equal(rollout.of_head(result, CLASSES, 0), [[0.5, 0, 0], [0, 0, 0]])
    assert rollout.rollout_summary(result, CLASSES, 0) == {
        "patches": 1.0,
        "class_token": 0.5,
        "own": 0.5,
        "distance": None,
    }
