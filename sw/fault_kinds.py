"""Every kind of fault that the self-test injects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from golden.integer.parameters import QuantisedExperts, QuantisedLinear, QuantisedMlp
from hw.isa import COMMAND_BYTES, StallSource
from sim.machine import Upset
from sw.faults import ASSERTION, MODEL, Fault, Place, Subject, element, with_layer

WATCHDOG = 4000


def _first(candidates: Iterator[Fault | None]) -> Fault:
    """The first candidate that makes a difference."""
    fault = next((candidate for candidate in candidates if candidate is not None), None)
    if fault is None:
        raise ValueError("no candidate of this fault changes the tensor where it should show; choose another seed")
    return fault


def _flipped(value: int, bit: int) -> int:
    """An 8-bit weight with one bit inverted."""
    return ((int(value) & 0xFF ^ 1 << bit) ^ 0x80) - 0x80


def _mlp(subject: Subject) -> QuantisedMlp:
    mlp = subject.quantised.layers[0].mlp
    assert isinstance(mlp, QuantisedMlp)
    return mlp


def _experts(subject: Subject) -> QuantisedExperts:
    mlp = subject.quantised.layers[1].mlp
    assert isinstance(mlp, QuantisedExperts)
    return mlp


# In the DRAM ----------------------------------------------------------------------------------------------------------


def weight_bit(s: Subject) -> Fault:
    """A weight that reads with one bit inverted."""

    def candidate(output: int) -> Fault | None:
        mlp, at = _mlp(s), (output, 7)
        weight = element(mlp.first.weight, at, _flipped(mlp.first.weight[at], 6))
        broken = with_layer(s.quantised, 0, mlp=replace(mlp, first=replace(mlp.first, weight=weight)))
        fault = s.broken_model("weight bit", "", broken, "layer00.fc1", "layer00.hidden")
        if fault is None:
            return None
        ((address, _),) = fault.patches
        return replace(
            fault,
            injected=f"bit 6 of layer00.fc1 weight {at} reads inverted, byte {address:#x}",
            patches=(),
            memory={"flip_address": address, "flip_bit": 6},
        )

    return _first(candidate(output) for output in range(5, 48))


def staged_weight(s: Subject) -> Fault:
    """A weight of V, which the machine stages on chip, reads with one bit inverted."""
    at = (9, 5)
    attention = s.quantised.layers[0].attention
    value = _flipped(attention.v.weight[at], 2)
    broken = with_layer(
        s.quantised,
        0,
        attention=replace(attention, v=replace(attention.v, weight=element(attention.v.weight, at, value))),
    )
    ((address, _),) = s.difference(broken)
    # Heads start at words of their own, so staged rows are padded per head.
    head, channel = divmod(at[0], s.program.model.head_dim)
    rows = s.tensor("layer00.v_weights").shape[0] // s.program.model.heads
    return Fault(
        kind="staged weight bit",
        injected=f"bit 2 of layer00.value weight {at} reads inverted, byte {address:#x}",
        expected=Place(
            command="layer00.v_weights",
            tensor="layer00.v_weights",
            index=(head * rows + channel, at[1]),
            got=value,
            error="NONE",
        ),
        memory={"flip_address": address, "flip_bit": 2},
    )


def _query(s: Subject, kind: str, text: str, change: Callable[[QuantisedLinear, int], QuantisedLinear]) -> Fault:
    """A changed parameter set of one channel of Q."""
    attention = s.quantised.layers[1].attention
    return _first(
        s.broken_model(
            kind,
            f"{text} of layer01.query channel {channel}",
            with_layer(s.quantised, 1, attention=replace(attention, q=change(attention.q, channel))),
            "layer01.query",
            "layer01.q",
        )
        for channel in range(11, 24)
    )


def multiplier(s: Subject) -> Fault:
    """One requantiser multiplier in memory."""

    def change(linear: QuantisedLinear, channel: int) -> QuantisedLinear:
        value = int(linear.multiplier[channel]) ^ 1 << 14
        return replace(linear, multiplier=element(linear.multiplier, channel, value))

    return _query(s, "requantiser multiplier", "bit 14 of the multiplier", change)


def bias(s: Subject) -> Fault:
    """One bias in memory."""

    def change(linear: QuantisedLinear, channel: int) -> QuantisedLinear:
        value = int(linear.bias[channel]) ^ 1 << 11
        return replace(linear, bias=element(linear.bias, channel, value))

    return _query(s, "bias", "bit 11 of the bias", change)


def expert_weight(s: Subject) -> Fault:
    """A weight bit of an expert's first matrix: only tokens that were routed there suffer."""
    mlp = _experts(s)
    expert = _busy_expert(s)

    def candidate(output: int) -> Fault | None:
        experts, at = list(mlp.experts), (output, 3)
        first = experts[expert].first
        weight = element(first.weight, at, _flipped(first.weight[at], 6))
        experts[expert] = replace(experts[expert], first=replace(first, weight=weight))
        return s.broken_model(
            "expert weight bit",
            f"bit 6 of layer01 expert {expert} first weight {at}",
            with_layer(s.quantised, 1, mlp=replace(mlp, experts=tuple(experts))),
            "layer01.experts",
            "layer01.expert_hidden",
        )

    return _first(candidate(output) for output in range(16))


