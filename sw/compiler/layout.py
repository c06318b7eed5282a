"""Scratchpad allocation by lifetime, and the checks that a model fits a configuration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

from tessera.hw.presets import PRESETS
from tessera.program.tensors import tensor_name
from tessera.sw.compiler.geometry import Geometry, Tiling, tilings


class CapacityError(ValueError):
    """The model does not fit the configuration's memories; the message lists sizes and the way out."""


@dataclass(frozen=True, kw_only=True)
class Buffer:
    """The scratchpad region of a tensor, alive from phase ``start`` to phase ``end``, both included."""

    part: str
    layer: int | None = None
    words: int
    start: int
    end: int

    @property
    def name(self) -> str:
        """Name of the tensor."""
        return tensor_name(self.part, self.layer)

    def overlaps(self, other: Buffer) -> bool:
        """Whether both are alive at some time."""
        return self.start <= other.end and other.start <= self.end


PHASES = 10


def buffers(geometry: Geometry, tiling: Tiling) -> list[Buffer]:
    """Every scratchpad buffer of a frame with its lifetime; layer n occupies phases n * PHASES + 2 onwards.

    LayerNorm follows the rows of the matrix product before it, so its output is alive while that still reads its input.
    Groups of heads go through phases 1 to 3 one after the other, blocks of tokens through 6 and 7, the last through 8.
    """
    model, g = geometry.model, geometry
    table = [Buffer(part="pixels", words=model.patches * g.patch_words, start=0, end=1)]
    heads, tokens = len(tiling.heads(g)[0]), len(tiling.tokens(g)[0])
    grouped, blocked = heads < model.heads, tokens < model.tokens
    normed = 0 if tiling.pixels_apart else 7 - PHASES

    def add(part: str, words: int, start: int, end: int) -> None:
        table.append(Buffer(part=part, layer=layer, words=words, start=first + start, end=first + end))

    layer: int | None
    for layer in range(model.layers):
        first = layer * PHASES + 2
        channels = heads * g.head_words * g.config.lanes
        add("norm1", model.tokens * g.dim_words, normed, 3 if grouped else 2)
        add("q", model.tokens * heads * g.head_words, 1, 3)
        add("k", model.tokens * heads * g.head_words, 1, 3)
        # The next group's weights come while this one's attention is computed.
        add("v_weights", channels * g.dim_words, *((1, 3) if grouped else (2, 2)))
        add("v", channels * g.token_words, 2, 3)
        add("attention", model.tokens * g.heads_words, 1 if grouped else 3, 4)
        normed = 7 - PHASES
        if layer in model.expert_layers:
            add("norm2", model.tokens * g.dim_words, 4, 7)
            add("norm2_wide", model.tokens * 2 * g.dim_words, 4, 6)
            add("expert_hidden", model.tokens * g.expert_words, 7, 7)
        elif blocked:
            add("norm2", model.tokens * g.dim_words, 4, 7)
            add("hidden", tokens * g.hidden_words, 6, 8)
            normed = 8 - PHASES
        else:
            add("norm2", model.tokens * g.dim_words, 4, 6)
            add("hidden", model.tokens * g.hidden_words, 6, 7)
    read = [len(g.head_tokens(task)) for task, entry in enumerate(model.tasks) if entry.kind != "features"]
    if read:
        first, layer = model.layers * PHASES + 2, None
        add("norm", max(read) * g.dim_words, 0, 1)
    return table


def alive(table: list[Buffer]) -> int:
    """Words that are alive at once at most: no allocation needs less."""
    change: dict[int, int] = {}
    for buffer in table:
        change[buffer.start] = change.get(buffer.start, 0) + buffer.words
        change[buffer.end + 1] = change.get(buffer.end + 1, 0) - buffer.words
    return max(accumulate(change[time] for time in sorted(change)))


def first_fit(order: list[Buffer]) -> dict[str, int]:
    """First word of each buffer: the lowest that is free during its whole life, in the order given."""
    placed: list[tuple[Buffer, int]] = []
    for buffer in order:
        busy = sorted((base, base + other.words) for other, base in placed if other.overlaps(buffer))
        base = 0
        for start, end in busy:
            if start - base >= buffer.words:
                break
            base = max(base, end)
        placed.append((buffer, base))
    return {buffer.name: base for buffer, base in placed}


@dataclass(frozen=True)
class Allocation:
    """Scratchpad addresses for one tiling.

    Parameters
    ----------
    tiling:
        How the frame is cut.
    buffers, bases:
        Each buffer and its first word, by name.
    """

    tiling: Tiling
    buffers: dict[str, Buffer]
    bases: dict[str, int]

    @classmethod
    def of(cls, table: list[Buffer], tiling: Tiling) -> Allocation:
        """The better of first fit by time and first fit by size."""
        by_time = sorted(table, key=lambda buffer: (buffer.start, -buffer.words))
        by_size = sorted(table, key=lambda buffer: (-buffer.words, buffer.start))
        named = {buffer.name: buffer for buffer in table}
        return min((cls(tiling, named, first_fit(order)) for order in (by_time, by_size)), key=lambda made: made.peak)

    @property
    def peak(self) -> int:
        """Scratchpad words in use at most."""
        return max(base + self.buffers[name].words for name, base in self.bases.items())


