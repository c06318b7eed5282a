"""The verifier: every tensor that the machine writes against the integer golden model, bit for bit.

:func:`verify` walks the commands of a program and the tensors of each. The tensor's layout says what must lie where,
:mod:`tessera.sw.verifier.writes` what was written, :mod:`tessera.sw.verifier.differences` finds the difference and
:mod:`tessera.sw.verifier.verdict` holds the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tessera.hw.isa import Opcode, decode
from tessera.program.commands import Command
from tessera.program.layouts.base import FixedLayout, Queues, Rewrites, WordLayout
from tessera.program.layouts.routed import QueueEntries, RoutedRows
from tessera.program.program import Program
from tessera.program.tensors import Space, Tensor, raw_width
from tessera.program.traces import SPACES, Traces
from tessera.sw.verifier.differences import differences
from tessera.sw.verifier.verdict import Mismatch, TensorVerdict, Verdict
from tessera.sw.verifier.writes import Writes, output_writes, writes


def verify(program: Program, golden: Mapping[str, Any], traces: Traces, task: int) -> Verdict:
    """Compare a run with the golden model.

    Parameters
    ----------
    program:
        What ran.
    golden:
        Tensors of :meth:`tessera.golden.integer.model.IntegerModel.run` for the same image and task.
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
                place=c.place,
                task=self.verdict.task,
                space=space,
                cycle=None if cycle is None or cycle < 0 else int(cycle),
                **details,
            )
        )

    def _count(self, tensor: Tensor, elements: int, wrong: int, missing: int) -> None:
        self.verdict.tensors.append(
            TensorVerdict(
                command=self.command.index,
                name=tensor.name,
                space=tensor.space,
                elements=elements,
                wrong=wrong,
                missing=missing,
            )
        )

    def stray(self, space: str, records: np.ndarray) -> None:
        """Records that should not exist."""
        address = None if space == "queue" else int(records[0]["address"])
        self._add("a write that does not belong to the command", space, cycle=records[0]["cycle"], address=address)

    def space(self, space: Space, records: np.ndarray) -> None:
        """Check one space's records against the tensors that lie there."""
        tensors = [(tensor, tensor.layout) for tensor in self.tensors if tensor.space == space]
        if not tensors:
            if len(records):
                self.stray(space, records)
            return
        written = writes(space, records, self.program.config)
        claimed = np.zeros(len(written.cell), bool)
        for tensor, layout in tensors:
            assert isinstance(layout, WordLayout)
            inside = written.inside(layout)
            claimed |= inside
            self._compare(tensor, layout, written.select(inside))
            cells = written.cells(layout)
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
                assert isinstance(tensor.layout, WordLayout)
                self._compare(tensor, tensor.layout, output_writes(output, tensor.layout))

    def _compare(self, tensor: Tensor, layout: WordLayout, written: Writes) -> None:
        bits = raw_width(tensor.space, self.program.config)
        queues = self._queues(tensor) if isinstance(layout, RoutedRows) else []
        expected = layout.expected_words(self._values(tensor, layout), bits, queues)
        if layout.rewrites == Rewrites.LAST:
            # Its writes are compared one by one as another tensor.
            written = written.last()
        found = differences(layout, expected, written)
        self._count(tensor, expected.values.size, len(found.bad), len(found.missing))
        cells = written.cells(layout)
        if len(found.wrong):
            first = int(found.wrong[0])
            element = int(found.element[0])
            self._add(
                "wrong value in padding" if element < 0 else "wrong value",
                tensor.space,
                cycle=written.cycle[first],
                address=int(written.cell[first]) // cells,
                got=layout.read(written.data[first], int(found.lane[0]), bits),
                expected=layout.padding if element < 0 else int(expected.values.reshape(-1)[element]),
                **({"tensor": tensor.name} if element < 0 else _place(tensor, layout, element, queues)),
            )
        if len(found.stray):
            at = found.stray[0]
            self._add(
                "a place written too often, or beyond the tensor",
                tensor.space,
                tensor=tensor.name,
                cycle=written.cycle[at],
                address=int(written.cell[at]) // cells,
            )
        if len(found.missing):
            element = int(found.missing[0])
            self._add(
                f"{len(found.missing)} elements never written",
                tensor.space,
                expected=int(expected.values.reshape(-1)[element]),
                **_place(tensor, layout, element, queues),
            )

    def _values(self, tensor: Tensor, layout: WordLayout) -> np.ndarray:
        """Golden values of the tensor's elements; staged weights are those of the memory that they come from."""
        if self.command.op == Opcode.STAGE.name:
            _, fields = decode(self.program.command_bytes(self.command.index))
            start = self.program.map.weights + fields["stream_address"]
            staged = self.program.content[start : start + fields["words"] * layout.width].view(np.int8)
            return staged.reshape(layout.shape[0], -1)[:, : layout.shape[1]]
        golden = self.golden[tensor.name]
        if isinstance(layout, RoutedRows):
            return np.concatenate(golden)
        whole = np.asarray(golden)
        values = layout.part(whole)
        if isinstance(layout, FixedLayout) and values.shape != layout.shape:
            raise ValueError(
                f"golden tensor '{tensor.name}' has shape {whole.shape}; "
                f"the program writes {layout.shape} from row {layout.first[0]}, channel {layout.first[1]}"
            )
        return values

    def _queues(self, tensor: Tensor) -> list[np.ndarray]:
        """Tokens of each expert of the mixture that decides the tensor's places."""
        return [queue.tokens for queue in self.golden[self._inner(tensor, "queues")]]

    def _inner(self, tensor: Tensor, part: str) -> str:
        """Name of a golden tensor of that mixture."""
        return self.program.mixtures[tensor.routing].inner(part)

    def queue(self, records: np.ndarray) -> None:
        """Entries must come in token order, best expert first, each at the end of its expert's queue."""
        entries = 0
        for tensor in self.tensors:
            if isinstance(tensor.layout, QueueEntries):
                entries = int(np.prod(tensor.layout.shape))
                self._entries(tensor, tensor.layout, records)
        if len(records) > entries:
            self.stray("queue", records[entries:])

    def _entries(self, tensor: Tensor, layout: QueueEntries, records: np.ndarray) -> None:
        """Compare the fields of queue entries that are ``tensor``'s."""
        experts, weights = (
            np.asarray(self.golden[self._inner(tensor, part)], np.int64)
            for part in ("expert_indices", "expert_weights")
        )
        values = layout.expected_entries(experts, weights, self._queues(tensor))
        count = min(len(records), len(values))
        got = np.stack([records[field][:count].astype(np.int64) for field in layout.fields], axis=1)
        wrong = np.flatnonzero((got != values[:count]).any(axis=1))
        missing = len(values) - count
        self._count(tensor, len(values), len(wrong), missing)
        common: dict[str, Any] = {"tensor": tensor.name, "axes": layout.axes}
        if len(wrong):
            at = int(wrong[0])
            field = int((got[at] != values[at]).argmax())
            self._add(
                f"wrong {layout.fields[field]} of a queue entry",
                "queue",
                index=divmod(at, layout.shape[1]),
                token=at // layout.shape[1],
                expected=int(values[at][field]),
                got=int(got[at][field]),
                cycle=records[at]["cycle"],
                **common,
            )
        if missing:
            index = divmod(count, layout.shape[1])
            self._add(f"{missing} queue entries missing", "queue", index=index, token=index[0], **common)


def _place(tensor: Tensor, layout: WordLayout, element: int, queues: Queues) -> dict[str, Any]:
    """Fields of a mismatch that say which element it is."""
    index = layout.index(element, queues)
    return {"tensor": tensor.name, "axes": layout.axes, "index": index, "token": layout.token(index, queues)}
