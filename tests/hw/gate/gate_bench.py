"""Runs inside the simulator: Gate against the golden model, with a score buffer in Python."""

from collections import deque

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from tessera.golden.integer.functions import gate, queues
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.memory import MEMORY_LATENCY
from tessera.sim.bench.streams import (
    StreamDriver,
    StreamMonitor,
    clock_and_reset,
    cycle,
    parameters,
    record,
    rng,
    wait_cycles,
)
from tests.helpers.port_bits import port_bits, port_values

LOWEST, HIGHEST = -(1 << 17), (1 << 17) - 1


def logits_of(kind: str, tokens: int, experts: int, random: np.random.Generator) -> np.ndarray:
    """Logits (tokens, experts) that make routing easy, hard or extreme."""
    match kind:
        case "usual":
            return random.integers(-6000, 6000, (tokens, experts))
        case "ties":
            return random.integers(-1, 2, (tokens, experts)) * 500
        case "all equal":
            return np.full((tokens, experts), int(random.integers(LOWEST, HIGHEST + 1)))
        case "saturated":
            return random.choice([LOWEST, HIGHEST], (tokens, experts))
        case "one expert":
            return random.integers(-6000, 0, (tokens, experts)) + 20_000 * (np.arange(experts) == experts // 2)
        case "falling":
            return np.sort(random.integers(LOWEST, HIGHEST, (tokens, experts)))[:, ::-1]
        case "rising":
            return np.sort(random.integers(-9000, 9000, (tokens, experts)))
    raise ValueError(f"no logits of kind {kind!r}")


class ScoreModel:
    """Answers the score buffer's read port with MEMORY_LATENCY, and lets tokens become readable one by one.

    Parameters
    ----------
    dut:
        The design.
    config:
        Sizes of the machine.
    interval:
        Cycles from one token to the next on average; 0: all are there from the beginning.
    regular:
        Exactly so many cycles.
    """

    def __init__(self, dut, config: AcceleratorConfig, interval: int, *, regular: bool = False) -> None:
        self._dut, self._config, self._random = dut, config, rng("scores")
        self._interval, self._regular = interval, regular
        self._words: list[int] = []
        self._tokens = 1
        cocotb.start_soon(self._run())

    def hold(self, logits: np.ndarray, random: np.random.Generator) -> None:
        """Lay logits out as the engine writes them; the elements beyond the experts hold rubbish."""
        tokens, experts = logits.shape
        elements = self._config.elements
        tiles = -(-experts // elements)
        padded = random.integers(LOWEST, HIGHEST + 1, (tokens, tiles * elements))
        padded[:, :experts] = logits
        words = padded.reshape(tokens, tiles, elements).swapaxes(0, 1).reshape(-1, elements)
        self._words = port_bits("score_read__data", words)
        self._tokens = tokens

    async def _run(self) -> None:
        # What is driven after an edge is seen at the next one: that is the last of the cycles.
        dut, rows, age, begins = self._dut, 0xFFFF, 0, False
        asked: deque[int | None] = deque([None] * (MEMORY_LATENCY - 1))
        while True:
            if self._interval:
                age += 1
                more = age % self._interval == 0 if self._regular else self._random.random() < 1 / self._interval
                rows = 0 if begins else min(rows + int(more), 0xFFFF)
            dut.report__rows_ready.value = rows
            await RisingEdge(dut.clk)
            begins = dut.job__valid.value == 1 and dut.job__ready.value == 1
            shown = asked.popleft()
            if shown is not None:
                dut.score_read__data.value = self._words[shown]
            asked.append(None)
            if dut.score_read__enable.value == 1:
                asked[-1] = shown = int(dut.score_read__address.value)
                token = shown % self._tokens
                assert token < rows, f"token {token} was read when {rows} were ready"


async def check_queues(dut, config, expected) -> None:
    """Lengths, and every entry through the read port."""
    counts = port_values("report__counts", [int(dut.report__counts.value)])[0]
    lengths = [len(queue.tokens) for queue in expected] + [0] * (config.max_experts - len(expected))
    assert counts.tolist() == lengths
    places = [(expert, position) for expert, length in enumerate(lengths) for position in range(length)]
    entries = await read_entries(dut, [expert * config.max_tokens + position for expert, position in places])
    got = port_values("queue_read__data", entries)
    assert np.array_equal(got["token"], np.concatenate([queue.tokens for queue in expected]))
    assert np.array_equal(got["weight"], np.concatenate([queue.weights for queue in expected]))


async def read_entries(dut, addresses: list[int]) -> list[int]:
    """Bits of the entries of these numbers."""
    entries = []
    for index in range(len(addresses) + MEMORY_LATENCY):
        dut.queue_read__address.value = addresses[min(index, len(addresses) - 1)]
        await RisingEdge(dut.clk)
        if index >= MEMORY_LATENCY:
            entries.append(int(dut.queue_read__data.value))
    return entries


def list_entries(config, expected, random: np.random.Generator) -> dict[int, int]:
    """Rows for a list in places that no queue uses, by the entries' numbers."""
    lengths = [len(queue.tokens) for queue in expected] + [0] * (config.max_experts - len(expected))
    free = [e * config.max_tokens + p for e, length in enumerate(lengths) for p in range(length, config.max_tokens)]
    chosen = random.choice(free, min(len(free), 200), replace=False)
    return {int(address): int(random.integers(0, 1 << 16)) for address in chosen}


@cocotb.test()
async def queues_are_exact(dut):
    """Jobs of all shapes, one after the other."""
    await clock_and_reset(dut)
    settings = parameters()
    config = AcceleratorConfig.from_dict(settings["config"])
    random, scores = rng(), ScoreModel(dut, config, settings.get("interval", 0), regular=settings.get("regular", False))
    jobs, monitor = StreamDriver(dut, "job"), StreamMonitor(dut, "queue_write")
    lists = StreamDriver(dut, "list_write", stall=0.2)
    for kind, tokens, experts, top_k in settings["jobs"]:
        logits = logits_of(kind, tokens, experts, random)
        scores.hold(logits, random)
        jobs.send({"tokens": np.array([tokens]), "experts": np.array([experts]), "top_k": np.array([top_k])})
        await jobs.drained()
        started = cycle()
        routing = gate(logits, top_k, config.numerics)
        listed = list_entries(config, queues(routing, experts), random)
        lists.send({"address": np.array(list(listed)), "row": np.array(list(listed.values()))})
        for _ in range(100_000):
            await RisingEdge(dut.clk)
            if dut.report__done.value == 1:
                break
        spent = cycle() - started

        written = await monitor.receive(tokens * top_k, timeout_cycles=100)
        case = f"{kind}, {tokens} tokens, {experts} experts, top {top_k}"
        assert np.array_equal(written["token"], np.repeat(np.arange(tokens), top_k)), case
        assert np.array_equal(written["expert"], routing.indices.ravel()), case
        assert np.array_equal(written["weight"], routing.weights.ravel()), case
        monitor.assert_empty()
        await lists.drained()
        await check_queues(dut, config, queues(routing, experts))
        rows = [bits & 0xFFFF for bits in await read_entries(dut, list(listed))]
        assert rows == list(listed.values()), f"{case}: the list"
        await wait_cycles(dut, int(random.integers(1, 5)))
    record(spent=spent)
