"""Faults in the program, in memories on chip and on the bus: what the machine does with them is known by command."""

from __future__ import annotations

from dataclasses import replace

from tessera.golden.integer.parameters import QuantisedProduct
from tessera.hw.isa import COMMAND_BYTES, StallSource
from tessera.sim.machine.settings import Upset
from tessera.sw.selftest.faults import ASSERTION, MODEL, Fault, Place, Subject, with_parameters

WATCHDOG = 4000


# In the program -------------------------------------------------------------------------------------------------------


def function_shift(s: Subject) -> Fault:
    """The shift behind GELU in a LINEAR command."""
    shift = s.quantised.of("layer00.hidden", QuantisedProduct).function_shift + 1
    broken = with_parameters(s.quantised, "layer00.hidden", function_shift=shift)
    place = s.first_difference(s.golden(s.task, broken), "layer00.hidden", "layer00.hidden")
    assert place is not None
    return Fault(
        kind="command: shift behind a function",
        injected=f"function_shift of layer00.hidden is {shift}",
        expected=replace(place, index=(0, None), got=None),
        patches=s.field_patch("layer00.hidden", function_shift=shift),
    )


def destination(s: Subject) -> Fault:
    """A LINEAR command that writes one row too far."""
    _, _, rows = s.written("layer00.k")
    return Fault(
        kind="command: destination",
        injected=f"destination_base of layer00.k is {rows.base + rows.stride}",
        expected=Place(command="layer00.k", tensor="layer00.k", index=(1, None), error="NONE"),
        patches=s.field_patch("layer00.k", destination_base=rows.base + rows.stride),
    )


def skipped(s: Subject) -> Fault:
    """A command that no task runs."""
    return Fault(
        kind="command: skipped",
        injected="task_mask of layer00.residual is 0",
        expected=Place(command="layer00.residual", tensor="layer00.residual", index=(0, 0), error="NONE"),
        patches=s.field_patch("layer00.residual", task_mask=0),
    )


def _alone(s: Subject, name: str, tensor: str) -> Fault:
    """A command that neither waits for the one before it nor follows its rows."""
    return Fault(
        kind=f"command: {s.command(name).op} does not follow",
        injected=f"after and follow of {name} are 0",
        expected=Place(command=name, tensor=tensor, index=(None, None), error="NONE"),
        patches=s.field_patch(name, after=0, follow=0),
    )


def norm_ahead(s: Subject) -> Fault:
    """LayerNorm reads rows of the residual stream before the projection has added to them."""
    return _alone(s, "layer00.norm2", "layer00.norm2")


def linear_ahead(s: Subject) -> Fault:
    """A matrix product reads rows before LayerNorm has written them."""
    return _alone(s, "layer00.hidden", "layer00.hidden")


# In memories on chip --------------------------------------------------------------------------------------------------


def _queue_upset(s: Subject, expert: int, mask: int) -> Upset:
    """Bits of the first entry of an expert's queue, when GATE has written it and EXPERTS has not read it."""
    word = expert * s.config.max_tokens
    return Upset(cycle=s.after("layer01.experts.route", "queue"), memory="gate.queues.entries", word=word, mask=mask)


def routing(s: Subject) -> Fault:
    """Another token in an expert's queue, between GATE and EXPERTS."""
    queues = [set(queue.tokens.tolist()) for queue in s.reference["layer01.experts.queues"]]
    others = [set(range(MODEL.tokens)) - queue if queue else set() for queue in queues]
    expert = next(number for number, tokens in enumerate(others) if tokens)
    token, other = int(s.reference["layer01.experts.queues"][expert].tokens[0]), max(others[expert])
    return Fault(
        kind="routing entry",
        injected=f"token {token} at the head of the queue of expert {expert} becomes {other}",
        expected=Place(
            command="layer01.experts", tensor="layer01.experts.expert_hidden", index=(expert, 0, None), error="NONE"
        ),
        upsets=[_queue_upset(s, expert, token ^ other)],
    )


def expert_share(s: Subject) -> Fault:
    """Another gate weight in an expert's queue."""
    expert = s.busy_expert
    token_bits = (s.config.max_tokens - 1).bit_length()
    return Fault(
        kind="routing weight",
        injected=f"bit 14 of the gate weight at the head of the queue of expert {expert}",
        expected=Place(
            command="layer01.experts", tensor="layer01.experts.expert_residual", index=(expert, 0, None), error="NONE"
        ),
        upsets=[_queue_upset(s, expert, 1 << token_bits + 14)],
    )


def _upset(s: Subject, kind: str, source: str, bit: int, at: tuple[int, int], shows: tuple[str, str]) -> Fault:
    """A bit of a tensor on chip, after its command; ``shows``: command and tensor that read it next."""
    command, space, _ = s.written(source)
    memory, word, lsb = s.place_of(source, *at)
    return Fault(
        kind=kind,
        injected=f"bit {bit} of {source} token {at[0]}, channel {at[1]}: {memory} word {word}, bit {lsb + bit}",
        expected=Place(command=shows[0], tensor=shows[1], index=(at[0], None), error="NONE"),
        upsets=[Upset(cycle=s.after(command.name, space), memory=memory, word=word, mask=1 << lsb + bit)],
    )


