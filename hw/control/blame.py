"""Blame: the command that an error belongs to."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.pipeline import delay
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.errors import MemoryUse, error_record_layout
from tessera.hw.interfaces.jobs import place_layout
from tessera.hw.interfaces.memory import BEYOND_LATENCY
from tessera.hw.interfaces.sequencer import ProgramProgress
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.isa import COMMAND_INDEX_WIDTH, ErrorCode


class Blame(wiring.Component):
    """Finds the command that an error of this cycle belongs to.

    In this order: the user of an address beyond a memory, a STORE whose burst failed, a command that the sequencer
    refused, or else the command that was handed out last.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    progress: In(ProgramProgress)
        The sequencer.
    store_failed: In(1), store_place: In(place)
        A burst of the store unit failed; place of its job.
    scratchpad, residual: In(MemoryUse)
        Use of the memories.
    command: Out
        Index of the command.
    scratchpad_error, residual_error: Out(Strobe(error_record))
        Errors of the memories, from their reports.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "progress": In(ProgramProgress(config)),
                "store_failed": In(1),
                "store_place": In(place_layout(config)),
                "scratchpad": In(MemoryUse(config)),
                "residual": In(MemoryUse(config)),
                "command": Out(COMMAND_INDEX_WIDTH),
                "scratchpad_error": Out(Strobe(error_record_layout())),
                "residual_error": Out(Strobe(error_record_layout())),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Collect the evidence, the surest last, because a later one overrides an earlier one."""
        m = Module()
        latest = Signal(COMMAND_INDEX_WIDTH)
        started, index = (delay(m, value, 1, name="latest") for value in (self.progress.started, self.progress.index))
        with m.If(started):
            m.d.sync += latest.eq(index)
        m.d.comb += self.command.eq(latest)
        evidence = [
            (self.progress.error.valid, self.progress.index),
            (self.store_failed, self.store_place.command),
        ]
        for name, memory, error, code in (
            ("residual", self.residual, self.residual_error, ErrorCode.RESIDUAL_RANGE),
            ("scratchpad", self.scratchpad, self.scratchpad_error, ErrorCode.SCRATCHPAD_RANGE),
        ):
            user = Signal(place_layout(self._config), name=f"{name}_user")
            m.d.comb += user.eq(Mux(memory.writer.valid, memory.writer.payload, memory.reader))
            # The memory reports an address some cycles after its use, so the user is remembered as long.
            user = delay(m, user, BEYOND_LATENCY, name=f"{name}_user")
            evidence.append((memory.beyond.valid, user.command))
            m.d.comb += [
                error.valid.eq(memory.beyond.valid),
                error.payload.code.eq(code),
                error.payload.address.eq(memory.beyond.payload),
            ]
        for holds, command in evidence:
            with m.If(holds):
                m.d.comb += self.command.eq(command)
        return m
