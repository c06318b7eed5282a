"""The control registers: one definition for the hardware, the host and the documentation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tessera.hw.isa import TASK_INDEX_WIDTH


class Access(Enum):
    """How the host may use a register."""

    READ_ONLY = "ro"
    READ_WRITE = "rw"
    WRITE_ONLY = "wo"


@dataclass(frozen=True)
class Register:
    """One AXI4-Lite register.

    Parameters
    ----------
    offset:
        Byte address in the register file.
    access:
        What the host may do with it; a write-only register reads 0.
    width:
        Bits that it has; the others of its 32 read 0.
    doc:
        Meaning of its value.
    """

    offset: int
    access: Access
    width: int
    doc: str


def _ro(offset: int, doc: str) -> Register:
    return Register(offset, Access.READ_ONLY, 32, doc)


def _rw(offset: int, doc: str, width: int = 32) -> Register:
    return Register(offset, Access.READ_WRITE, width, doc)


def _wo(offset: int, doc: str) -> Register:
    return Register(offset, Access.WRITE_ONLY, 32, doc)


REGISTERS: dict[str, Register] = {
    "identity": _ro(0x00, "0x54455353 ('TESS')"),
    "version": _ro(0x04, "interface version"),
    "configuration": _ro(
        0x08, "log2 P | log2 T << 4 | log2 memory bytes << 8 | activation width << 16 | residual width << 24"
    ),
    "control": _wo(0x0C, "bit 0 start (ignored while busy), bit 1 abort and clear error"),
    "status": _ro(
        0x10, "bit 0 busy, bit 1 done (since the last start), bit 2 error, bit 3 saturation seen in the residual"
    ),
    "task": _rw(0x14, "selected task, 0 to 15", TASK_INDEX_WIDTH),
    "program_address": _rw(0x18, "byte address of the command stream (multiple of 64)"),
    "weight_address": _rw(0x1C, "byte address that stream addresses are relative to (multiple of 4096)"),
    "image_address": _rw(
        0x20, "byte address of the image, planar [channel][row][column] bytes (multiple of the bus width)"
    ),
    "output_address": _rw(0x24, "byte address of results and stored rows (multiple of the bus width)"),
    "window_base": _rw(0x28, "first byte address that the machine may touch"),
    "window_limit": _rw(0x2C, "first byte address beyond it"),
    "watchdog_limit": _rw(0x30, "cycles without progress before the machine halts; 0 is never"),
    "interrupt_enable": _rw(0x34, "bit 0 raises the interrupt on done, bit 1 on error", 2),
    "interrupt_clear": _wo(0x38, "any write lowers the interrupt"),
    "error_code": _ro(0x3C, "an ErrorCode"),
    "error_command": _ro(0x40, "index of the command"),
    "error_address": _ro(0x44, "address that was refused, or the stalled unit for the watchdog (a StallSource)"),
    "command_index": _ro(0x48, "command in progress"),
    "cycles": _ro(0x50, "cycles from start to done; the next seven add up to it"),
    "mac_busy": _ro(0x54, "cycles in which the array took a beat"),
    "stall_weights": _ro(0x58, "cycles the engine waited for a weight tile or parameters"),
    "stall_activations": _ro(0x5C, "cycles the engine waited for rows: of the image, LayerNorm or an earlier result"),
    "stall_softmax": _ro(0x60, "cycles the engine waited for exponentials"),
    "stall_drain": _ro(0x64, "cycles the engine waited for write-back"),
    "stall_store": _ro(0x68, "cycles the engine had no job and a STORE ran or was waited for"),
    "stall_sequencer": _ro(0x6C, "cycles the engine had no job for any other reason"),
    "read_bytes": _ro(0x70, "bytes read from memory"),
    "write_bytes": _ro(0x74, "bytes written to memory"),
    "last_owner": _ro(0x78, "last command that owned cycles, -1 if none did"),
    "stamp_select": _rw(0x7C, "command that the next registers show", 16),
    "stamp_start": _ro(0x80, "cycle at which the selected command started"),
    "stamp_end": _ro(0x84, "cycle at which it was done"),
    "stamp_previous": _ro(0x88, "the command that owned cycles before it, -1 if none did"),
    "stamp_busy": _ro(0x8C, "mac_busy at the end of its last own cycle; this and the next six modulo 2**24"),
    "stamp_weights": _ro(0x90, "stall_weights at that time"),
    "stamp_activations": _ro(0x94, "stall_activations at that time"),
    "stamp_softmax": _ro(0x98, "stall_softmax at that time"),
    "stamp_drain": _ro(0x9C, "stall_drain at that time"),
    "stamp_store": _ro(0xA0, "stall_store at that time"),
    "stamp_sequencer": _ro(0xA4, "stall_sequencer at that time"),
}
"""AXI4-Lite registers by name.

Every cycle of a run has one cause and one owner: the engine's current command or, while the engine has no job, the
next command that could not be handed out yet. Only commands in the chain from ``last_owner`` along ``stamp_previous``
owned cycles in the last run: the differences of ``stamp_busy`` and so on between one and the one before it."""

SHARE_BITS = 24
"""Width of ``stamp_busy`` and so on: a command owns fewer than 2**24 cycles of a cause."""
