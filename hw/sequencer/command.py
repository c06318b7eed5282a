"""How a fetched command looks to the decoders: Amaranth views of ``tessera.hw.isa``'s field table."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value, unsigned
from amaranth.lib import data

from tessera.hw import isa
from tessera.hw.isa import Opcode

DECODED_BITS = 32 * max((f.lsb + f.width + 31) // 32 for fields in isa.FIELDS.values() for f in fields)
"""Leading bits of a command that carry fields; decoders hold no more."""


def view(command: Value, opcode: Opcode) -> data.View:
    """The fields of a command of the given opcode, by name."""
    layout = data.FlexibleLayout(
        DECODED_BITS, {f.name: data.Field(unsigned(f.width), f.lsb) for f in isa.FIELDS[opcode]}
    )
    return data.View(layout, command)


def selected(m: Module, command: Value, task_index: Value) -> Value:
    """1 if the selected task runs the command; ``task_index`` is stable from a cycle before the first command on."""
    task_mask = view(command, Opcode.LINEAR).task_mask
    # A run selects its task long before its first command comes, so the decoded task may be a register.
    task = Signal.like(task_mask, name="task")
    m.d.sync += task.eq(1 << task_index)
    return (task_mask & task).any()


def copy_common(m: Module, target: data.View, source: data.View) -> None:
    """Drive the fields of ``target`` that ``source`` has, too."""
    known = {name for name, _ in source.shape()}
    m.d.comb += [target[name].eq(source[name]) for name, _ in target.shape() if name in known]
