"""The memory model answers like a memory, at the rate it promises, and refuses what AXI forbids."""

from __future__ import annotations

import numpy as np
import pytest

from tessera.sim.bench.backdoor import SOURCE
from tessera.sim.bench.run import BenchFailure, BenchOptions, run_testbench
from tessera.sim.verilator.build import build_simulator
from tessera.sim.verilator.options import BuildOptions

BENCH = "tests.sim.bench.backdoor_bench"
WORDS = 2048
ALL_STALLS = ["+stall_ar=90", "+stall_r=60", "+stall_aw=90", "+stall_w=60", "+stall_b=120", "+stall_seed=7"]


def memory(data_width, aligned=1):
    parameters = {"DATA_WIDTH": data_width, "DEPTH": WORDS, "ID_WIDTH": 4, "ALIGNED": aligned}
    return build_simulator(
        options=BuildOptions(top="axi_memory", sources=[SOURCE], public=[("axi_memory", "*")], parameters=parameters)
    )


@pytest.fixture
def image(tmp_path):
    """A file of 4001 random bytes: not a whole number of words."""
    path = tmp_path / "image.bin"
    path.write_bytes(np.random.default_rng(0).integers(0, 256, 4001, dtype=np.uint8).tobytes())
    return path


@pytest.mark.parametrize("width", [32, 256])
@pytest.mark.parametrize("plusargs", [[], [*ALL_STALLS, "+read_latency=2", "+write_latency=2"]])
def test_random_traffic(width, plusargs, image):
    run_testbench(
        memory(width, aligned=0),
        BENCH,
        parameters={"image": list(image.read_bytes()), "operations": 12, "pauses": 0.3 if plusargs else 0.0},
        options=BenchOptions(plusargs=[f"+memory_image={image}", *plusargs]),
        test_filter="random_traffic",
        seed=11,
    )


@pytest.mark.parametrize("latency", [2, 3, 60])
def test_latency_and_bandwidth(latency):
    options = BenchOptions(plusargs=[f"+read_latency={latency}"])
    parameters = {"latency": latency, "size": 4}
    run_testbench(memory(128), BENCH, parameters=parameters, test_filter="latency_and", options=options)


@pytest.mark.parametrize("name", ["errors_are", "flipped_bit", "dropped_beat", "stalls_happen", "requests_beyond"])
def test_behaviour(name, image):
    options = BenchOptions(plusargs=[f"+memory_image={image}"])
    run_testbench(memory(128), BENCH, parameters={"size": 4}, test_filter=name, options=options)


def test_back_door():
    run_testbench(memory(128, aligned=0), BENCH, test_filter="back_door")


LEGAL = {"araddr": 0, "arlen": 0, "arsize": 4, "arburst": 1}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"arburst": 2}, "burst kind 2"),
        ({"arsize": 2}, "beats of 4 bytes, need 16"),
        ({"araddr": 8}, "not aligned to 16 bytes"),
        ({"araddr": 4096 - 32, "arlen": 2}, "crosses a 4 KiB boundary"),
    ],
)
def test_illegal_request_stops_the_simulation(change, message):
    with pytest.raises(BenchFailure, match=f"(?s)hardware assertion fired.*axi_memory: AR.*{message}"):
        run_testbench(memory(128), BENCH, parameters={"request": LEGAL | change}, test_filter="illegal_request")


def test_request_that_changes_before_it_is_accepted_stops_the_simulation():
    stalled = BenchOptions(plusargs=["+stall_ar=255"])
    with pytest.raises(BenchFailure, match="AR changed before it was accepted"):
        run_testbench(memory(128), BENCH, parameters={"request": LEGAL}, test_filter="illegal_request", options=stalled)


def test_legal_request_passes_where_illegal_ones_fail():
    run_testbench(memory(128), BENCH, parameters={"request": LEGAL}, test_filter="illegal_request")


def test_missing_and_oversized_images_are_refused(tmp_path):
    def load(path):
        options = BenchOptions(plusargs=[f"+memory_image={path}"])
        run_testbench(memory(128), BENCH, test_filter="illegal_request", options=options)

    with pytest.raises(BenchFailure, match="cannot open the image"):
        load(tmp_path / "none")
    big = tmp_path / "big.bin"
    big.write_bytes(bytes(WORDS * 16 + 1))
    with pytest.raises(BenchFailure, match="exceeds 32768 bytes"):
        load(big)
