"""Every limit of a machine that a network exceeds, whatever its memory allocation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tessera.golden.integer.steps import AttentionStep, ExpertsStep, NormStep, ProductStep, Step
from tessera.golden.network.network import Network
from tessera.hw.isa import TASK_INDEX_WIDTH
from tessera.sw.compiler.convolutions import MOST_POSITIONS, MOST_TILES, MOST_WORDS, Windows
from tessera.sw.compiler.sizes import Sizes


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a network needs of one resource.

    Parameters
    ----------
    field:
        Where the machine says how much it has.
    what:
        What it is needed for.
    need, has:
        How much.
    """

    field: str
    what: str
    need: int
    has: int

    def __str__(self) -> str:
        return f"{self.what}: needs {self.need}, has {self.has} ({self.field})"


def exceeded(network: Network, sizes: Sizes) -> list[Need]:
    """Needs that are more than the machine has: of each resource and step the largest of a kind."""
    worst: dict[tuple[str, str], Need] = {}
    for need in _needs(network, sizes):
        key = (need.field, need.what)
        if need.need > need.has and (key not in worst or worst[key].need < need.need):
            worst[key] = need
    return list(worst.values())


def others(network: Network, sizes: Sizes) -> list[str]:
    """Lines about what no larger machine would mend."""
    lines = []
    for one in sizes.plan.steps:
        split = isinstance(one, NormStep) and one.source.split > 1
        if split and one.channels % sizes.config.lanes:
            lines.append(f"{one.name} is of parts of {one.channels} channels, which are no whole words of T lanes")
        elif not isinstance(one, ProductStep) and not split and any(not rows.plain for rows in one.reads):
            lines.append(f"{one.name} reads rows in an order of its own; only products do")
    for name in sorted({rows.tensor for rows in sizes.copied(sizes.plan.steps) if sizes.unsigned(rows.tensor)}):
        lines.append(f"rows of {name} are needed one after another in another order; only signed ones can be copied")
    for product in sizes.plan.of_kind(ProductStep):
        padded = product.source.fold > 1 and not sizes.whole_words(product.source.tensor)
        if product.inputs is not None and (product.inputs[0] % sizes.config.lanes or padded):
            lines.append(f"{product.name} goes in parts of its inputs, which begin within a word of T lanes")
    if network.image_width % sizes.config.memory_bytes:
        lines.append(
            f"an image row has {network.image_width} bytes; it must be a multiple of the bus width "
            f"({sizes.config.memory_bytes} bytes)"
        )
    return lines


def _needs(network: Network, sizes: Sizes) -> Iterator[Need]:
    yield Need(field="tasks", what="tasks", need=len(network.tasks), has=1 << TASK_INDEX_WIDTH)
    for step in sizes.plan.steps:
        match step:
            case ProductStep():
                yield from _product(step, sizes)
            case NormStep():
                yield from _norm(step, sizes)
            case AttentionStep():
                yield from _attention(step, sizes)
            case ExpertsStep():
                yield from _experts(step, sizes)


def _reduction(sizes: Sizes, what: str, words: int) -> Need:
    config = sizes.config
    return Need(field="bank_words / 4", what=f"reduction of {what} in words", need=words, has=config.weight_tile_words)


def _parameters(sizes: Sizes, what: str, channels: int) -> Need:
    has = sizes.config.parameter_entries
    return Need(field="parameter_entries", what=f"parameter sets of {what}", need=channels, has=has)


def _kind(step: Step) -> str:
    """What a step is called where every layer has one like it: its part."""
    return step.part


def _product(step: ProductStep, sizes: Sizes) -> Iterator[Need]:
    if step.taps is not None:
        yield from _convolution(step, sizes)
        return
    whole = sizes.row_words(step.source.tensor) * (1 if sizes.parts_are_rows(step) else step.source.fold)
    yield _reduction(sizes, _kind(step), whole if step.inputs is None else sizes.words(step.inputs[1] - step.inputs[0]))
    if step.swapped:
        yield _reduction(sizes, f"{_kind(step)}, whose tokens are held,", whole)


def _convolution(step: ProductStep, sizes: Sizes) -> Iterator[Need]:
    windows = Windows.of(step, sizes)
    yield _reduction(sizes, _kind(step), windows.words)
    yield _parameters(sizes, _kind(step), sizes.row_words(step.name) * sizes.config.lanes)
    for what, need, has in (
        ("tiles of a group", windows.tiles, MOST_TILES),
        ("words of a position", windows.stride, MOST_WORDS),
        ("lines or columns of the map", max(*windows.taps.size, windows.taps.made[1]), MOST_POSITIONS),
    ):
        yield Need(field="command CONVOLUTION", what=f"{what} of {_kind(step)}", need=need, has=has)


def _norm(step: NormStep, sizes: Sizes) -> Iterator[Need]:
    need, has = sizes.channels(step.channels), sizes.config.layernorm_channels
    yield Need(field="layernorm_channels", what=f"channels of {_kind(step)}", need=need, has=has)


def _attention(step: AttentionStep, sizes: Sizes) -> Iterator[Need]:
    config, plan = sizes.config, sizes.plan
    head_words = sizes.words(plan.by_name[step.key.tensor].channels // step.heads)
    keys = len(step.key) // step.windows
    yield Need(field="max_tokens", what="keys", need=keys, has=config.max_tokens)
    yield Need(field="windows", what="windows", need=step.windows, has=255)
    yield Need(field="bank_words / 16", what="held query in words", need=head_words, has=config.query_words)
    for part in (step.query, step.key, step.value):
        yield _parameters(sizes, "queries, keys or values", sizes.row_words(part.tensor) * config.lanes)
    yield Need(
        field="bank_words * 3 / 16",
        what="held exponentials in words",
        need=sizes.words(keys),
        has=config.exponential_words,
    )


def _experts(step: ExpertsStep, sizes: Sizes) -> Iterator[Need]:
    config, lanes = sizes.config, sizes.config.lanes
    words, hidden = sizes.words(step.channels), sizes.words(step.hidden)
    yield _reduction(sizes, "a gate", 2 * words)
    yield _reduction(sizes, "an expert's first matrix", words)
    yield _reduction(sizes, "an expert's second matrix", hidden)
    yield _parameters(sizes, "an expert", max(hidden, words) * lanes)
    yield Need(field="max_experts", what="experts", need=step.experts, has=config.max_experts)
    yield Need(field="max_top_k", what="experts a token", need=step.top_k, has=config.max_top_k)
    yield Need(field="max_tokens", what="tokens of a mixture", need=len(step.source), has=config.max_tokens)
