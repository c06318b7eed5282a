"""The units of the machine: one of each, those that sleep, and how a halt resets them."""

from __future__ import annotations

from collections.abc import Callable

from amaranth.hdl import Elaboratable, Module, ResetInserter, Signal, Value

from tessera.hw.blocks.sleep import extend_pulse, hand_over_when_awake, sleeping
from tessera.hw.bus.read_master import ReadMaster
from tessera.hw.compute.array import ComputeArray
from tessera.hw.compute.engine import ComputeEngine
from tessera.hw.compute.parameters import ParameterStore
from tessera.hw.compute.writeback import Writeback
from tessera.hw.config import AcceleratorConfig
from tessera.hw.gate.gate import Gate
from tessera.hw.image.loader import ImageLoader
from tessera.hw.interfaces.memory import MEMORY_LATENCY
from tessera.hw.layernorm.layernorm import LayerNorm
from tessera.hw.memory.residual import ResidualMemory
from tessera.hw.memory.scratchpad import Scratchpad
from tessera.hw.memory.store import StoreUnit
from tessera.hw.sequencer.sequencer import Sequencer
from tessera.hw.softmax.softmax import Softmax
from tessera.hw.stream.weight_stream import WeightStream


def _resettable(m: Module, name: str, clear: Value) -> Callable[[Elaboratable], Elaboratable]:
    """Return what turns a unit into one that ``clear`` resets, too."""
    return ResetInserter(clear)


class Units:
    """The units that a halt resets, by the names of their submodules.

    Parameters
    ----------
    config:
        Sizes of the machine.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.read_master = ReadMaster(config, clients=3)
        self.stream = WeightStream(config)
        self.image = ImageLoader(config)
        self.store = StoreUnit(config)
        self.scratchpad = Scratchpad(config)
        self.residual = ResidualMemory(config)
        self.engine = ComputeEngine(config)
        self.array = ComputeArray(config)
        self.parameters = ParameterStore(config)
        self.writeback = Writeback(config)
        self.softmax = Softmax(config)
        self.gate = Gate(config)
        self.layernorm = LayerNorm(config)
        self.sequencer = Sequencer(config)

    def place(self, m: Module, platform: object, clear: Value) -> None:
        """Make the units submodules that the registers reset as one, some of them asleep most of the time."""
        awake = self._awake(m)
        # It reaches every unit of the machine, so it comes from a register; nothing is under way when it does.
        cleared = Signal(name="clear")
        m.d.sync += cleared.eq(clear)
        resettable = getattr(platform, "resettable", _resettable)(m, "units", cleared)
        for name, unit in vars(self).items():
            held = sleeping(m, platform, name, unit, awake[name]) if name in awake else unit
            m.submodules[name] = resettable(held)

    def _awake(self, m: Module) -> dict[str, Value]:
        """Hand jobs over to the units that sleep; returns when each of them must not sleep.

        All of these conditions are registers, so that they reach every register of a unit within a cycle.
        """
        ports, softmax, layernorm = self.sequencer.units, self.softmax, self.layernorm
        working = {
            name: hand_over_when_awake(m, port.job, unit.job, unit.report.done, name=name)
            for name, port, unit in (
                ("image", ports.image, self.image),
                ("store", ports.store, self.store),
                ("layernorm", ports.layernorm, layernorm),
            )
        }
        asked = softmax.score_write.valid | softmax.score_read.enable
        scores = extend_pulse(m, asked, MEMORY_LATENCY, name="scores")
        tiles = hand_over_when_awake(m, self.engine.softmax, softmax.job, softmax.done, name="softmax")
        rows = working["layernorm"] | layernorm.shift_write.valid
        return {**working, "layernorm": rows, "softmax": tiles | scores}
