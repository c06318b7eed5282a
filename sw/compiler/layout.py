"""Padded sizes, scratchpad allocation by lifetime, and the checks that a model fits a configuration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from golden.config import ModelConfig
from hw.config import PRESETS, AcceleratorConfig


class CapacityError(ValueError):
    """The model does not fit the configuration's memories; the message lists sizes and the way out."""


@dataclass(frozen=True)
class Geometry:
    """Sizes of a model on a configuration, in words of T lanes and in tiles of P elements."""

    model: ModelConfig
    config: AcceleratorConfig

    def words(self, channels: int) -> int:
        """Words of a row of ``channels``."""
        return -(-channels // self.config.lanes)

    def tiles(self, rows: int) -> int:
        """Tiles of P rows."""
        return -(-rows // self.config.elements)

    @property
    def patch_words(self) -> int:
        """Words of a patch's pixels."""
        return self.words(self.model.patch_inputs)

    @property
    def dim_words(self) -> int:
        """Words of a token's D channels."""
        return self.words(self.model.dim)

    @property
    def head_words(self) -> int:
        """Words of one head's channels."""
        return self.words(self.model.head_dim)

    @property
    def heads_words(self) -> int:
        """Words of a row of Q, K or the attention output: every head starts at a word."""
        return self.model.heads * self.head_words

    @property
    def token_words(self) -> int:
        """Words of one channel of V transposed."""
        return self.words(self.model.tokens)

    @property
    def hidden_words(self) -> int:
        """Words of a row of the dense MLP's hidden layer."""
        return self.words(self.model.mlp_hidden)

    @property
    def expert_words(self) -> int:
        """Words of a row of an expert's hidden layer."""
        return self.words(self.model.expert_hidden)

    @property
    def gate_channels(self) -> int:
        """Experts padded to whole tiles."""
        return self.tiles(self.model.experts) * self.config.elements

    def output_words(self, task: int) -> int:
        """Words of a row of a task's result."""
        entry = self.model.tasks[task]
        return self.dim_words if entry.kind == "features" else self.words(entry.outputs)

    def head_rows(self, task: int) -> int:
        """Tokens of one pass of a head: as many of those it reads as the residual memory holds logits of."""
        read = self.model.head_tokens(task)
        return min(read.stop - read.start, self.config.residual_words // self.output_words(task))


@dataclass(frozen=True, kw_only=True)
class Buffer:
    """A scratchpad region that is alive from phase ``start`` to phase ``end``, both included."""

    name: str
    words: int
    start: int
    end: int

    def overlaps(self, other: Buffer) -> bool:
        """Whether both are alive at some time."""
        return self.start <= other.end and other.start <= self.end


PHASES = 10


def buffers(geometry: Geometry) -> list[Buffer]:
    """Every scratchpad buffer of a frame with its lifetime; layer n occupies phases n * PHASES + 2 onwards.

    LayerNorm follows the rows of the matrix product before it, so its output is alive while that still reads its input.
    """
    model, g = geometry.model, geometry
    table = [Buffer(name="pixels", words=model.patches * g.patch_words, start=0, end=1)]

    def add(name: str, words: int, start: int, end: int) -> None:
        table.append(Buffer(name=name, words=words, start=first + start, end=first + end))

    for layer in range(model.layers):
        first, prefix = layer * PHASES + 2, f"layer{layer:02d}"
        rows = model.tokens * g.heads_words
        add(f"{prefix}.norm1", model.tokens * g.dim_words, 7 - PHASES, 2)
        add(f"{prefix}.q", rows, 1, 3)
        add(f"{prefix}.k", rows, 1, 3)
        add(f"{prefix}.v_weights", g.heads_words * g.config.lanes * g.dim_words, 2, 2)
        add(f"{prefix}.v", g.heads_words * g.config.lanes * g.token_words, 2, 3)
        add(f"{prefix}.attention", rows, 3, 4)
        if layer in model.expert_layers:
            add(f"{prefix}.norm2", model.tokens * g.dim_words, 4, 7)
            add(f"{prefix}.norm2_wide", model.tokens * 2 * g.dim_words, 4, 6)
            add(f"{prefix}.expert_hidden", model.tokens * g.expert_words, 7, 7)
        else:
            add(f"{prefix}.norm2", model.tokens * g.dim_words, 4, 6)
            add(f"{prefix}.hidden", model.tokens * g.hidden_words, 6, 7)
    if any(task.kind != "features" for task in model.tasks):
        first = model.layers * PHASES + 2
        add("norm", model.patches * g.dim_words, 0, 1)
    return table


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
class Plan:
    """Scratchpad addresses of a model on a configuration, and every reason why it would not fit."""

    geometry: Geometry

    @cached_property
    def buffers(self) -> dict[str, Buffer]:
        """Buffers by name."""
        return {buffer.name: buffer for buffer in buffers(self.geometry)}

    @cached_property
    def bases(self) -> dict[str, int]:
        """First word of every buffer: the better of first fit by time and first fit by size."""
        table = list(self.buffers.values())
        by_time = sorted(table, key=lambda buffer: (buffer.start, -buffer.words))
        by_size = sorted(table, key=lambda buffer: (-buffer.words, buffer.start))
        return min((first_fit(by_time), first_fit(by_size)), key=self._peak)

    def _peak(self, bases: dict[str, int]) -> int:
        return max(base + self.buffers[name].words for name, base in bases.items())

    @property
    def peak(self) -> int:
        """Scratchpad words in use at most."""
        return self._peak(self.bases)

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
        kinds = {(buffer.name.rpartition(".")[2], buffer.words) for buffer in self.buffers.values()}
        listing = [f"  {name}: {words} words" for name, words in sorted(kinds, key=lambda kind: (-kind[1], kind[0]))]
        raise CapacityError(
            "\n".join(
                [
                    f"model '{g.model.name}' does not fit configuration '{config.name}':",
                    *(f"  {line}" for line in problems),
                    f"scratchpad buffers, not all alive at once (words of {config.lanes} lanes):",
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
