"""What the compute engine must issue: every beat of a job in order, with its step and what it needs in the banks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.compute import ParameterMode, StepKind
from tessera.hw.interfaces.jobs import engine_job_layout
from tessera.hw.isa import Destination

WRAP = 0xFFFF
Queues = Sequence[Sequence[tuple[int, int]]]
ATTENTION_LENGTHS = ("windows", "queries", "keys", "heads", "head_words", "value_words")
LINEAR_LENGTHS = ("steps", "words", "stationary_rows")
"""Fields of which none may be 0, or the job has no work."""


@dataclass(frozen=True, kw_only=True)
class Beat:
    """One expected beat.

    Members: ``fields`` of ``beat_layout``; ``broadcast`` scratchpad word; ``step`` fields of
    ``step_layout`` on the last beat; ``rows`` the scratchpad word that each element must hold at the stationary
    address (None: zeros), for held rows; ``tile`` the weight tile's or the query tile's number otherwise.
    """

    fields: Mapping[str, int]
    broadcast: int
    step: Mapping[str, int] | None
    rows: tuple[int | None, ...] | None = None
    tile: int | None = None


def blank_job(config: AcceleratorConfig, **fields: int) -> dict[str, int]:
    """Every field of a job, zero unless given."""
    return dict.fromkeys(engine_job_layout(config).members, 0) | fields


def tiles(job: Mapping[str, int], config: AcceleratorConfig) -> int:
    """Streamed weight tiles that a job consumes."""
    empty = 0 in (job["steps"], job["words"])
    return 0 if job["attention"] or job["swapped"] or empty else -(-job["stationary_rows"] // config.elements)


def beats(
    config: AcceleratorConfig, job: Mapping[str, int], queues: Queues, first_tile: int, first_set: int
) -> Iterator[Beat]:
    """Every beat of a job; ``first_tile`` and ``first_set`` count weight tiles and parameter sets of earlier jobs."""
    needed = ATTENTION_LENGTHS if job["attention"] else LINEAR_LENGTHS
    if 0 not in (job[name] for name in needed):
        attention = job["attention"]
        yield from _attention(config, job) if attention else _linear(config, job, queues, first_tile, first_set)


def _held(config: AcceleratorConfig, first: int, rows: int, base: int, stride: int) -> tuple[int | None, ...]:
    """Where element e's row starts, for the tile whose first row is ``first``."""
    numbers = range(first, first + config.elements)
    return tuple((base + row * stride) & WRAP if row < rows else None for row in numbers)


def _step(**fields: int) -> dict[str, int]:
    names = "kind mode parameter_index address column activated weighted attention first buffer flush rows row_stride"
    names += " row_last job_last"
    return dict.fromkeys(names.split(), 0) | {k: v & WRAP for k, v in fields.items()}


def _one_step(
    words: int,
    *,
    broadcast: int,
    stationary: int,
    step: dict,
    rows: Any = None,
    bias: tuple[int, ...] = (),
    **flags: Any,
) -> Iterator[Beat]:
    """The beats of one step; those of ``bias`` read these words, and factors in place of held rows."""
    tile, factors, own = flags.pop("tile", None), flags.pop("factors", ()), words
    words += len(bias)
    for word in range(words):
        fields = {
            "first": int(word == 0),
            "last": int(word == words - 1),
            "stationary_address": stationary + word,
            **flags,
        }
        address, first, offset = broadcast + word, rows, word
        if word >= own:
            address, offset = bias[word - own], word - own
            first = [None if row is None else factor for row, factor in zip(rows, factors, strict=True)]
        held = None if first is None else tuple(None if row is None else (row + offset) & WRAP for row in first)
        last = step if word == words - 1 else None
        yield Beat(fields=fields, broadcast=address & WRAP, step=last, rows=held, tile=tile)


