"""Gate: routing, weights and queues, with ties, saturated logits and every number of experts."""

from dataclasses import replace
from itertools import product

import pytest

from tessera.hw.gate.gate import Gate
from tessera.hw.gate.weights import GateWeights
from tessera.hw.interfaces.memory import MEMORY_LATENCY
from tessera.hw.presets import PRESETS, preset
from tessera.sim.bench.run import BenchFailure, run_testbench
from tests.helpers.units import or_soak, simulator

BENCH = "tests.hw.gate.gate_bench"
KINDS = ("usual", "ties", "all equal", "saturated", "one expert", "falling", "rising")
CONFIGS = {**PRESETS, "small": replace(preset("tiny"), max_experts=4, max_tokens=32, max_top_k=2)}

DIFFERENT = ("tiny", "ecp5-85f", "edge", "small")
"""Of the others each has the gate of one of these."""


def jobs(config):
    """Every kind of logits with several sizes; then one token, one expert, and a full house."""
    sizes = [(experts, top_k) for experts, top_k in ((2, 1), (3, 2), (4, 4), (5, 3), (8, 2), (16, 4), (16, 1))]
    most = config.max_tokens
    listed = [(kind, 11, *size) for kind, size in product(KINDS, sizes)]
    listed += [("usual", 1, 16, 2), ("usual", 1, 1, 1), ("one expert", most, 4, 2), ("ties", most, 16, 4)]
    return [job for job in listed if job[2] <= config.max_experts and job[3] <= config.max_top_k]


@pytest.mark.parametrize("interval", [0, 13, 24])
@pytest.mark.parametrize("name", or_soak(CONFIGS, lambda name: name in DIFFERENT))
def test_queues_are_exact(name, interval):
    """Logits of all tokens there at once, or becoming readable faster or slower than the gate takes them."""
    config = CONFIGS[name]
    parameters = {"config": config.to_dict(), "jobs": jobs(config), "interval": interval}
    run_testbench(simulator(Gate, config), BENCH, parameters=parameters, seed=5)


@pytest.mark.parametrize("experts", [2, 16])
def test_a_token_costs_its_experts(experts):
    config, tokens = preset("ecp5-wide"), 200
    settings = {"config": config.to_dict(), "jobs": [("usual", tokens, experts, 2)]}
    spent = run_testbench(simulator(Gate, config), BENCH, parameters=settings).outputs["spent"]
    assert spent <= tokens * max(experts + 1, GateWeights.INTERVAL) + 46 + 2 * MEMORY_LATENCY


def test_the_gate_hides_behind_slower_logits():
    config, tokens, interval = preset("edge"), 200, 24
    settings = {"config": config.to_dict(), "jobs": [("usual", tokens, 16, 2)], "interval": interval, "regular": True}
    spent = run_testbench(simulator(Gate, config), BENCH, parameters=settings).outputs["spent"]
    assert spent <= tokens * interval + 70


def test_a_command_that_asks_too_much_is_noticed():
    settings = {"config": preset("tiny").to_dict(), "jobs": [("usual", 3, 2, 3)]}
    with pytest.raises(BenchFailure, match="gate chooses 3 of 2 experts"):
        run_testbench(simulator(Gate, preset("tiny")), BENCH, parameters=settings)
