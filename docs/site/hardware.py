"""Commands, registers, number formats, presets and boards, from their definitions in ``hw/``."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, IntFlag

from docs.site.attributes import sentences
from docs.site.markdown import code, table
from tessera.hw.boards.board import BOARDS
from tessera.hw.formats import ACTIVATION_WIDTHS, Format, Numerics
from tessera.hw.isa import (
    FIELDS,
    CycleCause,
    Destination,
    ErrorCode,
    Field,
    Follow,
    Function,
    NormMode,
    Opcode,
    StallSource,
    Unit,
)
from tessera.hw.presets import PRESETS
from tessera.sw.export.registers import register_table

_COMMON = 4
"""Fields that every command has."""


def registers() -> str:
    """Every register, the fields of those that have some, and their named values."""
    return register_table()


def commands() -> str:
    """The fields that all commands share, then each command with its own."""
    parts = ["## Fields of every command", "", _fields(FIELDS[Opcode.END])]
    for opcode in Opcode:
        own = FIELDS[opcode][_COMMON:]
        parts += ["", f"## {opcode.name}", "", f"Opcode {opcode.value}.", ""]
        parts.append(_fields(own) if own else "It has no fields of its own: the program ends.")
    return "\n".join(parts)


def _fields(chosen: Sequence[Field]) -> str:
    rows = [(f"{one.lsb + one.width - 1}:{one.lsb}", code(one.name), str(one.width), one.doc) for one in chosen]
    return table(("bits", "field", "width", "meaning"), rows)


def codes() -> str:
    """Values that fields and registers take."""
    titles: dict[type[IntEnum] | type[IntFlag], str] = {
        Unit: "Units, as bits of `after`",
        Follow: "Values of `follow`",
        Destination: "Values of `destination`",
        Function: "Values of `function`",
        NormMode: "Values of `mode`",
        ErrorCode: "Error codes",
        StallSource: "What the watchdog names",
        CycleCause: "Causes of a cycle",
    }
    parts = []
    for kind, title in titles.items():
        said = sentences(kind)
        columns = ("value", "name", "meaning") if set(said) & set(kind.__members__) else ("value", "name")
        rows = [(str(member.value), code(name), said.get(name, ""))[: len(columns)] for name, member in _members(kind)]
        parts += [f"## {title}", "", table(columns, rows), ""]
    return "\n".join(parts)


def _members(kind: type[IntEnum] | type[IntFlag]) -> list[tuple[str, IntEnum | IntFlag]]:
    return list(kind.__members__.items())


def formats() -> str:
    """Every number format, for each width of activations."""
    machines = [PRESETS["tiny"].with_activation_width(width).numerics for width in ACTIVATION_WIDTHS]
    said = sentences(Numerics)
    names = [name for name in dir(Numerics) if isinstance(getattr(machines[0], name), Format)]
    order = sorted(names, key=list(said).index)
    rows = [(code(name), *(_format(getattr(one, name)) for one in machines), said[name]) for name in order]
    return table(("format", *(f"A = {width}" for width in ACTIVATION_WIDTHS), "meaning"), rows)


def _format(form: Format) -> str:
    return f"{'s' if form.signed else 'u'}{form.width}" + (f", {form.fraction} fraction" if form.fraction else "")


def presets() -> str:
    """Every preset with the sizes that one compares first."""
    rows = [
        (
            code(name),
            f"{one.elements} x {one.lanes}",
            str(one.memory_bytes),
            f"{one.scratchpad_words:,}",
            f"{one.residual_words:,}",
            str(one.max_tokens),
            f"{one.max_experts}, top {one.max_top_k}",
        )
        for name, one in PRESETS.items()
    ]
    columns = ("preset", "P x T", "bus, bytes per cycle", "scratchpad words", "residual words", "tokens", "experts")
    return table(columns, rows)


def boards() -> str:
    """Every board and what is built for it."""
    rows = [(code(name), one.title, code(one.preset), f"{one.clock_hz / 1e6:g} MHz") for name, one in BOARDS.items()]
    return table(("board", "what it is", "preset", "clock"), rows)
