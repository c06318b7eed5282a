"""The register map for people and programs: tables in Markdown, a C header."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from tessera.hw.config import AcceleratorConfig
from tessera.hw.control.control import IDENTITY, INTERFACE_VERSION, configuration_word
from tessera.hw.interfaces.jobs import run_state_layout
from tessera.hw.isa import ErrorCode, StallSource
from tessera.hw.register_map import REGISTERS, Access, Register
from tessera.sw.export.templates import fill

ACCESS = {
    Access.READ_ONLY: "read-only",
    Access.READ_WRITE: "read-write",
    Access.WRITE_ONLY: "write-only",
}
"""How people call the access of a register."""


@dataclass(frozen=True)
class NamedValues:
    """Values that have names.

    Parameters
    ----------
    title:
        What they say, as a heading.
    prefix:
        What the C header puts before their names.
    kind:
        The values.
    meanings:
        Meaning of each, by name.
    """

    title: str
    prefix: str
    kind: type[IntEnum]
    meanings: dict[str, str]


@dataclass(frozen=True)
class BitField:
    """Bits of a register that have a meaning of their own.

    Parameters
    ----------
    name:
        Name within the register.
    low, width:
        Lowest bit, and number of bits.
    doc:
        Meaning.
    values:
        Named values, if there are any.
    """

    name: str
    low: int
    width: int
    doc: str
    values: NamedValues | None = None

    @property
    def mask(self) -> int:
        """The field's bits, in place."""
        return ((1 << self.width) - 1) << self.low


ENUMS = (
    NamedValues(
        "Why the machine halted (`error_code`)",
        "ERROR",
        ErrorCode,
        {
            "NONE": "no error",
            "BAD_OPCODE": "a command has an unknown opcode",
            "BAD_FIELD": "a field of a command has an impossible value",
            "ADDRESS_WINDOW": "a burst would leave the window",
            "BUS_READ": "memory answered a read with an error",
            "BUS_WRITE": "memory answered a write with an error",
            "WATCHDOG": "nothing moved for watchdog_limit cycles; error_address names the unit that waits",
            "SCRATCHPAD_RANGE": "a command left the scratchpad",
            "RESIDUAL_RANGE": "a command left the residual memory",
        },
    ),
    NamedValues(
        "Which unit waits (`error_address` after the error WATCHDOG)",
        "STALL",
        StallSource,
        {
            "FETCH": "the fetch of commands",
            "STREAM": "the weight stream",
            "ENGINE": "the compute engine",
            "LAYERNORM": "LayerNorm",
            "GATE": "the gate",
            "IMAGE": "the image loader",
            "STORE": "the store of results",
        },
    ),
)
"""Named values."""

_STATE = {
    "busy": "a run is under way",
    "done": "the latest run has reached its end",
    "error": "the machine has halted because of an error",
    "saturated": "a value of the residual stream was clipped in the latest run",
}


def _state_fields() -> tuple[BitField, ...]:
    """The bits of ``status``, as the hardware lays them out."""
    return tuple(BitField(name, field.offset, field.width, _STATE[name]) for name, field in run_state_layout())


BIT_FIELDS: dict[str, tuple[BitField, ...]] = {
    "configuration": (
        BitField("log2_elements", 0, 4, "log2 of the processing elements P"),
        BitField("log2_lanes", 4, 4, "log2 of the lanes T of an element"),
        BitField("log2_memory_bytes", 8, 8, "log2 of the bytes that the memory bus is wide"),
        BitField("activation_width", 16, 8, "bits of an activation"),
        BitField("residual_width", 24, 8, "bits of a value of the residual stream, and of an output"),
    ),
    "control": (
        BitField("start", 0, 1, "starts a run; ignored while the machine is busy"),
        BitField("abort", 1, 1, "ends a run, or clears the error of a machine that has halted"),
    ),
    "status": _state_fields(),
    "interrupt_enable": (
        BitField("done", 0, 1, "a run that reaches its end raises the interrupt"),
        BitField("error", 1, 1, "an error raises the interrupt"),
    ),
    "error_code": (BitField("code", 0, 8, "why the machine halted", ENUMS[0]),),
}
"""Fields of the registers that are more than one number, lowest bits first."""


def fixed_value(name: str, config: AcceleratorConfig) -> int | None:
    """Value that a register always has in a build; None if it changes."""
    constants = {
        "identity": IDENTITY,
        "version": INTERFACE_VERSION,
        "configuration": configuration_word(config),
    }
    return constants.get(name)


def register_rows() -> list[tuple[str, Register]]:
    """The registers in the order of their offsets."""
    return sorted(REGISTERS.items(), key=lambda item: item[1].offset)


def register_table() -> str:
    """The registers, their fields and their named values as Markdown, without a heading of the first level."""
    return fill(
        "registers_table.md",
        rows=register_rows(),
        access=ACCESS,
        fields=BIT_FIELDS,
        enums=ENUMS,
        version=INTERFACE_VERSION,
    )


def registers_page(config: AcceleratorConfig, top: str) -> str:
    """The register map of a build as a page of Markdown."""
    fixed = {name: value for name in REGISTERS if (value := fixed_value(name, config)) is not None}
    return fill("registers.md", top=top, config=config, table=register_table(), fixed=fixed)


def c_header(config: AcceleratorConfig, top: str) -> str:
    """The register map as a header for C and C++: offsets, masks, named values; no function, no type."""
    return fill(
        "tessera_regs.h",
        top=top,
        config=config,
        rows=register_rows(),
        access=ACCESS,
        fields=BIT_FIELDS,
        enums=ENUMS,
        fixed={name: fixed_value(name, config) for name in REGISTERS},
    )
