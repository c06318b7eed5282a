"""Runs inside the simulator: Gelu for every argument."""

import cocotb
import numpy as np

from tessera.golden.integer.functions import gelu_activation
from tessera.hw.compute.gelu import Gelu
from tessera.hw.config import AcceleratorConfig
from tessera.sim.bench.streams import clock_and_reset, parameters, rng, write
from tests.helpers.replay import replay


@cocotb.test()
async def every_argument_is_exact(dut):
    """All 65,536 arguments in random order, for each multiplier and shift."""
    await clock_and_reset(dut)
    settings = parameters()
    numerics = AcceleratorConfig.from_dict(settings["config"]).numerics
    arguments = rng().permutation(np.arange(-32768, 32768))
    for multiplier, shift in settings["scales"]:
        write(dut.multiplier, multiplier)
        write(dut.shift, shift)
        seen = await replay(dut, {"argument": arguments}, ["value"], extra=Gelu.LATENCY)
        got, want = seen["value"][Gelu.LATENCY :], gelu_activation(arguments, multiplier, shift, numerics)
        wrong = np.flatnonzero(got != want)
        assert not len(wrong), (
            f"multiplier {multiplier} shift {shift} argument {arguments[wrong[0]]}: "
            f"{got[wrong[0]]}, not {want[wrong[0]]} ({len(wrong)} wrong)"
        )