def gate_weight(s: Subject) -> Fault:
    """A 16-bit weight of the gate."""
    mlp, at = _experts(s), (2, 13)
    gate = mlp.gates[s.task]
    weight = element(gate.weight, at, int(gate.weight[at]) ^ 1 << 12)
    gates = element(np.array(mlp.gates, object), s.task, 0)
    gates[s.task] = replace(gate, weight=weight)
    return _first(
        iter(
            [
                s.broken_model(
                    "gate weight bit",
                    f"bit 12 of layer01.gate.segmentation weight {at}",
                    with_layer(s.quantised, 1, mlp=replace(mlp, gates=tuple(gates))),
                    "layer01.gate.segmentation",
                    "layer01.gate_scores",
                )
            ]
        )
    )


def position(s: Subject) -> Fault:
    """A word of the position embedding."""
    at = (3, 10)
    initial = element(s.quantised.initial_residual, at, int(s.quantised.initial_residual[at]) ^ 1 << 9)
    return _first(
        iter(
            [
                s.broken_model(
                    "position embedding",
                    f"bit 9 of the word of token {at[0]}, channel {at[1]}",
                    replace(s.quantised, initial_residual=initial),
                    "residual.init",
                    "residual.init",
                )
            ]
        )
    )


def channel_shift(s: Subject) -> Fault:
    """A LayerNorm channel shift."""
    norm = s.quantised.layers[1].norm2

    def candidate(channel: int) -> Fault | None:
        shift = element(norm.channel_shift, channel, int(norm.channel_shift[channel]) ^ 1)
        broken = with_layer(s.quantised, 1, norm2=replace(norm, channel_shift=shift))
        text = f"bit 0 of the shift of layer01.norm2 channel {channel}"
        return s.broken_model("LayerNorm channel shift", text, broken, "layer01.norm2", "layer01.norm2")

    return _first(candidate(channel) for channel in range(6, 24))


def pixel(s: Subject) -> Fault:
    """A pixel of the image, after the golden model saw it."""
    channel, row, column = 1, 10, 21
    offset = int(np.ravel_multi_index((channel, row, column), s.image.shape))
    image = s.image.copy()
    image[channel, row, column] ^= 0x20
    place = s.first_difference(s.golden(s.task, image=image), "image", "pixels")
    assert place is not None
    return Fault(
        kind="pixel",
        injected=f"bit 5 of the image byte at channel {channel}, row {row}, column {column}",
        expected=place,
        patches=[(s.program.map.image + offset, image[channel, row, column].tobytes())],
    )


# In the program -------------------------------------------------------------------------------------------------------


def gelu_shift(s: Subject) -> Fault:
    """The shift behind GELU in a LINEAR command."""
    mlp = _mlp(s)
    broken = with_layer(s.quantised, 0, mlp=replace(mlp, gelu_shift=mlp.gelu_shift + 1))
    place = s.first_difference(s.golden(s.task, broken), "layer00.fc1", "layer00.hidden")
    assert place is not None
    return Fault(
        kind="command: GELU shift",
        injected=f"gelu_shift of layer00.fc1 is {mlp.gelu_shift + 1}",
        expected=replace(place, index=(0, None), got=None),
        patches=s.field_patch("layer00.fc1", gelu_shift=mlp.gelu_shift + 1),
    )


def destination(s: Subject) -> Fault:
    """A LINEAR command that writes one row too far."""
    tensor = s.tensor("layer00.k")
    return Fault(
        kind="command: destination",
        injected=f"destination_base of layer00.key is {tensor.base + tensor.stride}",
        expected=Place(command="layer00.key", tensor="layer00.k", index=(1, None), error="NONE"),
        patches=s.field_patch("layer00.key", destination_base=tensor.base + tensor.stride),
    )