def scratchpad(s: Subject) -> Fault:
    """A bit of the scratchpad turns over between two commands."""
    return _upset(s, "scratchpad upset", "layer00.norm1", 6, (4, 9), ("layer00.q", "layer00.q"))


def residual(s: Subject) -> Fault:
    """A bit of the residual memory turns over between two commands, in the last row: LayerNorm follows the others."""
    at = (MODEL.tokens - 1, 17)
    return _upset(s, "residual memory upset", "embed", 14, at, ("layer00.norm1", "layer00.norm1"))


# On the bus, and what the machine refuses -----------------------------------------------------------------------------


def read_error(s: Subject) -> Fault:
    """A bus error on a weight of a head; prefetching meets it before its command."""
    name = "head.segmentation"
    address = next(a for a in range(s.program.map.weights, s.program.map.image, 8) if s.block_of(a) == name)
    return Fault(
        kind="bus error, read",
        injected=f"reads of the weights of {name} answer SLVERR",
        expected=Place(error="BUS_READ", block=name),
        memory={"error_low": address, "error_high": address + s.command(name).stream_bytes},
    )


def write_error(s: Subject) -> Fault:
    """A bus error on the result."""
    low = s.program.map.output
    return Fault(
        kind="bus error, write",
        injected=f"writes to the result at {low:#x} answer SLVERR",
        expected=Place(error="BUS_WRITE", command="store.segmentation", address=low),
        memory={"error_low": low, "error_high": low + s.program.map.output_bytes},
    )


def opcode(s: Subject) -> Fault:
    """An opcode that does not exist."""
    address = s.program.map.program + s.command("layer00.attention").index * COMMAND_BYTES
    return Fault(
        kind="malformed opcode",
        injected="the opcode of layer00.attention is 0xee",
        expected=Place(error="BAD_OPCODE", command="layer00.attention", address=0xEE),
        patches=[(address, b"\xee")],
    )


def command_field(s: Subject) -> Fault:
    """A field with an impossible value."""
    return Fault(
        kind="malformed field",
        injected="top_k of layer01.experts.route is 0",
        expected=Place(error="BAD_FIELD", command="layer01.experts.route"),
        patches=s.field_patch("layer01.experts.route", top_k=0),
    )


def window(s: Subject) -> Fault:
    """A result address outside of the host's window."""
    offset = s.program.map.limit - s.program.map.output
    return Fault(
        kind="address outside the window",
        injected=f"the offset of store.segmentation is {offset:#x}",
        expected=Place(error="ADDRESS_WINDOW", command="store.segmentation", address=s.program.map.limit),
        patches=s.field_patch("store.segmentation", offset=offset),
    )


def range_error(s: Subject) -> Fault:
    """A scratchpad address that does not exist."""
    words = s.config.scratchpad_words
    return Fault(
        kind="address beyond the scratchpad",
        injected=f"destination_base of layer00.norm1 is {words - 1}",
        expected=Place(error="SCRATCHPAD_RANGE", command="layer00.norm1", address=words),
        patches=s.field_patch("layer00.norm1", destination_base=words - 1),
    )


def slow_memory(s: Subject) -> Fault:
    """A memory so slow that the watchdog strikes; restart has to wait for what it still owes."""
    return Fault(
        kind="watchdog",
        injected=f"memory answers after {2 * WATCHDOG} cycles, the watchdog waits {WATCHDOG}",
        expected=Place(error="WATCHDOG", unit=StallSource.FETCH.name),
        memory={"read_latency": 2 * WATCHDOG},
        watchdog=WATCHDOG,
    )


def lost_end(s: Subject) -> Fault:
    """The last beat of the weight stream never comes."""
    beats = s.clean.counters["read_bytes"] // s.config.memory_bytes
    return Fault(
        kind="dropped beat, the last",
        injected=f"beat {beats - 1} of all reads never comes",
        expected=Place(error="WATCHDOG", unit=StallSource.STREAM.name, command="head.segmentation"),
        memory={"drop_read_beat": beats - 1},
        watchdog=WATCHDOG,
        reset_after=True,
    )


def lost_middle(s: Subject) -> Fault:
    """A beat within a burst never comes: the burst ends too early, which the read master asserts against."""
    beats = s.clean.counters["read_bytes"] // s.config.memory_bytes
    return Fault(
        kind="dropped beat, within a burst",
        injected=f"beat {beats // 2} of all reads never comes",
        expected=Place(error=ASSERTION, unit="read_master"),
        memory={"drop_read_beat": beats // 2},
        watchdog=WATCHDOG,
        reset_after=True,
    )
