"""The verifier: every tensor that the machine writes against the integer golden model, bit for bit.

``verify`` walks the commands of a program; ``sw.verifier.expectation`` knows where tensors lie,
``sw.verifier.verdict`` holds the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from golden.integer.functions import Queue
from hw.isa import Opcode, decode
from program.commands import Command
from program.program import Program
from program.tensors import Tensor
from program.traces import SPACES, Traces
from sw.verifier.expectation import Comparison, Expectation, Writes, output_writes, writes
from sw.verifier.verdict import Mismatch, TensorVerdict, Verdict

_AXES = {
    "scores": ("head", "query", "key"),
    "exponentials": ("head", "query", "key"),
    "queries": ("head", "query"),
    "logits": ("token", "expert"),
    "positions": ("expert", "position", "channel"),
    "accumulated": ("expert", "position", "channel"),
    "queue": ("token", "rank"),
}
_QUEUE_FIELDS = {"expert_indices": ("expert",), "expert_weights": ("weight",), "queues": ("position", "token")}


def verify(program: Program, golden: Mapping[str, Any], traces: Traces, task: int) -> Verdict:
    """Compare a run with the golden model.

    Parameters
    ----------
    program:
        What ran.
    golden:
        Tensors of :meth:`golden.integer.model.IntegerModel.run` for the same image and task.
    traces:
        Every write of the run, and the output region after it.
    task:
        Index of the selected task.

    Returns
    -------
    Verdict
        Every element of every tensor that a command writes was compared, in every write; each must have been
        written, and nothing else may have been, except padding with its proper value.
    """
    verdict = Verdict(task=program.model.tasks[task].name)
    spaces = {space: _ByCommand(traces.records[space]) for space in SPACES}
    for command in program.commands:
        check = _CommandCheck(program, command, golden, verdict, command.runs(task))
        for space in SPACES:
            records = spaces[space].of(command.index)
            if space == "queue":
                check.queue(records)
            else:
                check.space(space, records)
        check.stores(traces.output)
        if verdict.first is None:
            verdict.first = check.first()
    for space in SPACES:
        beyond = spaces[space].of(len(program.commands), last=True)
        if len(beyond) and verdict.first is None:
            end = program.commands[-1]
            check = _CommandCheck(program, end, golden, verdict, True)
            check.stray(space, beyond)
            verdict.first = check.first()
    return verdict


class _ByCommand:
    """Records of a space, found by command."""

    def __init__(self, records: np.ndarray) -> None:
        commands = records["command"]
        if np.any(commands[1:] < commands[:-1]):
            records = records[np.argsort(commands, kind="stable")]
        self._records = records
        self._commands = np.ascontiguousarray(records["command"])

    def of(self, command: int, last: bool = False) -> np.ndarray:
        start = np.searchsorted(self._commands, command)
        end = len(self._commands) if last else np.searchsorted(self._commands, command, side="right")
        return self._records[start:end]


class _CommandCheck:
    """Checks of one command; collects candidates for its first mismatch."""

    def __init__(
        self, program: Program, command: Command, golden: Mapping[str, Any], verdict: Verdict, runs: bool
    ) -> None:
        self.program, self.command, self.golden, self.verdict = program, command, golden, verdict
        self.tensors = command.tensors if runs else ()
        self.candidates: list[Mismatch] = []

    def first(self) -> Mismatch | None:
        """The earliest; what was never written comes last."""
        return min(
            self.candidates, key=lambda m: (m.cycle is None, m.cycle if m.cycle is not None else 0), default=None
        )

    def _add(self, reason: str, space: str, **details: Any) -> None:
        c = self.command
        cycle = details.pop("cycle", None)
        self.candidates.append(
            Mismatch(
                reason=reason,
                command=c.index,
                command_name=c.name,
                op=c.op,
                layer=c.layer,
                task=self.verdict.task,
                space=space,
                cycle=None if cycle is None or cycle < 0 else int(cycle),
                **details,
            )
        )

    def stray(self, space: str, records: np.ndarray) -> None:
        """Records that should not exist."""
        address = None if space == "queue" else int(records[0]["address"])
        self._add("a write that does not belong to the command", space, cycle=records[0]["cycle"], address=address)

    def _value(self, tensor: Tensor) -> Any:
        """Golden value; staged weights are checked against the memory that they come from."""
        if self.command.op != Opcode.STAGE.name:
            return self.golden[tensor.name]
        _, fields = decode(self.program.command_bytes(self.command.index))
        start = self.program.map.weights + fields["stream_address"]
        staged = self.program.content[start : start + fields["words"] * tensor.lanes].view(np.int8)
        return staged.reshape(tensor.shape[0], -1)[:, : tensor.shape[1]]

    def space(self, space: str, records: np.ndarray) -> None:
        """Check one space's records against the tensors that lie there."""
        tensors = [tensor for tensor in self.tensors if tensor.space == space]
        if not tensors:
            if len(records):
                self.stray(space, records)
            return
        written = writes(space, records, self.program.config)
        claimed = np.zeros(len(written.cell), bool)
        for tensor in tensors:
            expectation = Expectation(tensor, self.golden, self._value(tensor), self.program.config)
            inside = expectation.inside(written)
            claimed |= inside
            self._compare(expectation, written.select(inside))
        cells = tensors[0].width // written.unit
        for at in np.flatnonzero(~claimed)[:1]:
            address = int(written.cell[at]) // cells
            self._add("a write outside the command's tensors", space, cycle=written.cycle[at], address=address)
        if space == "exponential":
            self._clears(records)

    def _clears(self, records: np.ndarray) -> None:
        """The first lane of a word, and only it, clears the others: tokens beyond the last are zero."""
        wrong = records[(records["clear"] != 0) != (records["lane"] == 0)]
        if len(wrong):
            self._add(
                "a word's first lane must clear the others, no other lane may",
                "exponential",
                cycle=wrong[0]["cycle"],
                address=int(wrong[0]["address"]),
            )

    def stores(self, output: np.ndarray) -> None:
        """Check the result in memory."""
        for tensor in self.tensors:
            if tensor.space == "memory":
                expectation = Expectation(tensor, self.golden, self.golden[tensor.name], self.program.config)
                self._compare(expectation, output_writes(output, tensor))

    def _compare(self, expectation: Expectation, written: Writes) -> None:
        tensor = expectation.tensor
        if tensor.layout == "last":
            # Its writes are compared one by one as another tensor; when the last one ought to come is not known.
            written = written.last()
            written = Writes(np.full(len(written.cell), -1), written.cell, written.data)
        result = expectation.compare(written)
        self.verdict.tensors.append(
            TensorVerdict(
                command=self.command.index,
                name=tensor.name,
                space=tensor.space,
                elements=expectation.values.size,
                wrong=len(result.bad),
                missing=len(result.missing),
            )
        )
        cells = tensor.width // written.unit
        if len(result.wrong):
            self._report(expectation, written, result, cells)
        if len(result.stray):
            at = result.stray[0]
            address = int(written.cell[at]) // cells
            self._add(
                "a place written too often, or beyond the tensor",
                tensor.space,
                tensor=tensor.name,
                cycle=written.cycle[at],
                address=address,
            )
        if len(result.missing):
            element = int(result.missing[0])
            self._add(
                f"{len(result.missing)} elements never written",
                tensor.space,
                expected=int(expectation.values.reshape(-1)[element]),
                **self._place(expectation, element),
            )

    def _report(self, expectation: Expectation, written: Writes, result: Comparison, cells: int) -> None:
        """The earliest wrong write."""
        first = int(result.wrong[0])
        lane, element = int(result.lane[0]), int(result.element[0])
        details: dict[str, Any] = {
            "cycle": written.cycle[first],
            "address": int(written.cell[first]) // cells,
            "got": expectation.read(written.data[first], lane),
        }
        if element < 0:
            reason = "wrong value in padding"
            details |= {"tensor": expectation.tensor.name, "expected": expectation.tensor.padding}
        else:
            reason = "wrong value"
            details |= self._place(expectation, element)
            details["expected"] = int(expectation.values.reshape(-1)[element])
        self._add(reason, expectation.tensor.space, **details)

    def _place(self, expectation: Expectation, element: int) -> dict[str, Any]:
        tensor, index = expectation.tensor, expectation.index(element)
        token: int | None = index[1] if tensor.layout in ("scores", "exponentials", "queries") else index[0]
        axes = _AXES.get(tensor.layout, ("token", "channel"))
        if expectation.queues is not None:
            token = int(expectation.queues[index[0]][index[1]])
        elif tensor.name in ("pixels", "norm", "head"):
            axes, token = ("patch", "channel"), index[0] + 1
        elif tensor.name.endswith("v_weights"):
            axes, token = ("output", "input"), None
        return {"tensor": tensor.name, "axes": axes, "index": index, "token": token}

    def queue(self, records: np.ndarray) -> None:
        """Entries must come in token order, best expert first, each at the end of its expert's queue."""
        tensors = [tensor for tensor in self.tensors if tensor.space == "queue"]
        if not tensors:
            if len(records):
                self.stray("queue", records)
            return
        prefix = tensors[0].name.rpartition(".")[0]
        expected = _queue_entries(self.golden, prefix)
        for tensor in tensors:
            self._entries(tensor, expected[tensor.name.rpartition(".")[2]], records)
        if len(records) > tensors[0].shape[0] * tensors[0].shape[1]:
            self.stray("queue", records[tensors[0].shape[0] * tensors[0].shape[1] :])

    def _entries(self, tensor: Tensor, values: np.ndarray, records: np.ndarray) -> None:
        """Compare the fields of queue entries that are ``tensor``'s, ``values`` (entries, fields)."""
        names = _QUEUE_FIELDS[tensor.name.rpartition(".")[2]]
        count = min(len(records), len(values))
        got = np.stack([records[name][:count].astype(np.int64) for name in names], axis=1)
        wrong = np.flatnonzero((got != values[:count]).any(axis=1))
        missing = len(values) - count
        self.verdict.tensors.append(
            TensorVerdict(
                command=self.command.index,
                name=tensor.name,
                space="queue",
                elements=len(values),
                wrong=len(wrong),
                missing=missing,
            )
        )
        common: dict[str, Any] = {"tensor": tensor.name, "axes": _AXES["queue"]}
        if len(wrong):
            at = int(wrong[0])
            field = int((got[at] != values[at]).argmax())
            self._add(
                f"wrong {names[field]} of a queue entry",
                "queue",
                index=divmod(at, tensor.shape[1]),
                token=at // tensor.shape[1],
                expected=int(values[at][field]),
                got=int(got[at][field]),
                cycle=records[at]["cycle"],
                **common,
            )
        if missing:
            index = divmod(count, tensor.shape[1])
            self._add(f"{missing} queue entries missing", "queue", index=index, token=index[0], **common)


def _queue_entries(golden: Mapping[str, Any], prefix: str) -> dict[str, np.ndarray]:
    """Expected fields of the queue writes in order; positions and tokens come from the queues themselves."""
    indices = np.asarray(golden[f"{prefix}.expert_indices"], np.int64)
    queues: list[Queue] = golden[f"{prefix}.queues"]
    entries = []
    for token, chosen in enumerate(indices):
        for expert in chosen:
            position = int(np.searchsorted(queues[expert].tokens, token))
            entries.append((position, int(queues[expert].tokens[position])))
    return {
        "expert_indices": indices.reshape(-1, 1),
        "expert_weights": np.asarray(golden[f"{prefix}.expert_weights"], np.int64).reshape(-1, 1),
        "queues": np.array(entries, np.int64),
    }
