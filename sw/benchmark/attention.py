"""The claim of reordered attention (Edge-MoE, ICCAD 2023, section IV): broadcast traffic does not grow with P."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tessera.common.progress import Progress, silent
from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import CycleCause
from tessera.hw.presets import preset
from tessera.sim.machine.frames import Frame
from tessera.sim.machine.run import run_machine
from tessera.sw.compiler.compile import compile_model
from tessera.sw.data.pictures import scene_picture
from tessera.sw.run.prepare import prepare
from tessera.sw.run.profile import machine_simulator
from tessera.sw.run.target import Target

ELEMENTS = (2, 4, 8, 16)


def narrowed_edge(elements: int) -> AcceleratorConfig:
    """Preset ``edge`` with fewer elements, and with what depends on them."""
    return replace(
        preset("edge"),
        name=f"edge-p{elements}",
        elements=elements,
        memory_bytes=16,
        requantise_lanes=min(elements, 8),
        exponential_lanes=min(elements, 8),
    )


@dataclass(frozen=True, kw_only=True)
class AttentionTraffic:
    """Words that the broadcast side reads in all cycles of attention, with so many ``elements`` (held queries)."""

    elements: int
    words: int
    cycles: int
    words_per_cycle: float


def measure_attention(model: str = "nano", *, on_progress: Progress = silent) -> list[AttentionTraffic]:
    """Words that the broadcast side reads in a cycle of attention, for each P (simulated).

    Every beat of the array reads one word from the scratchpad's broadcast port, so words are cycles with a beat.
    """
    quantised = prepare(Target(model=model)).quantised
    entries = []
    for number, elements in enumerate(ELEMENTS):
        on_progress("attention", number / len(ELEMENTS), f"P = {elements}")
        config = narrowed_edge(elements)
        program = compile_model(quantised, config)
        frame = Frame(task=0, image=scene_picture(program.model).image)
        result = run_machine(program, [frame], simulator=machine_simulator(config))[0]
        owned = sum(result.causes[command.index] for command in program.commands if command.op == "ATTENTION")
        words, cycles = int(owned[CycleCause.BUSY]), int(owned.sum())
        entries.append(AttentionTraffic(elements=elements, words=words, cycles=cycles, words_per_cycle=words / cycles))
    on_progress("attention", 1.0, "")
    return entries
