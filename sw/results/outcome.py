"""What a run gives back: for every frame the verdict, counters, time stamps, routing and prediction, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tessera.common.summary import Summarised, Summary
from tessera.golden.integer.token_grid import token_grid
from tessera.program.program import Program
from tessera.sw.cycles import bound, breakdown
from tessera.sw.data.pictures import Picture
from tessera.sw.results import rollout
from tessera.sw.results.comparison import OutputMaps
from tessera.sw.results.saturated import residual_saturated, saturated_frames
from tessera.sw.verifier.verdict import Verdict

if TYPE_CHECKING:
    from tessera.sim.machine.frames import SimulatedFrame


@dataclass(frozen=True, kw_only=True, repr=False)
class FrameOutcome(Summarised):
    """One frame: picture number, task, verdict, what the machine left, prediction, expert choices by mixture.

    ``routing`` holds (tokens, top_k) experts as the machine chose them, best first, -1 where it chose none;
    ``routing_changes`` the share of tokens whose set of experts differs from the float model's; ``layer_errors`` are
    those of :func:`tessera.sw.quantiser.errors.frame_errors`. Of the cycle model (:mod:`tessera.sw.cycles.predict`):
    ``announced_cycles`` before the run, with balanced experts; ``predicted_cycles`` with the integer model's routing.
    """

    program: Program
    picture: int
    task: str
    verdict: Verdict
    result: SimulatedFrame
    prediction: OutputMaps
    routing: dict[str, np.ndarray]
    routing_changes: float | None
    layer_errors: list[dict[str, Any]]
    announced_cycles: int
    predicted_cycles: int

    @property
    def bit_exact(self) -> bool:
        """Whether the machine ended without error and everything it wrote is right."""
        return self.verdict.passed and not self.result.error

    @property
    def saturated(self) -> bool:
        """Whether the residual stream saturated, by the machine's own account."""
        return residual_saturated(self.result.counters)

    @property
    def trouble(self) -> str:
        """One paragraph on what is wrong; empty if nothing is."""
        halted = ""
        if self.result.error:
            counters = self.result.counters
            halted = (
                f"the machine halted with {self.result.error.name} at command {counters['error_command']}, "
                f"address {counters['error_address']:#x}"
            )
        return "; ".join(part for part in (halted, "" if self.verdict.passed else str(self.verdict)) if part)

    @property
    def work(self) -> bound.Workload:
        """Useful multiply-accumulates and ideal cycles of the whole frame."""
        return bound.total(self.program, self.result.task)

    @property
    def mac_utilisation(self) -> float:
        """Useful multiply-accumulates of all that the array could have made."""
        config = self.program.config
        return self.work.macs / (max(1, self.result.cycles) * config.elements * config.lanes)

    @property
    def bound_cycles(self) -> int:
        """Cycles that the frame takes at least, with its experts' tokens: :func:`tessera.sw.cycles.bound.bound`."""
        return bound.bound(self.program, self.result.task, self.load())

    @property
    def cycles_per_second(self) -> float:
        """Speed of the simulation."""
        return self.result.cycles / max(self.result.seconds, 1e-9)

    def shares(self) -> list[breakdown.Share]:
        """What each command did, and the cycles that it owned."""
        return breakdown.shares(self.program, self.result.task, self.result.causes, self.load())

    def layers(self) -> list[dict[str, Any]]:
        """Every command that ran but END.

        Name, op, layer; ``start`` and ``cycles`` from then to its end, which overlap with other commands';
        ``ideal_cycles`` of the array; ``owned_cycles``, which do not overlap, and their ``causes``.
        """
        entries = []
        for command in self.program.commands:
            if command.runs(self.result.task) and command.op != "END":
                start, end = (int(stamp) for stamp in self.result.stamps[command.index])
                causes = self.result.causes[command.index]
                entries.append(
                    {
                        "name": command.name,
                        "op": command.op,
                        "layer": command.place,
                        "start": start,
                        "cycles": end - start,
                        "ideal_cycles": command.ideal_cycles,
                        "owned_cycles": int(causes.sum()),
                        "causes": breakdown.named(causes),
                    }
                )
        return entries

    def load(self, *, first: bool = False) -> dict[str, list[int]]:
        """Tokens of each expert, by mixture; with ``first`` only those whose first choice it was."""
        load = {}
        for name, chosen in self.routing.items():
            counted = chosen[:, :1] if first else chosen
            experts = self.program.mixtures[name].experts
            load[name] = np.bincount(counted[counted >= 0], minlength=experts).tolist()
        return load

    def rollout(self) -> np.ndarray | None:
        """Attention rollout (token out, token in) of the machine's own attention; None if it is not known."""
        attention = rollout.machine_attention(self.program, self.result.traces, self.result.task)
        return None if attention is None else rollout.rollout(attention)

    def attention(self) -> dict[str, Any]:
        """What run.json says about attention: :func:`tessera.sw.results.rollout.rollout_summary`, or None."""
        found, task = self.rollout(), self.result.task
        return {"attention_rollout": None if found is None else rollout.rollout_summary(found, self.program, task)}

    def summary(self) -> Summary:
        """Verdict, cycles and accuracy."""
        return Summary(title=f"{self.program.model.name} on {self.program.config.name}, {self.task}", rows=self.rows())

    def rows(self) -> tuple[tuple[str, str], ...]:
        """Labels and values of the summary."""
        return (
            ("bit-exact", "yes" if self.bit_exact else "NO"),
            ("tensors compared", f"{self.verdict.tensors_compared:,}"),
            ("cycles (simulated)", f"{self.result.cycles:,}"),
            ("MAC utilisation (simulated)", f"{self.mac_utilisation:.1%}"),
            ("this picture: output error (rel. L2)", f"{self.prediction.relative_l2:.2%}"),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form, as under ``tasks.<name>`` of run.json; ``cycles`` are simulated."""
        counters = self.result.counters
        return {
            "bit_exact": self.bit_exact,
            "tensors_compared": self.verdict.tensors_compared,
            "elements_compared": self.verdict.elements_compared,
            "cycles": self.result.cycles,
            "ideal_cycles": self.work.ideal_cycles,
            "bound_cycles": self.bound_cycles,
            "announced_cycles": self.announced_cycles,
            "predicted_cycles": self.predicted_cycles,
            "macs": self.work.macs,
            "mac_utilisation": self.mac_utilisation,
            "dram_bytes": counters["read_bytes"] + counters["write_bytes"],
            "sim_cycles_per_s": self.cycles_per_second,
            "sim_seconds": self.result.seconds,
            "quantisation": {
                "relative_l2": self.prediction.relative_l2,
                "cosine": self.prediction.cosine,
                "routing_changes": self.routing_changes,
                "layers": self.layer_errors,
            },
            "prediction": {"kind": self.prediction.kind, **self.prediction.scores},
            "counters": counters,
            "expert_load": self.load(),
            "expert_first_choices": self.load(first=True),
            "trouble": self.trouble,
            "saturated": self.saturated,
            "first_mismatch": self.verdict.to_dict()["first"],
            "causes": breakdown.named(self.result.causes.sum(axis=0)),
            "breakdown": [share.to_dict() for share in breakdown.grouped(self.shares(), "layer", "phase", "kind")],
            "layers": self.layers(),
        }


@dataclass(frozen=True, kw_only=True, repr=False)
class RunResult(Summarised):
    """A finished run: its frames in order, and what it was made with (``facts`` goes into run.json as it is)."""

    program: Program
    pictures: list[Picture]
    frames: list[FrameOutcome]
    facts: dict[str, Any]
    accuracy: dict[str, Any] | None = None
    waves: str | None = None

    @property
    def bit_exact(self) -> bool:
        """Whether every frame is."""
        return all(frame.bit_exact for frame in self.frames)

    @property
    def notices(self) -> list[str]:
        """What a reader should know of the preparation (``facts`` has it), and of the machine."""
        return [*self.facts.get("notices", ()), *saturated_frames([frame.saturated for frame in self.frames])]

    def tasks(self) -> dict[str, FrameOutcome]:
        """For each task its first frame, in the order of the run."""
        found: dict[str, FrameOutcome] = {}
        for frame in self.frames:
            found.setdefault(frame.task, frame)
        return found

    def summary(self) -> Summary:
        """Verdict, cycles and accuracy of each frame."""
        heads = [frame.task if len(self.pictures) == 1 else f"{frame.task}, {frame.picture}" for frame in self.frames]
        columns = [frame.rows() for frame in self.frames]
        rows = tuple((line[0][0], *(value for _, value in line)) for line in zip(*columns, strict=True))
        title = f"{self.program.model.name} on {self.program.config.name}, against the integer golden model"
        return Summary(title=title, columns=tuple(heads), rows=rows)

    def to_dict(self) -> dict[str, Any]:
        """Content of run.json; ``tasks`` has the first picture's frames, ``frames`` a line for each frame."""
        keys = ("bit_exact", "tensors_compared", "elements_compared", "cycles", "trouble", "saturated")
        lines = []
        for frame in self.frames:
            data = frame.to_dict()
            lines.append({"picture": frame.picture, "task": frame.task, **{key: data[key] for key in keys}})
        return {
            **self.facts,
            "notices": self.notices,
            "bit_exact": self.bit_exact,
            "pictures": [{"source": p.source, "notices": list(p.notices)} for p in self.pictures],
            "tasks": {name: frame.to_dict() | frame.attention() for name, frame in self.tasks().items()},
            "same_first_choice": same_first_choice(list(self.tasks().values())),
            "frames": lines,
            "accuracy": self.accuracy,
            "waves": self.waves,
        }


def same_first_choice(outcomes: Sequence[FrameOutcome]) -> dict[str, float]:
    """Share of patches whose first choice is the same expert in all of several tasks, by mixture; empty for one."""
    if len(outcomes) < 2:
        return {}
    grid, shares = token_grid(outcomes[0].program.plan), {}
    for name in outcomes[0].routing:
        firsts = np.stack([outcome.routing[name][grid.prefix if grid else 0 :, 0] for outcome in outcomes])
        shares[name] = float((firsts == firsts[0]).all(axis=0).mean())
    return shares


def machine_routing(program: Program, result: SimulatedFrame) -> dict[str, np.ndarray]:
    """Experts of every token, from the machine's writes into its queues: (tokens, top_k) by mixture, -1 for none."""
    found = {}
    records = result.traces.records.get("queue")
    if records is None:
        return {}
    for command in program.commands:
        if command.op != "GATE" or not command.runs(result.task):
            continue
        mixture = program.mixtures[command.mixture]
        tokens, top_k = len(mixture.source), mixture.top_k
        chosen = np.full((tokens, top_k), -1, np.int64)
        rank = np.zeros(tokens, np.int64)
        for record in records[records["command"] == command.index]:
            token = int(record["token"])
            if token < tokens and rank[token] < top_k:
                chosen[token, rank[token]] = record["expert"]
                rank[token] += 1
        found[command.mixture] = chosen
    return found