def _linear(
    config: AcceleratorConfig, job: Mapping[str, int], queues: Queues, first_tile: int, first_set: int
) -> Iterator[Beat]:
    p, score, swapped = config.elements, job["destination"] == Destination.SCORE, job["swapped"]
    windows, tiles = job["windows"] if swapped else 1, -(-job["stationary_rows"] // p)
    flags = {name: job[name] for name in ("wide", "broadcast_unsigned")} | {"padded": 0, "stationary_unsigned": 0}
    for number, (window, tile) in enumerate(product(range(windows), range(tiles))):
        last = number == windows * tiles - 1
        stationary = (
            config.attention_buffer(number % 2) if swapped else (first_tile + tile) % 2 * config.weight_tile_words
        )
        base = job["stationary_base"] + window * job["stationary_window"]
        held = _held(config, tile * p, job["stationary_rows"], base, job["stationary_stride"])
        for s in range(job["steps"]):
            if job["convolution"]:
                first = first_tile, first_set
                yield from _convolution(config, job, stationary, flags, tile=tile, step=s, first=first)
                continue
            token, weight = entry(config, job, queues, s) if job["gather"] or job["scatter"] else (0, None)
            source, target = token if job["gather"] else s, token if job["scatter"] else s
            address = job["destination_base"] + target * job["destination_stride"] + tile * p // config.lanes
            address += window * job["destination_window"]
            step = _step(
                kind=job["destination"],
                mode=ParameterMode.STEP if swapped else ParameterMode.ELEMENT,
                parameter_index=first_set + (s if swapped else tile * p),
                address=tile * job["steps"] + s if score else address,
                column=0 if score else tile * p % config.lanes // p,
                activated=int(job["function"] != 0 or job["destination"] == Destination.RESIDUAL_MULTIPLY),
                weighted=job["scatter"] & job["routed"],
                first=s == 0,
                row_stride=job["destination_stride"],
                row_last=last,
                job_last=last and s == job["steps"] - 1,
            )
            yield from _one_step(
                job["words"],
                broadcast=job["broadcast_base"] + source * job["broadcast_stride"],
                stationary=stationary,
                step=step if weight is None else step | {"gate_weight": weight},
                rows=held if swapped else None,
                tile=None if swapped else first_tile + tile,
                **flags,
            )


def entry(config: AcceleratorConfig, job: Mapping[str, int], queues: Queues, step: int) -> tuple[int, int]:
    """Row that an entry of the job's list names, and its gate weight; a list of rows uses the bits of both."""
    expert, position = divmod(job["list"] + step, config.max_tokens)
    token, weight = queues[expert][position]
    row = token | weight << (config.max_tokens - 1).bit_length()
    return token if job["routed"] else row & WRAP, weight


def taps(job: Mapping[str, int], tile: int, step: int) -> Iterator[tuple[int, bool]]:
    """Scratchpad word of each tap of a step in the order of the reduction, and whether padding takes its place."""
    row, column = divmod(step, job["output_columns"])
    group = tile // (job["group_tiles"] or 32)
    for line in range(job["taps_y"]):
        for tap in range(job["taps_x"]):
            y = row * job["stride_y"] - job["pad_top"] + line
            x = column * job["stride_x"] - job["pad_left"] + tap
            nearest = min(max(y, 0), job["input_rows"] - 1), min(max(x, 0), job["input_columns"] - 1)
            word = nearest[0] * job["line_stride"] + nearest[1] * job["broadcast_stride"] + group * job["group_words"]
            yield job["broadcast_base"] + word, (y, x) != nearest and not job["clamp"]


def _convolution(
    config: AcceleratorConfig,
    job: Mapping[str, int],
    stationary: int,
    flags: Mapping[str, int],
    *,
    tile: int,
    step: int,
    first: tuple[int, int],
) -> Iterator[Beat]:
    """One step: tap by tap, and an address that jumps from row to row of the outputs."""
    last_tile = (tile + 1) * config.elements >= job["stationary_rows"]
    row = step // job["output_columns"]
    moved = (step - row) * job["destination_stride"] + row * job["destination_jump"]
    target = _step(
        kind=job["destination"],
        mode=ParameterMode.ELEMENT,
        parameter_index=first[1] + tile * config.elements,
        address=job["destination_base"] + moved + tile * config.elements // config.lanes,
        column=tile * config.elements % config.lanes // config.elements,
        activated=int(job["function"] != 0 or job["destination"] == Destination.RESIDUAL_MULTIPLY),
        first=step == 0,
        row_stride=job["destination_stride"],
        row_last=last_tile,
        job_last=last_tile and step == job["steps"] - 1,
    )
    words = [(base + word, padded) for base, padded in taps(job, tile, step) for word in range(job["tap_words"])]
    for word, (address, padded) in enumerate(words):
        last = word == len(words) - 1
        fields = {"first": word == 0, "last": last, "padded": padded, "stationary_address": stationary + word}
        yield Beat(
            fields=flags | fields,
            broadcast=address & WRAP,
            step=target if last else None,
            tile=first[0] + tile,
        )


def _attention(config: AcceleratorConfig, job: Mapping[str, int]) -> Iterator[Beat]:
    per_head = -(-job["queries"] // config.elements)
    order = list(product(range(job["windows"]), range(job["heads"]), range(per_head)))
    for j in range(len(order) + 1):
        if j < len(order):
            yield from _scores(config, job, j, *order[j])
        if j > 0:
            yield from _values(config, job, j - 1, *order[j - 1])


def _scores(
    config: AcceleratorConfig, job: Mapping[str, int], j: int, window: int, head: int, tile: int
) -> Iterator[Beat]:
    """QK(j)."""
    words = job["head_words"]
    base, stride = job["query_base"] + window * job["query_window"] + head * words, job["query_stride"]
    keys = job["key_base"] + window * job["key_window"] + head * words
    factors = [job["bias_base"] + element * job["bias_words"] for element in range(config.elements)]
    tiles, shared = -(-job["queries"] // config.elements), job["bias_shared"]
    first_bias = factors[-1] + ((0 if shared else head * tiles) + tile) * job["keys"] * job["bias_words"]
    first_bias += job["bias_words"]
    held = _held(config, tile * config.elements, job["queries"], base, stride)
    for key in range(job["keys"]):
        yield from _one_step(
            words,
            broadcast=keys + key * job["key_stride"],
            stationary=config.attention_buffer(j % 2),
            step=_step(
                kind=StepKind.SCORE,
                mode=ParameterMode.SCORE,
                address=j % 2 * config.max_tokens + key,
                attention=1,
                first=key == 0,
                buffer=j % 2,
                row_stride=job["destination_stride"],
            ),
            rows=held,
            bias=tuple(first_bias + key * job["bias_words"] + word for word in range(job["bias_words"])),
            factors=factors,
            padded=0,
            wide=0,
            broadcast_unsigned=0,
            stationary_unsigned=0,
        )


def _values(
    config: AcceleratorConfig, job: Mapping[str, int], j: int, window: int, head: int, tile: int
) -> Iterator[Beat]:
    """AV(j)."""
    lanes, p = config.lanes, config.elements
    channels = job["value_words"] * lanes
    for channel in range(channels):
        word = tile * p * job["destination_stride"] + head * job["value_words"] + channel // lanes
        word += window * job["destination_window"]
        row = job["value_base"] + window * job["value_window"] + (head * channels + channel) * job["value_stride"]
        yield from _one_step(
            -(-job["keys"] // lanes),
            broadcast=row,
            stationary=config.attention_buffer(j % 2) + config.query_words,
            step=_step(
                kind=StepKind.ATTENTION,
                mode=ParameterMode.QUERY,
                address=job["destination_base"] + word,
                attention=1,
                first=channel == 0,
                buffer=j % 2,
                flush=channel % lanes == lanes - 1,
                rows=min(p, job["queries"] - tile * p),
                row_stride=job["destination_stride"],
            ),
            tile=j,
            padded=0,
            wide=0,
            broadcast_unsigned=0,
            stationary_unsigned=1,
        )
