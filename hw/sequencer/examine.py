"""Examination of a command: whether it runs, and whether it is well formed."""

from __future__ import annotations

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import TASK_INDEX_WIDTH, Opcode
from tessera.hw.sequencer.command import DECODED_BITS, selected, view
from tessera.hw.sequencer.rules import violations


class CommandExaminer(wiring.Component):
    """Finds out what the shown command is: of another task, malformed, of an unknown opcode, or one to hand out.

    Design: the rules of every opcode are evaluated side by side, and the opcode selects one result. All results are
    registers, because each of them decides about a hundred bits of the jobs.

    Latency: one cycle. Exactly one result is 1 from the second cycle of a command on until one cycle after its last.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    shown: In(1)
        A command is shown.
    command: In(DECODED_BITS)
        The command; stable while it is shown.
    task_index: In(4)
        The selected task.
    skipped: Out(1)
        The command belongs to other tasks only.
    malformed: Out(1)
        A field breaks a rule of its opcode (:func:`tessera.hw.sequencer.rules.violations`).
    unknown: Out(1)
        The opcode is none of ``Opcode``.
    accepted: Out(max(Opcode) + 1)
        Bit i: the command has opcode i and keeps all rules. Bit 0 is never set.
    """

    LATENCY = 1

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "shown": In(1),
                "command": In(DECODED_BITS),
                "task_index": In(TASK_INDEX_WIDTH),
                "skipped": Out(1),
                "malformed": Out(1),
                "unknown": Out(1),
                "accepted": Out(max(Opcode) + 1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Compare the task, then the opcode's rules."""
        m = Module()
        runs = selected(m, self.command, self.task_index)
        m.d.sync += [
            self.skipped.eq(self.shown & ~runs),
            self.malformed.eq(0),
            self.unknown.eq(0),
            self.accepted.eq(0),
        ]
        # A command of another task may be anything: only one that runs is held to the rules.
        with m.If(self.shown & runs):
            with m.Switch(view(self.command, Opcode.LINEAR).opcode):
                # Each opcode's rules see the bits as its own fields, whatever the command is.
                for opcode in Opcode:
                    with m.Case(opcode):
                        wrong = Cat(*violations(self._config, opcode, view(self.command, opcode))).any()
                        m.d.sync += [self.malformed.eq(wrong), self.accepted[opcode].eq(~wrong)]
                with m.Default():
                    m.d.sync += self.unknown.eq(1)
        return m
