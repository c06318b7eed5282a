"""Every kind of fault that the self-test injects."""

from __future__ import annotations

from collections.abc import Callable

from tessera.sw.selftest import in_machine, in_memory
from tessera.sw.selftest.faults import Fault, Subject

KINDS: tuple[Callable[[Subject], Fault], ...] = (
    in_memory.weight_bit,
    in_memory.staged_weight,
    in_memory.expert_weight,
    in_memory.gate_weight,
    in_memory.multiplier,
    in_memory.bias,
    in_memory.position,
    in_memory.channel_shift,
    in_memory.pixel,
    in_machine.function_shift,
    in_machine.destination,
    in_machine.skipped,
    in_machine.norm_ahead,
    in_machine.linear_ahead,
    in_machine.routing,
    in_machine.expert_share,
    in_machine.scratchpad,
    in_machine.residual,
    in_machine.opcode,
    in_machine.command_field,
    in_machine.window,
    in_machine.range_error,
    in_machine.read_error,
    in_machine.write_error,
    in_machine.slow_memory,
    in_machine.lost_end,
    in_machine.lost_middle,
)
"""In the order of data through the machine, errors that it detects itself at the end."""
