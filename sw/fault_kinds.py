"""Every kind of fault that the self-test injects."""

from __future__ import annotations

from collections.abc import Callable

from sw import faults_in_machine, faults_in_memory
from sw.faults import Fault, Subject

KINDS: tuple[Callable[[Subject], Fault], ...] = (
    faults_in_memory.weight_bit,
    faults_in_memory.staged_weight,
    faults_in_memory.expert_weight,
    faults_in_memory.gate_weight,
    faults_in_memory.multiplier,
    faults_in_memory.bias,
    faults_in_memory.position,
    faults_in_memory.channel_shift,
    faults_in_memory.pixel,
    faults_in_machine.gelu_shift,
    faults_in_machine.destination,
    faults_in_machine.skipped,
    faults_in_machine.norm_ahead,
    faults_in_machine.linear_ahead,
    faults_in_machine.routing,
    faults_in_machine.expert_share,
    faults_in_machine.scratchpad,
    faults_in_machine.residual,
    faults_in_machine.opcode,
    faults_in_machine.command_field,
    faults_in_machine.window,
    faults_in_machine.range_error,
    faults_in_machine.read_error,
    faults_in_machine.write_error,
    faults_in_machine.slow_memory,
    faults_in_machine.lost_end,
    faults_in_machine.lost_middle,
)
"""In the order of data through the machine, errors that it detects itself at the end."""
