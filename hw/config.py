"""AcceleratorConfig: every size and width of the machine, derived values and validation."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from tessera.common.expected import expect, whole
from tessera.hw.formats import Numerics
from tessera.hw.isa import ADDRESS_WIDTH

_NAME = re.compile(r"[^\s.\-/\\:*?\"<>|\x00-\x1f\x7f][^/\\:*?\"<>|\x00-\x1f\x7f]*(?<!\s)")
"""Names that a file may have everywhere, and that are no option of a command."""


def _power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True, kw_only=True)
class AcceleratorConfig:
    """Sizes of one build.

    The geometry of a model is data in the commands, never a parameter here: one build runs every model that fits.

    Parameters
    ----------
    name:
        Preset name, stamped into reports. It becomes part of the names of files.
    elements, lanes:
        P processing elements of T lanes each: P x T MACs per cycle. Powers of two, 2 <= P <= T, T >= 4.
    memory_bytes:
        Width of the AXI data bus in bytes: a power of two, at most 4 T.
    numerics:
        Number formats.
    requantise_lanes:
        Accumulators requantised per cycle; divides P.
    exponential_lanes:
        Exponentials made per cycle; divides P.
    layernorm_lanes:
        Channels normalised per cycle; divides T.
    layernorm_row_buffer:
        Whether LayerNorm keeps rows in block RAM until they are normalised. Each residual word is then read once, and
        both passes of different rows run at once. The statistics get multipliers of their own, as many again.
    layernorm_channels:
        Channels of the longest padded row that LayerNorm takes. A power of two.
    max_tokens:
        Keys of an attention, and tokens of a gate: room in score buffer and token queues.
    max_experts:
        Experts of a layer: number of token queues. A power of two.
    max_top_k:
        Experts per token, 1 to 8.
    scratchpad_words:
        Words of T lanes in the scratchpad, which holds activations.
    residual_words:
        Words of T lanes in the residual memory, which holds the residual stream or logits.
    bank_words:
        Words of T lanes in each element's stationary bank. The lower half holds two weight tiles, the upper half two
        attention tiles.
    parameter_entries:
        Requantiser parameter sets held at once; an output channel takes one.
    stream_beats:
        Depth of the weight stream's buffer in bus beats: how far it prefetches.
    max_commands:
        Commands of a program that get a time stamp of their own.

    Raises
    ------
    ValueError
        A size is no whole number of at least 1, the name cannot be a file's, or the combination is impossible; the
        message gives the value, the rule and the way out.
    """

    name: str
    elements: int
    lanes: int
    memory_bytes: int
    numerics: Numerics = field(default_factory=Numerics)
    requantise_lanes: int = 2
    exponential_lanes: int = 2
    layernorm_lanes: int = 4
    layernorm_row_buffer: bool = False
    layernorm_channels: int = 1024
    max_tokens: int = 256
    max_experts: int = 16
    max_top_k: int = 4
    scratchpad_words: int = 16384
    residual_words: int = 4096
    bank_words: int = 512
    parameter_entries: int = 1024
    stream_beats: int = 512
    max_commands: int = 512

    def __post_init__(self) -> None:
        self._check_kinds()
        p, t, b = self.elements, self.lanes, self.memory_bytes
        # Powers of two make an address out of bits of a count, where any other size would need a division.
        rules = (
            (_power_of_two(p) and p >= 2, f"elements is {p}; choose a power of two of at least 2"),
            (_power_of_two(t) and t >= 4, f"lanes is {t}; choose a power of two of at least 4"),
            (p <= t, f"elements {p} exceeds lanes {t}; an output word of T lanes is written P lanes at a time"),
            (
                _power_of_two(b) and b <= 4 * t,
                f"memory_bytes is {b}; choose a power of two of at most 4 x lanes ({4 * t})",
            ),
            (p % self.requantise_lanes == 0, f"requantise_lanes {self.requantise_lanes} does not divide elements {p}"),
            (
                p % self.exponential_lanes == 0,
                f"exponential_lanes {self.exponential_lanes} does not divide elements {p}",
            ),
            (t % self.layernorm_lanes == 0, f"layernorm_lanes {self.layernorm_lanes} does not divide lanes {t}"),
            (
                p % self.words_per_chunk == 0,
                f"memory_bytes {b} fills {self.words_per_chunk} banks at once, more than elements {p}",
            ),
            (
                self.requantise_lanes % self.entries_per_chunk == 0,
                f"requantise_lanes {self.requantise_lanes} is no multiple of a chunk's {self.entries_per_chunk} sets",
            ),
            (
                _power_of_two(self.bank_words) and self.bank_words >= 64,
                f"bank_words is {self.bank_words}; choose a power of two of at least 64",
            ),
            (
                _power_of_two(self.parameter_entries),
                f"parameter_entries is {self.parameter_entries}; choose a power of two",
            ),
            (
                _power_of_two(self.layernorm_channels) and self.layernorm_channels >= max(t, b),
                f"layernorm_channels is {self.layernorm_channels}; choose a power of two of at least {max(t, b)}",
            ),
            (_power_of_two(self.stream_beats), f"stream_beats is {self.stream_beats}; choose a power of two"),
            (_power_of_two(self.max_tokens), f"max_tokens is {self.max_tokens}; choose a power of two"),
            (_power_of_two(self.max_experts), f"max_experts is {self.max_experts}; choose a power of two"),
            (1 <= self.max_top_k <= 8, f"max_top_k is {self.max_top_k}; choose 1 to 8"),
            (
                self.scratchpad_words <= 1 << ADDRESS_WIDTH,
                f"scratchpad_words is {self.scratchpad_words}; addresses have {ADDRESS_WIDTH} bits",
            ),
            (
                self.residual_words <= 1 << ADDRESS_WIDTH,
                f"residual_words is {self.residual_words}; addresses have {ADDRESS_WIDTH} bits",
            ),
        )
        for holds, message in rules:
            if not holds:
                raise ValueError(message)

    def _check_kinds(self) -> None:
        expect("name", self.name, str, "a text")
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"name is {self.name!r}, which becomes part of the names of files; choose one such as 'mine-16': "
                'without / \\ : * ? " < > |, control characters, and a dot, dash or space at the beginning'
            )
        expect("numerics", self.numerics, Numerics, "a Numerics, such as Numerics(activation_width=12)")
        expect("layernorm_row_buffer", self.layernorm_row_buffer, bool, "True or False")
        for name in (one.name for one in fields(self)):
            if name not in ("name", "numerics", "layernorm_row_buffer"):
                object.__setattr__(self, name, whole(name, getattr(self, name), 1))

    # Weight stream ---------------------------------------------------------------------------------------------------

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk of the weight stream, the largest of a bus beat, T bytes and a parameter set."""
        # A chunk is whole beats, whole words and whole parameter sets, so that none of them is ever split.
        return max(self.memory_bytes, self.lanes, 8)

    @property
    def words_per_chunk(self) -> int:
        """Words of T byte-wide weights in a chunk (G); as many banks are written at once."""
        return self.chunk_bytes // self.lanes

    @property
    def entries_per_chunk(self) -> int:
        """Parameter sets (8 bytes each) in a chunk."""
        return self.chunk_bytes // 8

    # Words and columns -----------------------------------------------------------------------------------------------

    @property
    def columns(self) -> int:
        """Columns of P lanes in a word (T / P); each is written on its own."""
        return self.lanes // self.elements

    @property
    def score_words(self) -> int:
        """Score buffer words of P scores, for two tiles of max_tokens or for the gate logits of every token."""
        # Two tiles, because one is filled while softmax drains the other.
        return self.max_tokens * max(2, self.max_experts // self.elements)

    @property
    def list_entries(self) -> int:
        """Entries of all token queues, which lists of rows share with them."""
        return self.max_experts * self.max_tokens

    # Stationary bank regions -----------------------------------------------------------------------------------------

    @property
    def weight_tile_words(self) -> int:
        """Largest reduction of a streamed tile, in words; weight buffer b starts at ``b * weight_tile_words``."""
        return self.bank_words // 4

    def attention_buffer(self, buffer: int) -> int:
        """First bank word of attention buffer 0 or 1, of held queries (or tokens when roles are swapped)."""
        return self.bank_words // 2 + buffer * (self.bank_words // 4)

    @property
    def query_words(self) -> int:
        """Room for held queries at the start of an attention buffer; the exponentials follow."""
        return self.bank_words // 16

    @property
    def exponential_words(self) -> int:
        """Room for held exponentials in an attention buffer."""
        return self.bank_words // 4 - self.query_words

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-compatible form."""
        data = asdict(self)
        data["numerics"] = {
            "activation_width": self.numerics.activation_width,
            "residual_width": self.numerics.residual_width,
        }
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> AcceleratorConfig:
        """Build from the plain form that :meth:`to_dict` returns."""
        return cls(**{**data, "numerics": Numerics(**data["numerics"])})

    def with_activation_width(self, width: int) -> AcceleratorConfig:
        """The same sizes with another activation width (8, 12 or 16 bits) and a residual stream to match."""
        # The step of the residual stream shrinks with that of the activations; ``Numerics`` refuses any other width.
        width = whole("activation_width", width)
        residual = {8: 18, 12: 20, 16: 22}.get(width, 18)
        return replace(self, numerics=Numerics(activation_width=width, residual_width=residual))
