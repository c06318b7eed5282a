"""NoAccelerator: a hole in the shape of the accelerator, so that what surrounds it is built in seconds."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring

from tessera.hw.accelerator import Accelerator
from tessera.hw.config import AcceleratorConfig


class NoAccelerator(wiring.Component):
    """Has the accelerator's members; never asks for anything, never answers."""

    def __init__(self, config: AcceleratorConfig) -> None:
        super().__init__(Accelerator(config).signature)

    def elaborate(self, platform: object) -> Module:
        """Nothing."""
        return Module()