def skipped(s: Subject) -> Fault:
    """A command that no task runs."""
    return Fault(
        kind="command: skipped",
        injected="task_mask of layer00.fc2 is 0",
        expected=Place(command="layer00.fc2", tensor="layer00.residual", index=(0, 0), error="NONE"),
        patches=s.field_patch("layer00.fc2", task_mask=0),
    )


# In memories on chip --------------------------------------------------------------------------------------------------


def _busy_expert(s: Subject) -> int:
    """The expert with the longest queue."""
    return int(np.argmax([len(queue.tokens) for queue in s.reference["layer01.queues"]]))


def _queue_upset(s: Subject, expert: int, mask: int) -> Upset:
    """Bits of the first entry of an expert's queue, when GATE has written it and EXPERTS has not read it."""
    word = expert * s.config.max_tokens
    return Upset(cycle=s.after("layer01.route", "queue"), memory="gate.queues.entries", word=word, mask=mask)


def routing(s: Subject) -> Fault:
    """Another token in an expert's queue, between GATE and EXPERTS."""
    queues = [set(queue.tokens.tolist()) for queue in s.reference["layer01.queues"]]
    others = [set(range(MODEL.tokens)) - queue if queue else set() for queue in queues]
    expert = next(number for number, tokens in enumerate(others) if tokens)
    token, other = int(s.reference["layer01.queues"][expert].tokens[0]), max(others[expert])
    return Fault(
        kind="routing entry",
        injected=f"token {token} at the head of the queue of expert {expert} becomes {other}",
        expected=Place(
            command="layer01.experts", tensor="layer01.expert_hidden", index=(expert, 0, None), error="NONE"
        ),
        upsets=[_queue_upset(s, expert, token ^ other)],
    )


def expert_share(s: Subject) -> Fault:
    """Another gate weight in an expert's queue."""
    expert = _busy_expert(s)
    token_bits = (s.config.max_tokens - 1).bit_length()
    return Fault(
        kind="routing weight",
        injected=f"bit 14 of the gate weight at the head of the queue of expert {expert}",
        expected=Place(
            command="layer01.experts", tensor="layer01.expert_residual", index=(expert, 0, None), error="NONE"
        ),
        upsets=[_queue_upset(s, expert, 1 << token_bits + 14)],
    )


def _upset(s: Subject, kind: str, source: str, bit: int, at: tuple[int, int], shows: tuple[str, str]) -> Fault:
    """A bit of a tensor on chip, after its command; ``shows``: command and tensor that read it next."""
    tensor = s.tensor(source)
    command = next(c.name for c in s.program.commands if tensor in c.tensors)
    memory, word, lsb = s.place_of(tensor, at[0] - tensor.first_row, at[1])
    return Fault(
        kind=kind,
        injected=f"bit {bit} of {source} token {at[0]}, channel {at[1]}: {memory} word {word}, bit {lsb + bit}",
        expected=Place(command=shows[0], tensor=shows[1], index=(at[0], None), error="NONE"),
        upsets=[Upset(cycle=s.after(command, tensor.space), memory=memory, word=word, mask=1 << lsb + bit)],
    )


def scratchpad(s: Subject) -> Fault:
    """A bit of the scratchpad turns over between two commands."""
    return _upset(s, "scratchpad upset", "layer00.norm1", 6, (4, 9), ("layer00.query", "layer00.q"))


def residual(s: Subject) -> Fault:
    """A bit of the residual memory turns over between two commands."""
    return _upset(s, "residual memory upset", "residual.embed", 14, (5, 17), ("layer00.norm1", "layer00.norm1"))


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
        injected="top_k of layer01.route is 0",
        expected=Place(error="BAD_FIELD", command="layer01.route"),
        patches=s.field_patch("layer01.route", top_k=0),
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


KINDS: tuple[Callable[[Subject], Fault], ...] = (
    weight_bit,
    staged_weight,
    expert_weight,
    gate_weight,
    multiplier,
    bias,
    position,
    channel_shift,
    pixel,
    gelu_shift,
    destination,
    skipped,
    routing,
    expert_share,
    scratchpad,
    residual,
    opcode,
    command_field,
    window,
    range_error,
    read_error,
    write_error,
    slow_memory,
    lost_end,
    lost_middle,
)
"""In the order of data through the machine, errors that it detects itself at the end."""
