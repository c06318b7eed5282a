"""The place of everything on chip: the fewest cuts with which a network fits a machine, and why it does not."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tessera.golden.integer.plan import plan
from tessera.golden.network.network import Network
from tessera.hw.config import AcceleratorConfig
from tessera.hw.presets import PRESETS
from tessera.sw.compiler.allocation import Allocation, Buffer, alive, buffers
from tessera.sw.compiler.context import Context
from tessera.sw.compiler.cuts import Cuts, all_cuts
from tessera.sw.compiler.limits import exceeded, others
from tessera.sw.compiler.lowering import lower
from tessera.sw.compiler.operations import MachineOperation, Order
from tessera.sw.compiler.order import schedule
from tessera.sw.compiler.sizes import Sizes


class CapacityError(ValueError):
    """The model does not fit the configuration's memories; the message lists sizes and the way out."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A network's operations with the places of their regions.

    Parameters
    ----------
    context:
        What was lowered.
    orders:
        When each operation runs.
    tables:
        Regions with their lives, by memory.
    allocations:
        Their addresses, by memory.
    """

    context: Context
    orders: tuple[Order, ...]
    tables: dict[str, list[Buffer]]
    allocations: dict[str, Allocation]

    @property
    def operations(self) -> list[MachineOperation]:
        """What becomes a command, in order."""
        return self.context.operations

    @property
    def bases(self) -> dict[str, int]:
        """First word of every region."""
        return {name: base for made in self.allocations.values() for name, base in made.bases.items()}

    @property
    def peak(self) -> int:
        """Scratchpad words in use at most."""
        return self.allocations["scratchpad"].peak

    def problems(self) -> list[str]:
        """One line for every limit that the network exceeds; empty if it fits."""
        config, network = self.context.sizes.config, self.context.network
        lines = [
            f"{what}: needs {self.allocations[space].peak}, has {room} ({field})"
            for space, what, field, room in (
                ("scratchpad", "scratchpad words", "scratchpad_words", config.scratchpad_words),
                ("residual", "residual stream in words", "residual_words", config.residual_words),
            )
            if self.allocations[space].peak > room
        ]
        lines += [str(need) for need in exceeded(network, self.context.sizes)]
        return lines + others(network, self.context.sizes)

    def check(self) -> None:
        """Raise CapacityError if the model does not fit; it lists regions and the nearest preset that would do."""
        problems = self.problems()
        if not problems:
            return
        config, network = self.context.sizes.config, self.context.network
        kinds = {(buffer.region.name, buffer.words) for buffer in self.tables["scratchpad"]}
        by_size = sorted(kinds, key=lambda kind: (-kind[1], kind[0]))
        listing = [f"  {name}: {words} words" for name, words in by_size[:_LISTED]]
        if len(by_size) > _LISTED:
            listing.append(f"  and {len(by_size) - _LISTED} smaller ones")
        cuts = f" {self.context.cuts.describe()}" if self.context.cuts != Cuts() else ""
        raise CapacityError(
            "\n".join(
                [
                    f"model '{network.name}' does not fit configuration '{config.name}':",
                    *(f"  {line}" for line in problems),
                    f"scratchpad buffers{cuts}, not all in use at once (words of {config.lanes} lanes):",
                    *listing,
                    self._way_out(),
                ]
            )
        )

    def _way_out(self) -> str:
        config = self.context.sizes.config
        size = config.elements * config.lanes
        for candidate in sorted(PRESETS.values(), key=lambda preset: abs(preset.elements * preset.lanes - size)):
            sized = replace(candidate, numerics=config.numerics)
            if not fit(self.context.network, sized).problems():
                return f"nearest preset that fits: '{candidate.name}'"
        return "no preset fits; enlarge the named fields of AcceleratorConfig, or choose a smaller model"


_LISTED = 12
"""Regions that a message lists."""


def fit(network: Network, config: AcceleratorConfig) -> Fit:
    """A network on a machine: with the fewest cuts that fit, or, if none do, with those that need the least."""
    sizes = Sizes(plan(network), config)
    cuts = list(all_cuts(sizes.plan))
    best = _cut(network, sizes, cuts[0], None)
    assert best is not None
    if best.problems()[1:]:  # none fits, and many tokens can be cut in thousands of ways: how little it can need
        cuts = cuts[-1:]
    for one in cuts:
        if best.peak <= config.scratchpad_words:
            break
        made = _cut(network, sizes, one, best)
        best = made if made is not None and made.peak < best.peak else best
    return best


def _cut(network: Network, sizes: Sizes, cuts: Cuts, best: Fit | None) -> Fit | None:
    """A network with some cuts; None where it needs too much, and no less than the ``best`` so far."""
    context = Context(network=network, sizes=sizes, cuts=cuts)
    lower(context)
    orders, lives = schedule(context.operations, len(network.tasks))
    table = buffers(context.regions, lives)
    tables = {
        space: [buffer for buffer in table if buffer.region.space == space] for space in ("scratchpad", "residual")
    }
    least = alive(tables["scratchpad"])
    if best is not None and least > sizes.config.scratchpad_words and least >= best.peak:
        return None
    allocations = {space: Allocation.of(some) for space, some in tables.items()}
    return Fit(context=context, orders=tuple(orders), tables=tables, allocations=allocations)