@dataclass(frozen=True)
class Plan:
    """Scratchpad addresses of a model on a configuration, and every reason why it would not fit."""

    geometry: Geometry

    @cached_property
    def allocation(self) -> Allocation:
        """For the tiling with the fewest cuts that fits, or the one with the most if none does."""
        room = self.geometry.config.scratchpad_words
        for tiling in tilings(self.geometry):
            table = buffers(self.geometry, tiling)
            if alive(table) <= room and (made := Allocation.of(table, tiling)).peak <= room:
                return made
        return Allocation.of(table, tiling)

    @property
    def tiling(self) -> Tiling:
        """What is on chip at once."""
        return self.allocation.tiling

    @property
    def buffers(self) -> dict[str, Buffer]:
        """Buffers by name."""
        return self.allocation.buffers

    @property
    def bases(self) -> dict[str, int]:
        """First word of every buffer."""
        return self.allocation.bases

    @property
    def peak(self) -> int:
        """Scratchpad words in use at most."""
        return self.allocation.peak

    def problems(self) -> list[str]:
        """One line for every limit that the model exceeds; empty if it fits."""
        g, model, config = self.geometry, self.geometry.model, self.geometry.config
        needs = [
            ("scratchpad_words", "scratchpad words", self.peak, config.scratchpad_words),
            ("residual_words", "residual stream in words", model.tokens * g.dim_words, config.residual_words),
            ("max_tokens", "tokens", model.tokens, config.max_tokens),
            ("bank_words / 4", "patch reduction in words", g.patch_words, config.weight_tile_words),
            ("bank_words / 4", "reduction over D in words", g.dim_words, config.weight_tile_words),
            ("bank_words / 4", "reduction over heads in words", g.heads_words, config.weight_tile_words),
            ("bank_words / 16", "held query in words", g.head_words, config.query_words),
            ("bank_words / 16", "held token in words (V)", g.dim_words, config.query_words),
            ("bank_words * 3 / 16", "held exponentials in words", g.token_words, config.exponential_words),
            ("parameter_entries", "parameter sets of D", g.dim_words * config.lanes, config.parameter_entries),
            ("parameter_entries", "parameter sets of Q", g.heads_words * config.lanes, config.parameter_entries),
            ("tasks", "tasks", len(model.tasks), 16),
        ]
        if set(range(model.layers)) - set(model.expert_layers):
            needs += [
                ("bank_words / 4", "hidden reduction in words", g.hidden_words, config.weight_tile_words),
                ("parameter_entries", "parameter sets of fc1", g.hidden_words * config.lanes, config.parameter_entries),
            ]
        if model.expert_layers:
            needs += [
                ("bank_words / 4", "gate reduction in words", 2 * g.dim_words, config.weight_tile_words),
                ("bank_words / 4", "expert reduction in words", g.expert_words, config.weight_tile_words),
                (
                    "parameter_entries",
                    "parameter sets of an expert",
                    g.expert_words * config.lanes,
                    config.parameter_entries,
                ),
                ("max_experts", "experts", model.experts, config.max_experts),
                ("max_top_k", "experts a token", model.top_k, config.max_top_k),
            ]
        for index, task in enumerate(model.tasks):
            width = g.output_words(index)
            if task.kind != "features":
                needs += [
                    (
                        "parameter_entries",
                        f"parameter sets of head '{task.name}'",
                        width * config.lanes,
                        config.parameter_entries,
                    ),
                    ("residual_words", f"a row of head '{task.name}' in words", width, config.residual_words),
                ]
        lines = [f"{what}: needs {need}, has {limit} ({field})" for field, what, need, limit in needs if need > limit]
        if model.patch & (model.patch - 1):
            lines.append(f"patch is {model.patch}; the image loader needs a power of two")
        if model.image_width % config.memory_bytes:
            lines.append(
                f"an image row has {model.image_width} bytes; it must be a multiple of the bus width "
                f"({config.memory_bytes} bytes)"
            )
        return lines

    def check(self) -> None:
        """Raise CapacityError if the model does not fit; it lists buffers and the nearest preset that would do."""
        problems = self.problems()
        if not problems:
            return
        g, config = self.geometry, self.geometry.config
        kinds = {(buffer.part, buffer.words) for buffer in self.buffers.values()}
        listing = [f"  {name}: {words} words" for name, words in sorted(kinds, key=lambda kind: (-kind[1], kind[0]))]
        cuts = f" {self.tiling.describe()}" if self.tiling != Tiling() else ""
        raise CapacityError(
            "\n".join(
                [
                    f"model '{g.model.name}' does not fit configuration '{config.name}':",
                    *(f"  {line}" for line in problems),
                    f"scratchpad buffers{cuts}, not all alive at once (words of {config.lanes} lanes):",
                    *listing,
                    self._way_out(),
                ]
            )
        )

    def _way_out(self) -> str:
        config = self.geometry.config
        size = config.elements * config.lanes
        candidates = sorted(PRESETS.values(), key=lambda preset: abs(preset.elements * preset.lanes - size))
        for candidate in candidates:
            sized = replace(candidate, numerics=config.numerics)
            if not Plan(Geometry(self.geometry.model, sized)).problems():
                return f"nearest preset that fits: '{candidate.name}'"
        return "no preset fits; enlarge the named fields of AcceleratorConfig, or choose a smaller model"
