"""Integers and files are the same on every processor and in every process."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tessera.common.paths import PROJECT_ROOT
from tessera.golden import checkpoint
from tessera.golden.integer import storage
from tessera.golden.model import seeded
from tessera.golden.training.state import TrainingState
from tessera.program.program import Program
from tessera.sw.compiler.compile import compile_model
from tessera.sw.quantiser.quantise import calibration_images, quantise
from tessera.sw.run.target import machine
from tests.helpers.small_checkpoints import SMALL

NANO_ON_EDGE = "82b936d556e63fbd5c04b3e0a3d38ee8985071d7988ebe8af76723258b422949"
"""Digest of the program of ``nano``. It changes with the compiler, the formats and the weights, never by itself."""

PROCESSORS = [
    {"ATEN_CPU_CAPABILITY": "default", "OPENBLAS_CORETYPE": "Nehalem"},
    {"ATEN_CPU_CAPABILITY": "avx2"},
]
"""Environments that make the libraries compute with other instructions."""


def program_of_nano() -> Program:
    """Quantise and compile ``nano``, without any cache."""
    model = checkpoint.load(PROJECT_ROOT / "models" / "nano.safetensors").model
    config = machine("edge")
    return compile_model(quantise(model, calibration_images(model.network), config.numerics), config)


def write_files(folder: Path) -> dict[str, str]:
    """Write a file of each kind three times over; digests of the files by name."""
    model = seeded(SMALL, 1)
    config = machine("tiny")
    images = np.random.default_rng(2).integers(0, 256, (2, 3, 16, 32), dtype=np.uint8)
    quantised = quantise(model.as_network(), images, config.numerics)
    program = compile_model(quantised, config)
    torch.manual_seed(3)
    optimiser = torch.optim.AdamW(model.parameters())
    model(torch.from_numpy(images), 0).sum().backward()
    optimiser.step()
    state = TrainingState(model, optimiser, 4)
    digests = {}
    for number in range(3):
        place = folder / str(number)
        place.mkdir(parents=True)
        origin = checkpoint.Checkpoint.of(model, seed=1, metrics={"b": 1, "a": 2})
        checkpoint.save(place / f"checkpoint-{number}", origin)
        checkpoint.save(place / f"half-{number}", origin, half=True)
        storage.save_quantised(place / f"quantised-{number}", quantised)
        program.save(place / f"program-{number}")
        state.save(place / f"state-{number}", {"seed": 4, "config": SMALL.to_dict()})
        for path in sorted(place.iterdir()):
            digests[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests


def elsewhere(call: str, **environment: str):
    """What a function of this module returns in a new process, through JSON."""
    text = f"import json, pathlib\nfrom tests.sw.run import test_reproducible as here\nprint(json.dumps({call}))"
    result = subprocess.run(
        [sys.executable, "-c", text],
        env={**os.environ, **environment},
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_the_program_of_nano_is_the_recorded_one() -> None:
    assert program_of_nano().digest == NANO_ON_EDGE


@pytest.mark.parametrize("processor", PROCESSORS, ids=lambda processor: processor["ATEN_CPU_CAPABILITY"])
def test_another_processor_makes_the_same_program(processor: dict[str, str]) -> None:
    assert elsewhere("here.program_of_nano().digest", **processor) == NANO_ON_EDGE


def test_every_process_writes_the_same_files(tmp_path: Path) -> None:
    seen: dict[str, set[str]] = {}
    for seed in ("0", "1", "2"):
        call = f"here.write_files(pathlib.Path({str(tmp_path / seed)!r}))"
        for name, digest in elsewhere(call, PYTHONHASHSEED=seed).items():
            seen.setdefault(name.split("-")[0], set()).add(digest)
    assert seen.keys() == {"checkpoint", "half", "quantised", "program", "state"}
    assert {name: len(digests) for name, digests in seen.items()} == dict.fromkeys(seen, 1)


def test_the_digest_is_of_what_decides_results_and_of_nothing_else() -> None:
    config = machine("tiny")
    model = seeded(SMALL, 1)
    images = np.random.default_rng(2).integers(0, 256, (2, 3, 16, 32), dtype=np.uint8)
    program = compile_model(quantise(model.as_network(), images, config.numerics), config)
    content = program.content.copy()
    content[-1] ^= 1
    others = [
        replace(program, content=content),
        replace(program, map=replace(program.map, output=program.map.output + 64)),
        replace(program, outputs=program.outputs[::-1]),
        replace(program, config=replace(program.config, numerics=machine("tiny", 12).numerics)),
    ]
    assert len({program.digest, *(other.digest for other in others)}) == 1 + len(others)
    renamed = replace(program, model=replace(program.model, name="x"), config=replace(program.config, name="y"))
    assert renamed.digest == program.digest and program.digest.startswith(program.short_digest)
