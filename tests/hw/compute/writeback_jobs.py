"""Random jobs for Writeback and the memory writes that the golden arithmetic expects of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tessera.golden.integer import functions as golden
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.compute import ParameterMode, StepKind
from tessera.hw.isa import Function
from tessera.hw.tables import gelu_table, relu_table, sigmoid_table

FUNCTIONS = {
    "gelu": Function.GELU,
    "relu": Function.RELU,
    "table": Function.TABLE,
    "multiply": Function.NONE,
    "multiply_gelu": Function.GELU,
    "multiply_table": Function.TABLE,
}
"""Jobs of the activation function, those called multiply with the residual."""
LINEAR = ("activation", "swapped", *FUNCTIONS, "residual_add", "weighted", "residual_set", "gate")
KINDS = (*LINEAR, "attention")


@dataclass
class Job:
    """One job: constants, what its units hold, its steps, and every write expected, by memory and in order."""

    constants: dict[str, int]
    parameters: dict[str, np.ndarray]
    scales: dict[str, np.ndarray]
    steps: list[dict[str, int]] = field(default_factory=list)
    results: list[np.ndarray] = field(default_factory=list)
    writes: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {"scratch_write": [], "residual_write": [], "score_write": []}
    )
    calm: bool = False
    """Sums so small that the residual stream rarely saturates."""
    saturated: bool = False


class JobMaker:
    """Makes jobs and keeps the residual memory as it must be after them."""

    def __init__(self, config: AcceleratorConfig, random: np.random.Generator) -> None:
        self.config, self.random = config, random
        half = 1 << (config.numerics.residual_width - 1)
        self.residual = random.integers(-half, half, (config.residual_words, config.lanes))
        self.seen: dict[str, int] = {"clipped jobs": 0, "clear residual jobs": 0}
        self.table = sigmoid_table()

    def _constants(self, shape: Any) -> dict[str, np.ndarray]:
        """Multipliers and shifts that divide by 4 to 32768 on the whole."""
        multiplier = self.random.integers(0, 65537, shape)
        return {"multiplier": multiplier, "shift": self.random.integers(18, 32, shape)}

    def job(self, kind: str) -> Job:
        """A random job of one of ``KINDS``."""
        config, random = self.config, self.random
        tiles, rows = int(random.integers(1, 2 * config.columns + 1)), int(random.integers(1, 9))
        scalars = self._constants(2)
        job = Job(
            constants={
                "padding": 0,  # taps are the array's matter
                "score_multiplier": int(scalars["multiplier"][0]),
                "score_shift": int(scalars["shift"][0]),
                "function": FUNCTIONS.get(kind, int(random.integers(0, 4))),
                "multiplies": int(kind.startswith("multiply")),
                "function_multiplier": int(scalars["multiplier"][1]),
                "function_shift": int(scalars["shift"][1]) - 8 - 6 * kind.startswith("multiply"),
            },
            parameters=self._constants(max(tiles * config.elements, 64)),
            scales=self._constants(2 * config.elements),
            calm=bool(random.random() < 0.6),
        )
        count = len(job.parameters["shift"])
        job.parameters["bias"] = random.integers(-(1 << 31), 1 << 31, count) >> random.integers(
            16 * job.calm, 32, count
        )
        if kind == "attention":
            self._attention(job)
        else:
            self._linear(job, kind, tiles, rows)
        if job.writes["residual_write"]:
            self.seen["clipped jobs" if job.saturated else "clear residual jobs"] += 1
        return job

    def _sums(self, job: Job) -> np.ndarray:
        """P accumulators of all magnitudes; never so large that a bias overflows them."""
        width = self.config.numerics.accumulator_width - 1
        bits = self.random.integers(4, 16 if job.calm else width - 1, self.config.elements)
        return self.random.integers(-(1 << (width - 1)), 1 << (width - 1), self.config.elements) >> (width - bits)

    def _step(self, job: Job, **fields: int) -> tuple[dict[str, int], np.ndarray]:
        names = (
            "kind mode parameter_index address column activated weighted gate_weight attention first buffer flush rows"
        )
        step = dict.fromkeys([*names.split(), "flush", "rows", "row_stride", "row_last", "job_last"], 0) | fields
        job.steps.append(step)
        job.results.append(self._sums(job))
        return step, self._requantised(job, step)

    def _requantised(self, job: Job, step: dict[str, int]) -> np.ndarray:
        """The last result times its multipliers, not yet saturated."""
        p, start = self.config.elements, step["parameter_index"]
        mode, acc = step["mode"], job.results[-1]
        if mode == ParameterMode.SCORE:
            return golden.requantise(acc, 0, job.constants["score_multiplier"], job.constants["score_shift"])
        if mode == ParameterMode.QUERY:
            held = slice(step["buffer"] * p, (step["buffer"] + 1) * p)
            return golden.requantise(acc, 0, job.scales["multiplier"][held], job.scales["shift"][held])
        sets = slice(start, start + (p if mode == ParameterMode.ELEMENT else 1))
        return golden.requantise(acc, *(job.parameters[name][sets] for name in ("bias", "multiplier", "shift")))

    def _linear(self, job: Job, kind: str, tiles: int, rows: int) -> None:
        config, random, numerics = self.config, self.random, self.config.numerics
        base, stride = int(random.integers(0, 64)), int(random.integers(tiles, 8 * tiles))
        tokens = random.permutation(16)[:rows]
        for tile in range(tiles):
            for row in range(rows):
                common = {
                    "mode": ParameterMode.STEP if kind == "swapped" else ParameterMode.ELEMENT,
                    "parameter_index": row if kind == "swapped" else tile * config.elements,
                    "address": base + int(tokens[row]) * stride + tile // config.columns,
                    "column": tile % config.columns,
                    "row_last": int(tile == tiles - 1),
                    "job_last": int(tile == tiles - 1 and row == rows - 1),
                }
                if kind == "gate":
                    step, y = self._step(job, **common | {"kind": StepKind.SCORE, "address": tile * rows + row})
                    self._score(job, step, y)
                elif kind in ("activation", "swapped"):
                    step, y = self._step(job, **common, kind=StepKind.ACTIVATION)
                    self._scratch(job, step, golden.saturate(y, numerics.activation))
                elif kind in FUNCTIONS:
                    self._function(job, kind, common)
                else:
                    self._residual(job, kind, common)

    def _function(self, job: Job, kind: str, common: dict[str, int]) -> None:
        tables = {Function.GELU: gelu_table(), Function.RELU: relu_table(), Function.TABLE: self.table}
        table, shift = tables.get(FUNCTIONS[kind]), job.constants["function_shift"]
        numerics, multiplies = self.config.numerics, job.constants["multiplies"]
        step, y = self._step(
            job, **common, kind=StepKind.RESIDUAL_MULTIPLY if multiplies else StepKind.ACTIVATION, activated=1
        )
        if multiplies:
            old = self.residual[step["address"], self._lanes(step["column"])]
            self._update(job, step, golden.residual_multiply(old, y, table, shift, numerics))
        else:
            scale = job.constants["function_multiplier"], shift
            self._scratch(job, step, golden.activate(y, table, *scale, numerics))

    def _update(self, job: Job, step: dict[str, int], new: golden.Residual) -> None:
        self.residual[step["address"], self._lanes(step["column"])] = new.values
        job.saturated |= new.saturated
        job.writes["residual_write"].append(self._column(step, new.values))

    def _residual(self, job: Job, kind: str, common: dict[str, int]) -> None:
        numerics, weight = self.config.numerics, int(self.random.integers(0, 1 << 16))
        add = kind != "residual_set"
        step, y = self._step(
            job,
            **common,
            kind=StepKind.RESIDUAL_ADD if add else StepKind.RESIDUAL_SET,
            weighted=int(kind == "weighted"),
            gate_weight=weight,
        )
        old = self.residual[step["address"], self._lanes(step["column"])]
        if kind == "weighted":
            new = golden.residual_add_weighted(old, y, weight, numerics)
        else:
            new = golden.residual_add(old, y, numerics) if add else golden.residual_set(y, numerics)
        self._update(job, step, new)

    def _lanes(self, column: int) -> slice:
        return slice(column * self.config.elements, (column + 1) * self.config.elements)

    def _column(self, step: dict[str, int], values: np.ndarray) -> dict[str, Any]:
        return {"address": step["address"], "columns": 1 << step["column"], "data": values}

    def _scratch(self, job: Job, step: dict[str, int], values: np.ndarray) -> None:
        mask = (1 << self.config.numerics.activation_width) - 1
        job.writes["scratch_write"].append(self._column(step, values & mask))

    def _score(self, job: Job, step: dict[str, int], y: np.ndarray) -> None:
        fields = {name: step[name] for name in ("address", "attention", "buffer", "first")}
        values = golden.saturate(y, self.config.numerics.score)
        job.writes["score_write"].append(fields | {"data": values})

    def _attention(self, job: Job) -> None:
        """Tiles of scores and words of outputs in turn, as the engine interleaves them."""
        config, random = self.config, self.random
        mask = (1 << config.numerics.activation_width) - 1
        for tile in range(3):
            buffer, rows, keys = tile % 2, int(random.integers(1, config.elements + 1)), int(random.integers(1, 20))
            for key in range(keys):
                step, y = self._step(
                    job,
                    kind=StepKind.SCORE,
                    mode=ParameterMode.SCORE,
                    address=buffer * config.max_tokens + key,
                    attention=1,
                    buffer=buffer,
                    first=int(key == 0),
                )
                self._score(job, step, y)
            for _ in range(int(random.integers(1, 3))):
                address, stride = int(random.integers(0, 64)), int(random.integers(1, 8))
                word = np.zeros((config.elements, config.lanes), np.int64)
                for lane in range(config.lanes):
                    step, y = self._step(
                        job,
                        kind=StepKind.ATTENTION,
                        mode=ParameterMode.QUERY,
                        address=address,
                        attention=1,
                        buffer=buffer,
                        rows=rows,
                        row_stride=stride,
                        flush=int(lane == config.lanes - 1),
                    )
                    word[:, lane] = golden.saturate(y, config.numerics.activation) & mask
                for query in range(rows):
                    whole = {"address": address + query * stride, "columns": (1 << config.columns) - 1}
                    job.writes["scratch_write"].append(whole | {"data": word[query]})
